//! `skn-verify`: see [`skn::stage::verify`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::verify::Verify>()
}
