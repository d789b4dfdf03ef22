"""What `skn-predict --cuda-graphs` answers on the played card: the bytes of plain passes; where nothing can be captured too, which a
warning tells once.

    bash scripts/played-card.sh FOLDER python3 crates/skn-kernels/tests/card/predict.py PROGRAMS

PROGRAMS is the folder that has skn-predict, built with CUDA.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[4]
FLAGS = "--model demo --task sentiment --device cuda --batch 1 --format jsonl --logits"
WARNING = "--cuda-graphs: some passes can't be captured and are done without it, with the same answers: "


def answers(programs, texts, *more, **environment):
    """What is answered, and the lines on stderr."""
    command = [programs / "skn-predict", *FLAGS.split(), *more]
    done = subprocess.run(command, input=texts, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        raise SystemExit(f"{more}, {environment}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout, done.stderr.splitlines()


def main():
    if len(sys.argv) != 2:
        raise SystemExit("expected: predict.py PROGRAMS")
    programs = pathlib.Path(sys.argv[1]).resolve()
    rows = (ROOT / "data/tasks/sentiment/test.jsonl").read_text().splitlines()[:6]
    # Each text is done plainly, captured, and replayed.
    texts = "".join(json.loads(row)["text"] + "\n" for row in rows * 3)
    plain = answers(programs, texts)
    assert plain[0].count("\n") == 18 and plain[1] == [], plain
    assert answers(programs, texts, "--cuda-graphs") == plain
    # Twelve of them at least, more where texts have one length.
    for more, least, most in [([], 0, 0), (["--cuda-graphs"], 12, 17)]:
        said = answers(programs, texts, *more, SKN_CARD_SAYS="1")[1]
        [graphs] = [int(line.split()[2]) for line in said if line.endswith(" graphs launched")]
        assert least <= graphs <= most, said
    for less, why in [("POOLS", "expected memory pools, which this card has not"), ("PLACE", "the card has no place for it: ")]:
        found, said = answers(programs, texts, "--cuda-graphs", **{f"SKN_CARD_WITHOUT_{less}": "1"})
        told = [line for line in said if "played card:" not in line]
        assert found == plain[0], less
        assert len(told) == 1 and WARNING in told[0] and why in told[0], said
    print("18 answers, the same replayed, and where nothing can be captured")


main()
