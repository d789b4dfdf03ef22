//! The scripts for CUDA, where there is none: `cuda-toolchain.sh` with a pip that installs small wheels, how they are joined, the stub
//! of the driver, what is refused; `cuda-kernels.sh` with an nvcc that only talks; `gpu-check.sh run` with programs that do.
//! CONTRIBUTING.md says how to try them with NVIDIA's own.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder to install into, and one of programs that are found first.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("bin")).unwrap();
        desk.program("python3", PIP);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The script of the toolkit, with a folder or without.
    fn call(&self, arguments: &[&str]) -> Command {
        self.script("cuda-toolchain.sh", arguments)
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("CUDA_COMPUTE_CAP", "86")
            .env_remove("CUDA_HOME")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("PYTHON")
            .env_remove("CXX");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.call(arguments).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], says: &[&str]) {
        refused(&self.run(arguments), says);
    }

    /// How often pip was asked to install.
    fn installed(&self) -> usize {
        fs::read_to_string(self.path("installed")).map_or(0, |text| text.lines().count())
    }
}

#[track_caller]
fn refused(output: &Output, says: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}", output.status);
    for word in says {
        assert!(said.contains(word), "{said}: no {word}");
    }
}

/// A python3 whose pip makes the tree of the wheels: an nvcc that knows what it is called with, a cuda.h of so many functions that
/// one of them has another name behind the preprocessor.
const PIP: &str = r#"#!/usr/bin/env bash
[ "$*" != "-m pip --version" ] || exit 0
while [ $# != 0 ]; do
    case $1 in
    --target) site=$2 ;;
    -r) [ "$(grep -cE '^nvidia-[a-z-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}$' "$2")" = 8 ] || exit 7 ;;
    esac
    shift
done
[ -d "$TMPDIR" ] || exit 8
tree=$site/nvidia/cu13
mkdir -p "$tree/bin" "$tree/include" "$tree/lib" "$tree/nvvm/bin" "$site/nvidia_cublas-1.dist-info"
echo license >"$site/nvidia_cublas-1.dist-info/LICENSE"
printf '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"\n' >"$tree/bin/nvcc"
chmod +x "$tree/bin/nvcc"
touch "$tree/lib/libcublas.so.13" "$tree/lib/libnvrtc-builtins.so.13.0" "$tree/lib/libcudadevrt.a" "$tree/nvvm/bin/cicc"
{
    echo '#define cuMemAlloc cuMemAlloc_v2'
    echo 'typedef int CUresult; typedef enum { CUDA_SUCCESS } cuSomething;'
    echo 'CUresult cuInit(unsigned int Flags);'
    echo 'CUresult cuMemAlloc(void **place, unsigned long bytes);'
    echo 'CUresult cuGetErrorName(CUresult error, const char **text);'
    echo 'CUresult cuGetErrorString(CUresult error, const char **text);'
    for number in $(seq 400); do echo "CUresult cuOther$number(void);"; done
} >"$tree/include/cuda.h"
echo once >>"$(dirname "$0")/../installed"
"#;

