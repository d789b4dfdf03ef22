//! What `--version -v` says of how a program was built.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| var(name).unwrap_or_default();
    println!("cargo::rustc-env=SKN_TARGET={}", of("TARGET"));
    println!("cargo::rustc-env=SKN_BUILD={}, opt-level {}", of("PROFILE"), of("OPT_LEVEL"));
    let said =
        Command::new(of("RUSTC")).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
    let compiler = String::from_utf8_lossy(&said);
    println!("cargo::rustc-env=SKN_COMPILER={}", compiler.trim());
}
