#!/usr/bin/env bash
# Whether a GPU computes what the CPU does, and how fast, in one command and one table:
#
#     bash scripts/gpu-check.sh build [FOLDER]           where there is nvcc; no card. Packs what `run` needs: at most 60 MB
#     bash scripts/gpu-check.sh run [FOLDER] [FLAGS..]   where there is a card; no cargo, no network. Under eight minutes
#
# FOLDER is target/gpu-check unless given; it may be carried to another machine, where FOLDER/gpu-check.sh run does the same. What is
# compared, FLAGS and exit codes: the head of benches/examples/gpu_check/main.rs. Without a card `run -- --device cpu --short` compares
# the CPU with itself, where LD_LIBRARY_PATH has the folder without-driver of scripts/cuda-toolchain.sh.
#
# `run` finds CUDA's libraries in CUDA_HOME, in /usr/local and beside a PyTorch. PYTHON (python3) is asked for PyTorch and
# transformers; where they see the card they take turns in the timings.
set -euo pipefail
fail() {
    echo "gpu-check.sh: $2" >&2
    exit "$1"
}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
command=${1:-}
[ $# = 0 ] || shift
folder=
if [ $# != 0 ] && [ "${1#-}" = "$1" ]; then
    folder=$1
    shift
elif [ -e "$here/programs.tar.gz" ]; then
    folder=$here
fi
folder=${folder:-$here/../target/gpu-check}
[ "${1:-}" != -- ] || shift

build() {
    [ $# = 0 ] || fail 2 "build takes a folder and nothing else, found $*"
    command -v nvcc >/dev/null || fail 2 "no nvcc on the PATH; scripts/cuda-toolchain.sh installs one"
    folder=$(realpath -m -- "$folder")
    cd "$here/.."
    local kilobytes built=${CARGO_TARGET_DIR:-target}/debug
    # Nothing of anybody else's is removed.
    [ -z "$(ls -A "$folder" 2>/dev/null)" ] || [ -e "$folder/gpu-check.sh" ] ||
        fail 2 "$folder: expected an empty folder or an older one of this script's"
    cargo build --locked -p skn -p skn-bench --features skn/cuda,skn-bench/cuda --bin skn-run --example gpu_check
    rm -rf "$folder"
    mkdir -p "$folder"
    cp scripts/gpu-check.sh "$folder"
    mkdir -p "$folder/bin" "$folder/golden/data" "$folder/peers"
    strip -o "$folder/bin/gpu_check" "$built/examples/gpu_check"
    strip -o "$folder/bin/skn-run" "$built/skn-run"
    # A third of their size; most of it is candle's kernels for GPUs.
    tar -C "$folder/bin" -czf "$folder/programs.tar.gz" gpu_check skn-run
    rm -r "$folder/bin"
    cp -r tests/golden/model tests/golden/expected.safetensors "$folder/golden"
    cp -r tests/golden/data/jsonl "$folder/golden/data"
    cp benches/peers/gpu.py benches/peers/speed_peers.py benches/peers/speed_inputs.py "$folder/peers"
    kilobytes=$(du -sk --apparent-size "$folder" | cut -f 1)
    echo "$folder: $((kilobytes / 1024)) MB"
    [ "$kilobytes" -le $((60 * 1024)) ] || fail 1 "$folder: expected at most 60 MB, found $((kilobytes / 1024))"
}

# The libraries that programs need and the loader does not find.
missing() {
    ldd "$programs/gpu_check" "$programs/skn-run" | awk '/not found/ { print $1 }' | sort -u
}

run() {
    [ -e "$folder/programs.tar.gz" ] || fail 2 "$folder/programs.tar.gz: no such file; \`gpu-check.sh build\` makes it"
    programs=$(mktemp -d "${TMPDIR:-/tmp}/skn-gpu-check.XXXXXX")
    trap 'rm -rf "$programs"' EXIT
    tar -xzf "$folder/programs.tar.gz" -C "$programs"
    local python=${PYTHON:-python3} place name peers=()
    local places=("${CUDA_HOME:+$CUDA_HOME/lib64}" /usr/local/nvidia/lib64 /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib)
    if command -v "$python" >/dev/null; then
        # Wheels of NVIDIA, which PyTorch brings.
        while IFS= read -r place; do places+=("$place"); done < <("$python" -c '
import importlib.util, pathlib
for root in (importlib.util.find_spec("nvidia") or type("", (), {"submodule_search_locations": []})).submodule_search_locations:
    print(*sorted({str(file.parent) for file in pathlib.Path(root).rglob("lib*.so*")}), sep="\n")' 2>/dev/null || true)
    fi
    for name in $(missing); do
        for place in "${places[@]}"; do
            if [ -n "$place" ] && [ -e "$place/$name" ]; then
                export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$place"
                break
            fi
        done
    done
    name=$(missing | tr '\n' ' ')
    case " $name" in
    *" libcuda.so.1 "*) fail 5 "no card: there is no libcuda.so.1, which NVIDIA's driver brings" ;;
    *" lib"*) fail 5 "CUDA 13's libraries are missing: ${name}expected in CUDA_HOME/lib64, /usr/local/cuda or beside a PyTorch of CUDA 13" ;;
    esac
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv,noheader || true
    fi
    if "$python" -c 'import torch, transformers; raise SystemExit(not torch.cuda.is_available())' >/dev/null 2>&1; then
        peers=(--peers "$python" "$folder/peers/gpu.py")
    else
        echo "no Python with PyTorch and transformers that see the card: timings without them"
    fi
    # Nothing may wait for ever.
    timeout 475 "$programs/gpu_check" --minutes 7 --golden "$folder/golden" --programs "$programs" "$@" "${peers[@]}"
}

case $command in
build | run) "$command" "$@" ;;
*) fail 2 "expected build or run, found ${command:-nothing}: see the head of $0" ;;
esac