#[test]
fn wheels_become_a_toolkit() {
    let desk = Desk::new();
    let home = desk.path("a folder");
    let said = desk.ok(&["a folder"]);
    assert_eq!(said, fs::read_to_string(home.join("env")).unwrap());
    let place = home.canonicalize().unwrap().display().to_string();
    for line in [
        format!("export CUDA_HOME='{place}'"),
        "export CUDA_COMPUTE_CAP='86'".to_owned(),
        format!("export PATH='{place}/bin'\"${{PATH:+:$PATH}}\""),
        format!(
            "export LIBRARY_PATH='{place}/lib64:{place}/lib64/stubs'\"${{LIBRARY_PATH:+:$LIBRARY_PATH}}\""
        ),
        format!("export LD_LIBRARY_PATH='{place}/lib64'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\""),
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    for file in ["bin/nvcc", "nvvm/bin/cicc", "include/cuda.h", "wheels/nvidia_cublas-1.dist-info/LICENSE"] {
        assert!(home.join(file).is_file(), "{file}");
    }
    for (name, target) in
        [("libcublas.so", "libcublas.so.13"), ("libnvrtc-builtins.so", "libnvrtc-builtins.so.13.0")]
    {
        assert_eq!(fs::read_link(home.join("lib64").join(name)).unwrap(), Path::new(target));
    }
    // It was tried, with the compiler that Rust links with too.
    let asked = fs::read_to_string(home.join("bin/asked")).unwrap();
    assert!(asked.contains("-lcuda -lcublas -lcublasLt -lcurand -lnvrtc"), "{asked}");
    assert!(!home.join(".partial").exists());

    // What is there is used again; the card may be another one.
    let again = desk.call(&["a folder"]).env("CUDA_COMPUTE_CAP", "90").output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), said.replace("'86'", "'90'"));
    assert_eq!(desk.installed(), 1);
    // What another script made is made anew.
    fs::write(home.join(".made-by-cuda-toolchain"), "an older one").unwrap();
    fs::write(home.join("lib/of an older one"), "").unwrap();
    desk.ok(&["a folder"]);
    assert!(desk.installed() == 2 && !home.join("lib/of an older one").exists());
}

/// A program that is linked with the stub starts on it, and is told that there is no device. It names the driver's library, and has
/// no path to the stub.
#[test]
fn the_stub_is_for_the_linker_and_says_that_there_is_no_device() {
    let desk = Desk::new();
    desk.ok(&["cuda"]);
    let source = r#"
extern "C" { int cuInit(unsigned); int cuMemAlloc_v2(void **, unsigned long); int cuProfilerStart(void);
             int cuGetErrorName(int, const char **); int cuGetErrorString(int, const char **); }
#include <cstdio>
int main() {
    const char *name, *text;
    int code = cuInit(0);
    if (cuGetErrorName(code, &name) || cuGetErrorString(code, &text)) return 1;
    std::printf("%d %d %d %s: %s", code, cuMemAlloc_v2(nullptr, 1), cuProfilerStart(), name, text);
}"#;
    fs::write(desk.path("program.cc"), source).unwrap();
    let environment = ". cuda/env && c++ program.cc -o program -lcuda";
    let built =
        Command::new("bash").args(["-c", environment]).current_dir(desk.folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let bytes = fs::read(desk.path("program")).unwrap();
    let holds = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(holds("libcuda.so.1\0") && !holds("stubs"), "its name is the driver's");

    let start = |folder: &str| {
        let path = desk.path(folder);
        Command::new(desk.path("program")).env("LD_LIBRARY_PATH", path).output().unwrap()
    };
    let output = start("cuda/without-driver");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("100 100 100 CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"),
        "{said}"
    );
    // A folder called lib64 is on everybody's path: the stub is not in it, so a driver's is found.
    assert!(
        fs::read_dir(desk.path("cuda/lib64"))
            .unwrap()
            .all(|file| file.unwrap().file_name() != "libcuda.so.1")
    );
    assert!(!desk.path("cuda/lib64/stubs/libcuda.so.1").exists());
}

#[test]
fn what_is_wrong_is_named() {
    let desk = Desk::new();
    desk.fails(&[], &["expected one folder"]);
    desk.fails(&["a", "b"], &["expected one folder"]);
    desk.fails(&["a:b"], &["no colon"]);
    fs::create_dir(desk.path("mine")).unwrap();
    fs::write(desk.path("mine/letter"), "dear").unwrap();
    desk.fails(&["mine"], &["expected an empty folder", "mine/letter"]);
    assert_eq!(fs::read_to_string(desk.path("mine/letter")).unwrap(), "dear");
    desk.fails(&["mine/letter"], &["can't be made"]);
    let output = desk.call(&["new"]).env("CXX", "no-such-compiler").output().unwrap();
    refused(&output, &["no-such-compiler: no C++ compiler"]);
    let output = desk.call(&["new"]).env("PYTHON", "no-such-python").output().unwrap();
    refused(&output, &["no-such-python: no Python"]);
    desk.program("python3", "#!/bin/sh\nexit 1\n");
    desk.fails(&["new"], &["python3 has no pip", "apt-get install python3-pip"]);
    desk.program("uname", "#!/bin/sh\necho Darwin arm64\n");
    desk.fails(&["new"], &["expected Linux x86_64, found Darwin arm64"]);
}

