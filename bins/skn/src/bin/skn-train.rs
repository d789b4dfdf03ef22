//! `skn-train`: see [`skn::stage::train`], and for `--list-tasks` [`skn::stage::tasks`].

use std::env::args_os;

fn main() -> std::process::ExitCode {
    // A list needs none of the flags that training can't do without.
    let is_list = |word: &std::ffi::OsString| word == "--list-tasks" || word == "--list_tasks";
    if args_os().any(|word| is_list(&word)) {
        return skn::program_of::<skn::stage::tasks::Tasks>(args_os().filter(|word| !is_list(word)));
    }
    skn::program::<skn::stage::train::Train>()
}
