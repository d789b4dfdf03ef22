//! `skn-select`: see [`skn::stage::select`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::select::Select>()
}
