"""Each family of models through the whole run, on the played card and on the CPU: what training comes to must be the same but for
rounding, and accuracies but for a text.

    bash scripts/played-card.sh FOLDER python3 crates/skn-kernels/tests/card/families.py PROGRAMS [MORE FLAGS OF skn-run..]

PROGRAMS is the folder that has skn-run, built with CUDA.
"""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[4]
MODELS = ROOT / "tests/models"
TASK = """name = "reviews"
text = ["text"]
label = "label"
labels = [" negative", " positive"]
names = [["negative"], ["positive"]]

[splits]
train = "train"
dev = "dev"
test = "test"
"""
FLAGS = "--model ./model --task-file reviews.toml --data data --max-length 40 --epoch 1 --retune-epoch 1 --prompt_size 3 --draws 2"
SHARES = "--shares 0.2 --share 0.2 --quiet"
# Of losses, of which each step's follows from all before, in f32 and with numbers rounded to bf16; of accuracies of 24 texts.
LOSS, ROUNDED_LOSS, TEXTS = 1e-5, 1e-2, 1.5 / 24


def lay(family, folder):
    """The model, its tokenizer, a task and a few of the demo's rows."""
    shutil.copytree(MODELS / family, folder / "model")
    tokenizer = "encoder.json" if family.startswith("modernbert") else "decoder.json"
    shutil.copy(MODELS / "tokenizers" / tokenizer, folder / "model/tokenizer.json")
    (folder / "reviews.toml").write_text(TASK)
    (folder / "data").mkdir()
    rows = (ROOT / "data/tasks/sentiment/train.jsonl").read_text().splitlines()
    for name, first, last in [("train", 0, 48), ("dev", 48, 72), ("test", 72, 96)]:
        (folder / f"data/{name}.jsonl").write_text("\n".join(rows[first:last]))


def run(programs, folder, device, more):
    """What a run has found: its losses, and its accuracies by name."""
    command = [programs / "skn-run", *FLAGS.split(), *SHARES.split(), "--device", device, "--out", device, *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0 or "played card:" in done.stderr:
        raise SystemExit(f"--device {device}: exit code {done.returncode}\n{done.stderr}")
    files = sorted((folder / device).rglob("metrics.jsonl"))
    metrics = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    losses = list(itertools.chain.from_iterable((row["train_loss"], row["dev_loss"]) for row in metrics))
    return losses, json.loads((folder / device / "summary.json").read_text())["accuracy"]


def main():
    if len(sys.argv) < 2:
        raise SystemExit("expected: families.py PROGRAMS [MORE FLAGS OF skn-run..]")
    programs, more = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    families = sorted(path.parent.name for path in MODELS.glob("*/config.json"))
    failed = 0
    for family in families:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            lay(family, folder)
            on_card, on_cpu = [run(programs, folder, device, more) for device in ("cuda", "cpu")]
        losses = max(abs(a - b) / abs(b) for a, b in zip(on_card[0], on_cpu[0], strict=True))
        apart = max(abs(on_card[1][what] - accuracy) for what, accuracy in on_cpu[1].items())
        right = losses <= (ROUNDED_LOSS if "bf16" in more else LOSS) and apart <= TEXTS
        failed += not right
        found = f"{len(on_cpu[0])} losses within {losses:.1e}, accuracies within {apart:.3f}"
        print(f"{family}: {found}{'' if right else ', FAILED'}", flush=True)
    print(f"{len(families)} families, {failed} failed")
    sys.exit(failed != 0 or len(families) < 13)


main()
