//! `skn-binarize`: see [`skn::stage::binarize`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::binarize::Binarize>()
}
