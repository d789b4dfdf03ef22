//! `skn-run`: see [`skn::stage::run`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::run::Run>()
}
