//! What `--version -v` says: how the program was built, and what processor it is on. For reports of bugs.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::cli::refuse;
use crate::console::print;

/// Ends the program as [`refuse`]; where it was asked for its version and also to say more (`--version -v`), it says more.
/// `computes` is what only the program knows, a name and what it is.
pub fn refuse_or_tell(
    program: &str,
    error: &clap::Error,
    line: &[OsString],
    computes: &[(&str, String)],
) -> ExitCode {
    if error.kind() != ErrorKind::DisplayVersion || !line.iter().skip(1).any(asks_for_more) {
        return refuse(program, error);
    }
    let mut said = error.to_string().trim_end().to_owned();
    for (name, what) in about().iter().chain(computes) {
        said += &format!("\n{name}: {what}");
    }
    match print(&said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `-v`, `-vv`, `-Vv`, `--verbose`.
fn asks_for_more(word: impl AsRef<OsStr>) -> bool {
    let Some(word) = word.as_ref().to_str() else { return false };
    let short = |word: &str| word.contains('v') && word.chars().all(|letter| matches!(letter, 'v' | 'V'));
    word == "--verbose" || word.strip_prefix('-').is_some_and(short)
}

/// How every program was built, and where it runs.
fn about() -> Vec<(&'static str, String)> {
    let c_library = if cfg!(target_feature = "crt-static") { ", C library linked in" } else { "" };
    let assertions = if cfg!(debug_assertions) { ", with debug assertions" } else { "" };
    let threads =
        std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |threads| threads.to_string());
    vec![
        ("commit", option_env!("SKN_COMMIT").unwrap_or("unknown").to_owned()),
        ("target", format!("{}{c_library}", env!("SKN_TARGET"))),
        ("build", format!("{}{assertions}", env!("SKN_BUILD"))),
        ("compiler", env!("SKN_COMPILER").to_owned()),
        ("processors", threads),
        ("instructions", instructions()),
    ]
}

/// Those extensions of the processor that matter for speed and for the last bits of results.
#[cfg(target_arch = "x86_64")]
fn instructions() -> String {
    macro_rules! found {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all = found!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512bf16",
        "avx512fp16"
    );
    listed(&all)
}

/// Those extensions of the processor that matter for speed and for the last bits of results.
#[cfg(target_arch = "aarch64")]
fn instructions() -> String {
    macro_rules! found {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    listed(&found!("neon", "fp16", "dotprod", "bf16", "i8mm", "sve"))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions() -> String {
    format!("those of every {}", std::env::consts::ARCH)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn listed(all: &[(&str, bool)]) -> String {
    let names: Vec<&str> = all.iter().filter(|(_, found)| *found).map(|(name, _)| *name).collect();
    if names.is_empty() { "none beyond the architecture's".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_by_v_in_any_form() {
        assert!(["-v", "-vv", "-Vv", "--verbose"].into_iter().all(asks_for_more));
        assert!(!["-V", "--version", "v", "-p", "-vx", "-"].into_iter().any(asks_for_more));
    }
}
