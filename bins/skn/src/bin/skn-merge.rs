//! `skn-merge`: see [`skn::stage::merge`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::merge::Merge>()
}
