#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment, and does there what a user would: the demo by the programs of the wheel, and
# its run read by the package. Needs Python with venv, and cargo. usage: bash python/try.sh [options of maturin build]
#
# Without options it is a release build, a quarter of an hour. `--profile dev` takes what `cargo build` has built already; as maturin
# builds one package, CARGO_RESOLVER_FEATURE_UNIFICATION=workspace (a nightly's option) keeps features, and so candle, as they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- --release

python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.5,<2'
(cd "$here" && "$work/build/bin/maturin" build --out "$work/wheels" "$@")
ls -l "$work"/wheels

python3 -m venv "$work/user"
"$work/user/bin/pip" install --quiet --disable-pip-version-check "$work"/wheels/skn-*.whl
cd "$work"
export PATH="$work/user/bin:$PATH"
for source in "$here"/../bins/skn/src/bin/*.rs; do
    program=$(basename "$source" .rs)
    [ "$(command -v "$program")" = "$work/user/bin/$program" ] || { echo "$program is not in the wheel"; exit 1; }
done
skn-run --version -v
skn-run --model demo --out demo --epoch 2 --retune-epoch 1 --draws 2
printf 'the food was not bad .\n' | skn-predict --resume_from demo > answers.tsv
cat > user.py <<'PYTHON'
import skn

run = skn.load("demo")
print(run, run.summary["accuracy"])
assert isinstance(run.neurons, list), "pandas is not in this environment"
best = run.neurons[0]
assert best["layer"] == run.summary["best_neuron"]["layer"] and best["index"] == run.summary["best_neuron"]["index"]
assert run.masks[0.1].sum() == 4 * (run.masks[0.1].shape[1] // 10)
dev = run.counts["dev_perf"]
assert (dev["correct"] <= dev["total"]).all()
assert {row["who"] for row in run.curves} == {"skill", "random", "matched"}
assert run.report.stat().st_size > 10_000
answer, = run.predictions("answers.tsv")
assert answer["text"] == "the food was not bad .", answer
PYTHON
python user.py
python "$here/tests/test_run.py" --installed
