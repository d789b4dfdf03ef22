//! `skn-fetch`: see [`skn_fetch`].

fn main() -> std::process::ExitCode {
    skn_fetch::program()
}
