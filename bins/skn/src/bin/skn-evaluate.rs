//! `skn-evaluate`: see [`skn::stage::mask`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::evaluate::Evaluate>()
}
