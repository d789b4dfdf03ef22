//! `skn-tasks`: see [`skn::stage::tasks`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::tasks::Tasks>()
}
