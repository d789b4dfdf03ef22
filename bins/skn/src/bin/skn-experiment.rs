//! `skn-experiment`: see [`skn::stage::experiment`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::experiment::Experiment>()
}