/// After whatever went wrong the same command does it, and nothing half-made passes for whole.
#[test]
fn what_failed_is_done_by_the_next_call() {
    let desk = Desk::new();
    desk.program(
        "python3",
        "#!/bin/sh\n[ \"$*\" != '-m pip --version' ] || exit 0\necho no network >&2\nexit 1\n",
    );
    desk.fails(&["cuda"], &["no network", "PIP_FIND_LINKS"]);
    let without_include = PIP.replace("seq 400", "seq 3");
    desk.program("python3", &without_include);
    desk.fails(&["cuda"], &["expected over 400 functions"]);
    desk.program("python3", &PIP.replace(r#"echo "$@" >>"$(dirname "$0")/asked""#, "echo too new; exit 1"));
    desk.fails(&["cuda"], &["too new", "nvcc can't compile here"]);
    assert!(!desk.path("cuda/env").exists() && !desk.path("cuda/bin").exists());
    desk.program("python3", PIP);
    desk.ok(&["cuda"]);
    // Through a link, as somebody may have one to a larger disk.
    fs::create_dir(desk.path("large")).unwrap();
    symlink(desk.path("large"), desk.path("linked")).unwrap();
    desk.ok(&["linked"]);
    assert!(desk.path("large/bin/nvcc").is_file());
}

/// What ptxas says of two kernels.
const PTXAS: &str = r#"#!/usr/bin/env bash
echo "$@" >>"$(dirname "$0")/../asked"
case "$*" in
    -ptx*lost.cu) grep -oE -- '-o [^ ]+' <<<"$*" | { read -r _ out; echo "cvta.shared.u64 %rd1, %rd2;" >"$out"; }; exit 0 ;;
    -ptx*) grep -oE -- '-o [^ ]+' <<<"$*" | { read -r _ out; echo "ld.shared.f32 %f1, [%rd1];" >"$out"; }; exit 0 ;;
esac
case "$*" in *broken.cu) echo "broken.cu(3): error #177-D: never referenced" >&2; exit 1 ;; *empty.cu) exit 0 ;; esac
arch=$(grep -oE 'sm_[0-9]+' <<<"$*")
cat >&2 <<END
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'second' for '$arch'
ptxas info    : Function properties for second
    536 bytes stack frame, 1144 bytes spill stores, 1152 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 536 bytes cumulative stack size
ptxas info    : Compile time = 41.463 ms
ptxas info    : Compiling entry function 'first' for '$arch'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 1024 bytes smem
END
"#;

#[test]
fn kernels_are_compiled_for_each_architecture_and_told_in_a_table() {
    let desk = Desk::new();
    desk.program("nvcc", PTXAS);
    let call = |arguments: &[&str]| desk.script("cuda-kernels.sh", arguments).output().unwrap();
    refused(&call(&["kernels"]), &["kernels: no such folder"]);
    fs::create_dir(desk.path("kernels")).unwrap();
    refused(&call(&["kernels"]), &["kernels: no .cu files"]);
    fs::write(desk.path("kernels/some.cu"), "").unwrap();
    fs::write(desk.path("kernels/shared.cuh"), "").unwrap();
    let output = call(&["kernels", "--fmad=false"]);
    let rows: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().skip(2).map(str::to_owned).collect();
    let expected = [80, 90].map(|sm| {
        let first = format!("| some.cu | first | {sm} | 10 | 1 | 1024 | 0 | 0/0 |");
        [first, format!("| some.cu | second | {sm} | 32 | 0 | 0 | 536 | 1144/1152, spills |")]
    });
    assert_eq!(rows, expected.concat());
    let asked = fs::read_to_string(desk.path("asked")).unwrap();
    assert!(asked.lines().all(|line| line.contains("-Werror all-warnings") && line.contains("--fmad=false")));
    // Nothing after an error, and a file of no kernel is one.
    for (name, says) in [
        ("broken.cu", "broken.cu: does not compile for sm_80"),
        ("empty.cu", "expected a kernel, found none"),
        (
            "lost.cu",
            "lost.cu: keeps a pointer to shared memory where the compiler loses track of it, for sm_80",
        ),
    ] {
        fs::create_dir(desk.path(name)).unwrap();
        fs::write(desk.path(name).join(name), "").unwrap();
        let output = call(&[name]);
        assert!(
            output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains(says),
            "{name}"
        );
    }
}

