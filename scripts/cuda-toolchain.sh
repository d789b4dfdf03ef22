#!/usr/bin/env bash
# A CUDA 13.0 to build with where there is none, out of NVIDIA's wheels for Python: bash scripts/cuda-toolchain.sh FOLDER
#
# Linux on x86-64 with glibc, Python with pip, a C++ compiler; no root, no driver, no card. It fetches 660 MB and takes 1.3 GB.
# Prints the variables to set, and writes them to FOLDER/env:
#
#     bash scripts/cuda-toolchain.sh ~/cuda && . ~/cuda/env && cargo build --release --features cuda
#
# What was installed before is used again. PYTHON names another python3, CUDA_COMPUTE_CAP the card to build for (unset: this
# machine's, else 80, whose PTX drivers compile for every later card); pip's own settings hold too, PIP_FIND_LINKS for one.
#
# FOLDER/lib/stubs/libcuda.so takes the driver's place for the linker alone: no program gets a path to it, and where there is a
# driver its libcuda.so.1 is found. FOLDER/without-driver/libcuda.so.1 is the same for LD_LIBRARY_PATH where there is none: a program
# then starts, and finds no device.
set -euo pipefail
fail() {
    echo "cuda-toolchain.sh: $*" >&2
    exit 1
}
[ $# = 1 ] && [ -n "$1" ] || fail "expected one folder to install into: bash scripts/cuda-toolchain.sh FOLDER"
case $1 in
*[:\'$'\n']*) fail "$1: expected a folder whose name has no colon, quote or line break, for it goes into PATH" ;;
esac

# One CUDA: the newest of 13.0 of each part, by its SHA-256.
wheels() {
    cat <<'PINS'
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-nvrtc==13.0.88 --hash=sha256:ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
nvidia-cublas==13.0.2.14 --hash=sha256:0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c
nvidia-curand==10.4.0.35 --hash=sha256:1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
PINS
}

system=$(uname -sm)
[ "$system" = "Linux x86_64" ] || fail "expected Linux x86_64, found $system; install NVIDIA's own toolkit there"
mkdir -p -- "$1" || fail "$1: the folder can't be made"
home=$(cd -- "$1" && pwd -P)
stamp=$home/.made-by-cuda-toolchain
partial=$home/.partial
# Who comes second waits.
exec 9<"$home"
flock 9

install_it() {
    local python=${PYTHON:-python3} cxx=${CXX:-c++} left file name tree=$partial/site/nvidia/cu13
    left=$(find "$home" -mindepth 1 -maxdepth 1 -print -quit)
    [ -z "$left" ] || [ -e "$stamp" ] || fail "$home: expected an empty folder or one that this script made, found $left"
    command -v "$cxx" >/dev/null || fail "$cxx: no C++ compiler, which nvcc calls (Debian: apt-get install g++)"
    command -v "$python" >/dev/null || fail "$python: no Python; install one with pip, or name it: PYTHON=..."
    "$python" -m pip --version >/dev/null 2>&1 ||
        fail "$python has no pip (Debian: apt-get install python3-pip; or $python -m venv DIR and PYTHON=DIR/bin/python)"
    [ ! -t 2 ] || echo "cuda-toolchain.sh: installing CUDA 13.0 into $home (660 MB to fetch)" >&2

    # What is stopped half-way is not taken for whole.
    echo unfinished >"$stamp"
    find "$home" -mindepth 1 -maxdepth 1 ! -path "$stamp" -exec rm -rf {} +
    trap 'rm -rf "$partial"' EXIT
    mkdir -p "$partial/tmp"
    wheels >"$partial/wheels.txt"
    TMPDIR=$partial/tmp PIP_ROOT_USER_ACTION=ignore PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check \
        --no-input --no-cache-dir --no-deps --no-compile --only-binary=:all: --require-hashes --target "$partial/site" \
        -r "$partial/wheels.txt" >"$partial/pip.txt" 2>&1 || {
        tail -n 15 "$partial/pip.txt" >&2
        fail "pip could not install NVIDIA's wheels: see above; it needs the package index or PIP_FIND_LINKS, glibc 2.27, and 2.6 GB here"
    }
    [ -x "$tree/bin/nvcc" ] && [ -f "$tree/include/cuda.h" ] || fail "the wheels have no nvidia/cu13/bin/nvcc; the pins are wrong"
    mkdir "$tree/wheels"
    mv "$partial"/site/*.dist-info "$tree/wheels"
    ln -s lib "$tree/lib64"
    # The linker looks for names without a version.
    for file in "$tree"/lib/*.so.*; do
        name=$(basename "$file")
        [ -e "$tree/lib/${name%%.so.*}.so" ] || ln -s "$name" "$tree/lib/${name%%.so.*}.so"
    done
    make_stub "$tree" "$cxx"
    try "$tree" "$cxx"
    mv "$tree"/* "$home"
    rm -rf "$partial"
    echo "$made" >"$stamp"
}

# A libcuda with every function of cuda.h, as the preprocessor names them (cuMemAlloc is cuMemAlloc_v2), and three of cudaProfiler.h,
# which no wheel has. They say that there is no device.
make_stub() {
    local tree=$1 cxx=$2 names
    names=$("$cxx" -E -P -x c++ -I "$tree/include" "$tree/include/cuda.h" | grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' | tr -d '( \t' |
        sort -u | grep -vxE 'cuGetErrorName|cuGetErrorString')
    [ "$(wc -l <<<"$names")" -gt 400 ] || fail "$tree/include/cuda.h: expected over 400 functions, found $(wc -l <<<"$names")"
    {
        cat <<'CODE'
/* 100 is CUDA_ERROR_NO_DEVICE. */
extern "C" {
int cuGetErrorName(int error, const char **name) {
    *name = error == 0 ? "CUDA_SUCCESS" : "CUDA_ERROR_NO_DEVICE";
    return 0;
}
int cuGetErrorString(int error, const char **text) {
    *text = error == 0 ? "no error" : "no CUDA-capable device is detected: this libcuda is a stub to link with, not a driver";
    return 0;
}
CODE
        printf 'int %s(void) { return 100; }\n' $names cuProfilerInitialize cuProfilerStart cuProfilerStop
        echo '}'
    } >"$partial/stub.cc"
    mkdir "$tree/lib/stubs" "$tree/without-driver"
    "$cxx" -shared -fPIC -O1 -nostdlib -Wl,-soname,libcuda.so.1 -o "$tree/lib/stubs/libcuda.so" "$partial/stub.cc" ||
        fail "$cxx could not make the stub of libcuda"
    ln -s ../lib/stubs/libcuda.so "$tree/without-driver/libcuda.so.1"
}

# A kernel, compiled and linked with all that programs are linked with.
try() {
    local tree=$1 cxx=$2
    cat >"$partial/try.cu" <<'CODE'
#include <cuda.h>
#include <curand.h>
#include <cuda_bf16.h>
#include <cub/cub.cuh>
__global__ void kernel(float *x, __nv_bfloat16 y) { x[threadIdx.x] = float(y); }
int main() {
    kernel<<<1, 1>>>(nullptr, __nv_bfloat16(1.0f));
    return cuInit(0) + (curandGenerator_t{} != nullptr);
}
CODE
    "$tree/bin/nvcc" -ccbin "$cxx" -arch=sm_80 -cudart shared -L "$tree/lib/stubs" -o "$partial/try" "$partial/try.cu" \
        -lcuda -lcublas -lcublasLt -lcurand -lnvrtc >"$partial/try.txt" 2>&1 || {
        tail -n 15 "$partial/try.txt" >&2
        fail "nvcc can't compile here: see above; CUDA 13.0 takes GCC 6 to 15 and Clang 7 to 20 (CXX names another compiler)"
    }
}

# What an installation was made by; another one's is made anew.
made=$(declare -f wheels install_it make_stub try | sha256sum)
[ -e "$stamp" ] && [ "$(cat "$stamp")" = "$made" ] || install_it

capability=${CUDA_COMPUTE_CAP:-}
if [ -z "$capability" ] && command -v nvidia-smi >/dev/null; then
    capability=$({ nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true; } | head -n 1 | tr -dc 0-9)
fi
cat >"$home/env" <<VARIABLES
export CUDA_HOME='$home'
export CUDA_COMPUTE_CAP='${capability:-80}'
export PATH='$home/bin'"\${PATH:+:\$PATH}"
export LIBRARY_PATH='$home/lib64:$home/lib64/stubs'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
# To run what was built, beside the driver.
export LD_LIBRARY_PATH='$home/lib64'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
VARIABLES
cat "$home/env"
