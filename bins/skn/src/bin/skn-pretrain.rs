//! `skn-pretrain`: see [`skn::stage::pretrain`].

fn main() -> std::process::ExitCode {
    skn::program::<skn::stage::pretrain::Pretrain>()
}
