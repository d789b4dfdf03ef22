#!/usr/bin/env bash
# Makes the run that the tests read, python/tests/run, of the golden model and data. usage: python/tests/make.sh FOLDER-OF-PROGRAMS
set -euo pipefail
programs=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
golden=$here/../../tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$golden/model" "$golden/data/jsonl" "$work"
cd "$work"
from=(-p --resume_from run)
"$programs/skn-train" --model ./model --task sst2 --data jsonl --prompt_size 2 --epoch 1 --bz 64 --out run
"$programs/skn-probe" "${from[@]}" --probe_type acc,acc_mean --out run
"$programs/skn-select" -a run/sst2/dev_perf --shares 0.05,0.1 --fdr 0.5 --out run
"$programs/skn-mask" "${from[@]}" --info_path run/info/sst2/0.05,run/info/sst2/0.1 --type zero --cmp --draws 3 --out run
printf 'it is good\nit is bad , or not\n' > texts
"$programs/skn-predict" --resume_from run --input texts > predictions.tsv
"$programs/skn-predict" --resume_from run --input texts --json > predictions.json
rm -rf "$here/run" run/best run/last run/.lock
mv run predictions.tsv predictions.json "$work"/jsonl/ && mv "$work/jsonl/run" "$here/run" && mv "$work"/jsonl/predictions.* "$here/run/"
