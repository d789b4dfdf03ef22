//! `skn-report`: see [`skn::stage::report`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::report::Report>()
}
