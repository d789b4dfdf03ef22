//! `skn-train`: see [`skn::stage::train`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::train::Train>()
}
