"""What statistics cost beside a plain probe: time, and memory for 1,000 and 100,000 texts.

    cargo build --bins
    python3 benches/cost_of_statistics.py time [ROUNDS]
    python3 benches/cost_of_statistics.py memory [TEXTS ..]

The demo's model with a prompt of chance reads texts of eight words and one of a thousand numbers, made here. `time` takes turns between the
plain probe and one with all statistics that need no gradient (fire bits, variances, seven rankings), and says the median of their
ratios. `memory` says the peak of resident memory of both for 1,000 and 100,000 texts, or the numbers given, in each of train and dev.
`SKN_PROBE` names another program. Only the standard library is needed.
"""

import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROBE = pathlib.Path(os.environ.get("SKN_PROBE", ROOT / "target" / "debug" / "skn-probe"))
ALL = "predictivity,auc,mean_difference,correlation,lape,cett,random"
WORDS = "the film is a good and not bad but slow story with fine long dull great poor actors".split()


def data(folder, texts):
    """A folder with as many texts in train and dev, a label by chance, and at most 1,000 in test."""
    rng = random.Random(texts)
    for split, texts in (("train", texts), ("dev", texts), ("test", min(texts, 1_000))):
        with open(folder / f"{split}.jsonl", "w") as file:
            for row in range(texts):
                # The same words, however many texts: a tokenizer keeps words that it has met, up to 2,000 for each thread.
                text = " ".join(rng.choice(WORDS) for _ in range(8)) + f" {row % 1_000:06}"
                file.write(json.dumps({"text": text, "label": rng.randrange(2)}) + "\n")
    task = folder / "task.toml"
    task.write_text(
        'name = "made"\ntext = ["text"]\nlabel = "label"\nlabels = ["bad", "good"]\n'
        '[splits]\ntrain = "train"\ndev = "dev"\ntest = "test"\n'
    )
    return task


def probe(folder, task, extra):
    """Seconds of processor and of the clock, and the peak of resident memory in MiB, of one probe."""
    with tempfile.TemporaryDirectory() as out:
        call = [PROBE, "--model", "demo", "--task-file", task, "--data", folder, "--prompt_size", "16"]
        call += ["--probe_type", "acc", "--out", out, "--progress", "none", "-q", *extra]
        began = time.monotonic()
        child = subprocess.Popen(call, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit(f"skn-probe ended with {os.waitstatus_to_exitcode(status)}")
        return used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024


WAYS = {"plain": [], "all": ["--fire-bits", "--variance", "--rank", ALL]}


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else "time"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if what == "memory":
            for texts in [int(texts) for texts in sys.argv[2:]] or [1_000, 100_000]:
                task = data(folder, texts)
                for name, extra in WAYS.items():
                    cpu, wall, peak = probe(folder, task, extra)
                    print(f"{texts} texts, {name}: {peak:.0f} MiB, {cpu:.1f} s of processor, {wall:.1f} s", flush=True)
            return
        rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
        task = data(folder, 2_000)
        ratios = []
        for turn in range(rounds):
            # In turns, so that other work on the machine meets both.
            found = {name: probe(folder, task, extra)[0] for name, extra in WAYS.items()}
            ratios.append(found["all"] / found["plain"])
            print(f"turn {turn + 1}: plain {found['plain']:.2f} s, all {found['all']:.2f} s of processor", flush=True)
        print(f"all statistics take {statistics.median(ratios):.2f} times the plain probe (median of {rounds} turns)")


if __name__ == "__main__":
    main()
