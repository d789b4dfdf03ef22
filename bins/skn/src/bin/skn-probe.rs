//! `skn-probe`: see [`skn::stage::probe`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::probe::Probe>()
}
