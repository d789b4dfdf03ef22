//! `skn-prune`: see [`skn::stage::prune`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::prune::Prune>()
}
