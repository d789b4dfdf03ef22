//! `skn-train`: see [`skn::stage::train`], and for `--list-tasks` [`skn::stage::tasks`].

fn main() -> std::process::ExitCode {
    // A list needs none of the flags that training can't do without.
    if std::env::args_os().any(|word| word == "--list-tasks") {
        return skn::program::<skn::stage::tasks::Tasks>();
    }
    skn::program::<skn::stage::train::Train>()
}
