#!/usr/bin/env bash
# Runs a program that was built with `--features cuda` where there is no card, on one that the host plays:
#
#     bash scripts/played-card.sh FOLDER COMMAND..
#
# FOLDER is where the played driver, cuBLAS, cuBLASLt and cuRAND are built, and candle's kernels as they are first called. What is played, and
# what else can be asked for by the environment: the head of crates/skn-kernels/tests/card/driver.cpp. NVRTC is NVIDIA's own.
#
# Needs a C++ compiler (CXX), Python (PYTHON), and CUDA 13's headers and libraries in CUDA_HOME: those of scripts/cuda-toolchain.sh do.
set -euo pipefail
fail() {
    echo "played-card.sh: $*" >&2
    exit 2
}
[ $# -ge 2 ] && [ -n "$1" ] || fail "expected a folder to build in and a command: bash scripts/played-card.sh FOLDER COMMAND.."
export CXX=${CXX:-c++} PYTHON=${PYTHON:-python3}
command -v "$CXX" >/dev/null || fail "$CXX: no C++ compiler (Debian: apt-get install g++)"
command -v "$PYTHON" >/dev/null || fail "$PYTHON: no Python; install one, or name it: PYTHON=..."
[ -f "${CUDA_HOME:-}/include/cublas_v2.h" ] ||
    fail "CUDA_HOME (${CUDA_HOME:-not set}) has no include/cublas_v2.h; scripts/cuda-toolchain.sh installs what is needed"
grep -qE '^#define CUBLAS_VER_MAJOR 13$' "$CUDA_HOME/include/cublas_api.h" ||
    fail "$CUDA_HOME: expected CUDA 13, whose libraries are played; scripts/cuda-toolchain.sh installs it"
tests=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../crates/skn-kernels/tests" && pwd -P)
mkdir -p -- "$1/ptx"
folder=$(cd -- "$1" && pwd -P)
shift
# They stand in lists of folders, in options of the linker, and between quotes.
case $tests$folder$CXX$PYTHON in
*[\':\;,$'\n']*) fail "$folder, $tests, $CXX, $PYTHON: expected paths without quote, colon, semicolon, comma and line break" ;;
esac
export SKN_CARD_HOST=$tests/host SKN_CARD_CACHE=$folder/ptx
# Who comes second waits.
exec 9<"$folder"
flock 9

# What is built is built again when anything of it has changed, the compiled PTX too, or what it is built with or for.
made=$({ echo "$CUDA_HOME" && "$CXX" --version && { grep -m 1 ^flags /proc/cpuinfo || true; }; } | cat - "${BASH_SOURCE[0]}" "$tests"/card/* "$tests"/host/*.* \
    "$tests"/../src/cuda/kernels/* | sha256sum)
if [ "$(cat "$folder/made" 2>/dev/null)" != "$made" ]; then
    rm -rf "$folder"/lib*.so* "$folder"/ptx/* "$folder/made"
    library() {
        local name=$1 source=$2
        shift 2
        "$CXX" -std=c++17 -Wall -Wextra -Werror -fPIC -shared -I "$CUDA_HOME/include" "-Wl,-soname,$name" -o "$folder/$name" \
            "$tests/card/$source" "$@"
    }
    # Candle's compiled kernels take what the player has from the driver. Nobody else's functions may be found in it.
    echo '{ global: cu*; played_card_*; *player*; *ptx*; threadIdx; blockIdx; blockDim; gridDim; local: *; };' >"$folder/cuda.map"
    library libcuda.so.1 driver.cpp -O2 -march=native -ffp-contract=off "-Wl,--version-script=$folder/cuda.map" -ldl
    # A program asks for the name of the library as the version of its functions.
    echo 'libcublas.so.13 { global: cublas*; local: *; };' >"$folder/cublas.map"
    echo 'libcublasLt.so.13 { global: cublasLt*; local: *; };' >"$folder/cublasLt.map"
    echo 'libcurand.so.10 { global: curand*; local: *; };' >"$folder/curand.map"
    library libcublas.so.13 blas.cpp -O3 -march=native "-Wl,--version-script=$folder/cublas.map" "$folder/libcuda.so.1"
    library libcublasLt.so.13 blas_lt.cpp -O3 -march=native "-Wl,--version-script=$folder/cublasLt.map" "$folder/libcuda.so.1"
    library libcurand.so.10 random.cpp -O2 "-Wl,--version-script=$folder/curand.map" "$folder/libcuda.so.1"
    echo "$made" >"$folder/made"
fi
exec 9<&-
LD_LIBRARY_PATH=$folder:$CUDA_HOME/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