/// A folder as `gpu-check.sh build` packs it, whose gpu_check tells what it was called with.
fn packed(desk: &Desk) {
    fs::create_dir_all(desk.path("packed/golden")).unwrap();
    desk.program("gpu_check", "#!/bin/sh\necho \"$LD_LIBRARY_PATH\" \"$@\"\nexit 7\n");
    desk.program("skn-run", "#!/bin/sh\n");
    let mut tar = Command::new("tar");
    let made = tar.args(["-czf", "packed/programs.tar.gz", "-C", "bin", "gpu_check", "skn-run"]);
    assert!(made.current_dir(desk.folder.path()).status().unwrap().success());
}

#[test]
fn what_a_card_is_checked_with_is_found() {
    let desk = Desk::new();
    let call = |arguments: &[&str]| desk.script("gpu-check.sh", arguments).output().unwrap();
    desk.program("nvcc", "#!/bin/sh\n");
    fs::create_dir(desk.path("mine")).unwrap();
    fs::write(desk.path("mine/letter"), "dear").unwrap();
    for (arguments, says) in [
        (&["build", "mine"][..], "mine: expected an empty folder or an older one of this script's"),
        (&["walk"], "expected build or run, found walk"),
        (&[], "expected build or run, found nothing"),
        (&["run", "packed"], "packed/programs.tar.gz: no such file"),
        (&["build", "packed", "more"], "build takes a folder and nothing else, found more"),
    ] {
        let output = call(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{arguments:?}: {said}");
    }
    packed(&desk);
    // No Python that sees a card: without PyTorch. The program's exit code is the script's.
    desk.program("python3", "#!/bin/sh\nexit 1\n");
    desk.program("ldd", "#!/bin/sh\n");
    let output = call(&["run", "packed", "--short", "--seed", "3"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(
        said.contains("timings without them") && said.contains("--golden packed/golden --programs "),
        "{said}"
    );
    assert!(said.contains("--short --seed 3") && !said.contains("--peers"), "{said}");
    // One that does: with it, and with the libraries that lie beside it.
    let wheels = "#!/bin/sh\ncase \"$2\" in *find_spec*) echo \"$PWD/wheels\" ;; esac\n";
    desk.program("python3", wheels);
    let ldd = "#!/bin/sh\ncase \"$LD_LIBRARY_PATH\" in *wheels*) ;; *) echo '\tlibsome.so.13 => not found' ;; esac\n";
    desk.program("ldd", ldd);
    let output = call(&["run", "packed"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(5) && said.contains("libraries are missing: libsome.so.13"),
        "{said}"
    );
    fs::create_dir(desk.path("wheels")).unwrap();
    fs::write(desk.path("wheels/libsome.so.13"), "").unwrap();
    let output = call(&["run", "packed"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("--peers python3 packed/peers/gpu.py") && said.contains("/wheels "), "{said}");
    // Without a driver nothing is started.
    desk.program(
        "ldd",
        "#!/bin/sh\necho '\tlibsome.so.13 => not found'\necho '\tlibcuda.so.1 => not found'\n",
    );
    let output = call(&["run", "packed"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains("no card: there is no libcuda.so.1"), "{said}");
}
