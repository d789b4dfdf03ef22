#!/usr/bin/env bash
# Compiles the kernels for GPUs, warnings as errors, and prints what each takes on a multiprocessor:
# bash scripts/cuda-kernels.sh [FOLDER OF .cu FILES, by default the crate's] [OTHER FLAGS OF nvcc..]
#
# Needs nvcc: of $CUDA_HOME or on the PATH; scripts/cuda-toolchain.sh installs one where there is none. No card, no driver. ARCHITECTURES
# are those to compile for, "80 90" if unset. A kernel that spills registers to memory is marked, and is no error.
set -euo pipefail
fail() {
    echo "cuda-kernels.sh: $*" >&2
    exit 1
}
folder=${1:-$(dirname "$0")/../crates/skn-kernels/src/cuda/kernels}
[ $# = 0 ] || shift
nvcc=${CUDA_HOME:+$CUDA_HOME/bin/nvcc}
[ -x "$nvcc" ] || nvcc=$(command -v nvcc) ||
    fail "no nvcc in CUDA_HOME (${CUDA_HOME:-not set}) or on the PATH; scripts/cuda-toolchain.sh installs one"
[ -d "$folder" ] || fail "$folder: no such folder"
files=()
while IFS= read -r -d '' file; do files+=("$file"); done < <(find "$folder" -name '*.cu' -print0 | sort -z)
[ ${#files[@]} != 0 ] || fail "$folder: no .cu files"

work=$(mktemp -d "${TMPDIR:-/tmp}/skn-kernels.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Of what ptxas says of each kernel, in this order: its name, its stack and spills, its registers and shared memory.
row='
/Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2] }
/bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
/Used [0-9]+ registers/ {
    shared = 0
    registers = barriers = "?"
    count = split($0, parts, /[:,]/)
    for (part = 1; part <= count; part++) {
        split(parts[part], words, " ")
        if (parts[part] ~ /registers/) registers = words[2]
        if (parts[part] ~ /barriers/) barriers = words[2]
        if (parts[part] ~ /smem/) shared = words[1]
    }
    printf "| %s | %s | %s | %s | %s | %s | %s | %s%s |\n", file, kernel, architecture, registers, barriers, shared, stack, stores "/" loads, stores + loads ? ", spills" : ""
}'
echo "| file | kernel | sm | registers | barriers | shared, bytes | stack, bytes | spilled, bytes stored/loaded |"
echo "|---|---|---|---|---|---|---|---|"
for architecture in ${ARCHITECTURES:-80 90}; do
    for file in "${files[@]}"; do
        "$nvcc" -cubin -arch="sm_$architecture" -std=c++17 -O3 --fmad=false -Werror all-warnings -Xptxas -v,--warning-as-error "$@" -o "$work/out.cubin" "$file" \
            >"$work/said" 2>&1 || {
            cat "$work/said" >&2
            fail "$file: does not compile for sm_$architecture"
        }
        # nvcc 13.0 took a pointer to shared memory that stood in a structure for one to global memory: the program then fails on a card.
        "$nvcc" -ptx -arch="sm_$architecture" -std=c++17 -O3 --fmad=false -Werror all-warnings "$@" -o "$work/out.ptx" "$file"
        if grep -n cvta.shared "$work/out.ptx" >&2; then
            fail "$file: keeps a pointer to shared memory where the compiler loses track of it, for sm_$architecture"
        fi
        rows=$(awk -v file="$(basename "$file")" -v architecture="$architecture" "$row" "$work/said")
        [ -n "$rows" ] || fail "$file: expected a kernel, found none: $(cat "$work/said")"
        sort <<<"$rows"
    done
done
