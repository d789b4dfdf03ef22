//! `skn-predict`: see [`skn::stage::predict`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::predict::Predict>()
}
