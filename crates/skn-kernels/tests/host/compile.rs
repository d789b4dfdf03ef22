//! The program that plays the kernels of GPUs, compiled when a test first needs it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs, process};

/// Has every operation computed by the kernels of GPUs, played by the host. Where there is no C++ compiler it says so, and the
/// processor computes.
pub(crate) fn play() {
    static PLAYS: OnceLock<()> = OnceLock::new();
    PLAYS.get_or_init(|| {
        if let Some(program) = program() {
            skn_kernels::play_on_host(program).unwrap();
        }
    });
}

/// The program. Where there is no C++ compiler it says so, and gives nothing.
#[allow(clippy::print_stderr, reason = "who runs the tests is told what they left out")]
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = PROGRAM.get_or_init(|| {
        let compiler = compiler();
        if compiler.is_none() {
            eprintln!("no C++ compiler (CXX, c++, g++, clang++): the kernels of GPUs are not played");
        }
        compiler.map(|compiler| compiled(&compiler))
    });
    made.as_deref()
}

fn compiler() -> Option<String> {
    let runs =
        |name: &String| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success());
    let usual = ["c++", "g++", "clang++"].map(String::from);
    env::var("CXX").ok().into_iter().chain(usual).find(runs)
}

/// Whether the processor rounds a product and a sum once.
fn has_fused_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The program's path. Its name has a hash of all that it is made of, so that another test need not compile it again.
fn compiled(compiler: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../skn-kernels");
    let (host, kernels) = (here.join("tests/host"), here.join("src/cuda/kernels"));
    let flags = env::var("CXXFLAGS").unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    let fused: &[&str] = if has_fused_products() { &["-DSKN_FMA"] } else { &[] };
    (compiler, &flags, fused).hash(&mut hasher);
    let mut files: Vec<PathBuf> = [&host, &kernels]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|ending| ending != "rs"))
        .collect();
    files.sort();
    files.iter().for_each(|path| fs::read(path).unwrap().hash(&mut hasher));
    let name = format!("player-{:016x}", hasher.finish());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    if !program.exists() {
        // Another test may compile it too: each moves its own to the name, whole.
        let own = program.with_file_name(format!("{name}.{}", process::id()));
        let run = Command::new(compiler)
            .args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"])
            .args(fused)
            .args(flags.split_whitespace())
            .arg("-I")
            .arg(&kernels)
            .arg(host.join("player.cpp"))
            .arg("-o")
            .arg(&own)
            .output()
            .unwrap();
        assert!(run.status.success(), "{compiler}:\n{}", String::from_utf8_lossy(&run.stderr));
        fs::rename(own, &program).unwrap();
    }
    program
}
