"""Evaluation, prompt tuning, probing and the start of a program: the published implementation's work in PyTorch, PyTorch and
ONNX Runtime used well, and this workspace, on the same model and texts in the same run.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 onnx==1.23.2 onnxruntime==1.32.0 \\
        onnxscript==0.7.2 safetensors==0.8.0 numpy==2.4.6
    cargo build --workspace --bins --example speed
    venv/bin/python benches/peers/speed.py --work /tmp/speed

prints a table in Markdown for each of `--tasks`. The model has RoBERTa-base's shape and random weights, the texts are random
tokens with the lengths of real data. The models are made in the folder `--work` (2 GB) and used again. Every contestant is a
process of its own that stays: after a round that is not counted come `--rounds` rounds in which each does the same work, one
after the other. Times are medians over the rounds, ratios medians of each round's ratio; the best peer is the fastest of the same
precision. A contestant that would take longer than `--patience` seconds for a round gets 2 of the texts and one round. Peaks of
memory are those of resident memory, in loading and after it. What contestants answer is compared before anything is timed.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy
from safetensors.numpy import load_file

from speed_inputs import HIDDEN, MASK, make_model, make_prompt, make_texts, random_prompt
from speed_work import Work

HERE = Path(__file__).resolve().parent
FEW = 2  # texts for comparing answers, and for those who are slow


@dataclass(frozen=True)
class Contestant:
    name: str
    kind: str  # reference, peer, ours or ours pruned
    precision: str
    key: str = ""  # what speed_peers.py calls it
    model: str = "model"


REFERENCE = Contestant("reference, in PyTorch fp32", "reference", "f32", "reference")
FROZEN = Contestant("PyTorch fp32, frozen, head at the answer", "peer", "f32", "frozen")
BF16 = Contestant("PyTorch bf16, likewise", "peer", "bf16", "bf16")
OURS = [Contestant("skn f32", "ours", "f32"), Contestant("skn bf16", "ours", "bf16")]
EVALUATE = [
    REFERENCE,
    FROZEN,
    Contestant("PyTorch fp32, likewise, compiled", "peer", "f32", "compiled"),
    Contestant("ONNX Runtime fp32, likewise", "peer", "f32", "onnx"),
    BF16,
    *OURS,
    Contestant("skn f32, pruned", "ours pruned", "f32", model="pruned"),
    Contestant("skn bf16, pruned", "ours pruned", "bf16", model="pruned"),
]

TUNE = [REFERENCE, FROZEN, BF16, *OURS]

# Title; what contestants do; lengths of texts; how many for each of `--texts`; who takes part.
TASKS = {
    "evaluate": ("Evaluation, lengths of SST-2's dev", "evaluate", "sst2-dev", 1, EVALUATE),
    "evaluate-long": ("Evaluation, lengths of IMDB, cut at 496", "evaluate", "imdb", 1 / 8, EVALUATE),
    "step": ("Prompt-tuning step, 16 texts, lengths of SST-2's train", "step", "sst2-train", 1 / 2, TUNE),
    "probe": ("Probing, all types, lengths of SST-2's dev", "probe", "sst2-dev", 1, [REFERENCE, *OURS]),
}


def command(contestant, task, arguments):
    """What runs a contestant."""
    model, prompt, threads = arguments.work / contestant.model, arguments.work / "prompt", str(arguments.threads)
    if contestant.key:
        return [sys.executable, HERE / "speed_peers.py", task, contestant.key, model, prompt, threads]
    return [arguments.built / "examples/speed", task, model, prompt, contestant.precision, threads]


class Worker:
    """A contestant's process."""

    def __init__(self, contestant, command):
        self.contestant = contestant
        pipe, self.errors = subprocess.PIPE, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.said = self.line()
        self.ready = self.said == "ready"
        self.loading = self.mib("VmHWM") if self.ready else 0
        if self.ready:
            # From here on the peak is that of the work.
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def line(self):
        line = self.process.stdout.readline().strip()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.contestant.name} ended: {self.errors.read()[-2000:]}")
        return line

    def mib(self, field):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))

    def processor(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self, texts, out):
        """Seconds of the work."""
        print(texts, out, file=self.process.stdin, flush=True)
        return float(self.line())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Racer:
    """A worker with its texts, and the seconds a text that each round took, by the clock and of the processors."""

    def __init__(self, worker, texts, lengths, rounds):
        self.worker, self.texts, self.lengths, self.rounds = worker, texts, lengths, rounds
        self.times, self.processor = [], []

    def run(self, number):
        if number < self.rounds:
            before = self.worker.processor()
            self.times.append(self.worker.run(self.texts, os.devnull) / len(self.lengths))
            self.processor.append((self.worker.processor() - before) / len(self.lengths))


def make(arguments):
    """The folder that all contestants read."""
    work = arguments.work
    make_model(work / "model")
    rows = random_prompt(HIDDEN)
    rows[0] = load_file(work / "model/model.safetensors")["roberta.embeddings.word_embeddings.weight"][MASK]
    make_prompt(work / "prompt", rows)
    if not (work / "pruned/model.safetensors").exists():
        subprocess.run([arguments.built / "examples/speed", "prune", work / "model", work / "pruned"], check=True)
    if not (work / "model/onnx/optimised.onnx").exists():
        command = [sys.executable, HERE / "speed_peers.py", "export", "-", work / "model", work / "prompt", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare(title, task, lengths, share, contestants, arguments):
    """A task's table."""
    print(f"\n### {title}\n", flush=True)
    short, texts = (arguments.scratch / name for name in ("short.txt", "texts.txt"))
    few = make_texts(short, lengths, 16 if task == "probe" else FEW)
    all_lengths = make_texts(texts, lengths, round(arguments.texts * share))
    if task == "step":
        with ExitStack() as stack:
            first_runs(stack, "gradient", short, contestants, arguments)
    with ExitStack() as stack:
        racers = []
        for worker, seconds in first_runs(stack, task, short, contestants, arguments):
            slow = seconds * len(all_lengths) / len(few) > arguments.patience
            if slow:
                racers.append(Racer(worker, short, few, 1))
            else:
                worker.run(texts, os.devnull)
                racers.append(Racer(worker, texts, all_lengths, arguments.rounds))
        peaks = []
        for number in range(arguments.rounds):
            for racer in racers:
                racer.run(number)
            peaks.append(measure_peak(arguments))
        table(Work(task, all_lengths), racers, peaks)


def first_runs(stack, task, texts, contestants, arguments):
    """Starts workers, and compares what they answer with what the reference does. Returns them and the seconds they took."""
    expected, found = None, []
    for contestant in contestants:
        worker = stack.enter_context(Worker(contestant, command(contestant, task, arguments)))
        if not worker.ready:
            print(f"- not measured: {contestant.name} ({worker.said})")
            continue
        found.append((worker, worker.run(texts, arguments.scratch / "out.f32")))
        answer = numpy.fromfile(arguments.scratch / "out.f32", dtype="<f4")
        if contestant.kind == "reference":
            expected = answer
        # A pruned model is another function: skn-model's tests compare it. Steps are made with dropout, each with its own.
        elif contestant.kind != "ours pruned" and task != "step":
            check(task, contestant, expected, answer)
    return found


def measure_peak(arguments):
    return float(subprocess.check_output([arguments.built / "examples/speed", "peak", str(arguments.threads)]))


def check(task, contestant, expected, found):
    assert found.shape == expected.shape, f"{contestant.name}: {found.shape} instead of {expected.shape}"
    if task == "probe":
        what, difference, most = "share of counts that differ", float((found != expected).mean()), 0.01
    else:
        what, most = "largest difference from the reference", 1e-3
        difference = float(numpy.abs(found - expected).max() / (numpy.abs(expected).max() if task == "gradient" else 1))
    print(f"- {contestant.name}: {what} {difference:.1e}", flush=True)
    if contestant.precision == "f32" and not difference <= most:
        raise SystemExit(f"{contestant.name} does not do the same: {what} {difference}, at most {most}")


def table(work, racers, peaks):
    """Prints what the racers did; the first is the reference."""
    count = len(work.lengths)
    real, in_file_order = (sum(rows) / count for rows in (work.real, work.rows("reference")))
    needed = work.operations("ours") / count / 1e9
    print(
        f"\n{count} texts, {real:.1f} rows a text with the prompt, {in_file_order:.1f} if padded in the order of the file;"
        f" needed are {needed:.2f} GFLOP a text; peak of multiply-adds {median(peaks):.0f} GFLOP/s.\n"
    )
    columns = [
        "contestant",
        "ms a text",
        "of processors",
        "reference / it",
        "best peer / it",
        "rows a text",
        "GFLOP a text",
        "of the peak",
    ]
    print_row([*columns, "peak MiB", "MiB at loading"])
    print_row(["---"] * (len(columns) + 2))
    for racer in racers:
        contestant, texts = racer.worker.contestant, len(racer.lengths)
        own = Work(work.task, racer.lengths)
        operations = own.operations(contestant.kind) / texts / 1e9
        best = best_peer(racers, contestant.precision)
        print_row([
            contestant.name + (f" ({texts} texts, one round)" if texts < count else ""),
            f"{median(racer.times) * 1000:.1f}",
            f"{median(racer.processor) * 1000:.1f}",
            f"{ratio(racers[0], racer):.2f}",
            f"{ratio(best, racer):.2f}" if best else "",
            f"{sum(own.rows(contestant.kind)) / texts:.1f}",
            f"{operations:.2f}",
            f"{median(operations / time / peak for time, peak in zip(racer.times, peaks)):.0%}",
            f"{racer.worker.mib('VmHWM'):.0f}",
            f"{racer.worker.loading:.0f}",
        ])  # fmt: skip


def print_row(cells):
    print("|", " | ".join(cells), "|", flush=True)


def ratio(slow, fast):
    return median(a / b for a, b in zip(slow.times, fast.times))


def best_peer(racers, precision):
    """The fastest of what a user would take instead, in the same precision."""
    of = lambda racer: racer.worker.contestant
    peers = [racer for racer in racers if of(racer).kind == "peer" and of(racer).precision == precision]
    return min(peers, key=lambda racer: median(racer.times), default=None)


def growth(arguments):
    """Time and memory of probing as the texts get more."""
    print("\n### Growth: skn f32, probing all types, lengths of SST-2's dev\n")
    print_row(["texts", "s", "ms a text", "peak MiB"])
    print_row(["---"] * 4)
    for times in (1, 2, 4):
        texts, count = arguments.scratch / "texts.txt", 3 * times * arguments.texts
        make_texts(texts, "sst2-dev", count)
        with Worker(OURS[0], command(OURS[0], "probe", arguments)) as worker:
            seconds = worker.run(texts, os.devnull)
            per_text = f"{seconds / count * 1000:.1f}"
            print_row([str(count), f"{seconds:.1f}", per_text, f"{worker.mib('VmHWM'):.0f}"])


def products(arguments):
    """Matrix products on one thread, next to the peak of multiply-adds."""
    own_table("Products on one thread, f32", "products", arguments)


def ratios(arguments):
    """The forward pass of the full model next to pruned ones."""
    own_table("Forward pass, full and pruned, one thread, f32", "ratios", arguments)


def own_table(title, task, arguments):
    """A table that this workspace prints itself."""
    print(f"\n### {title}\n", flush=True)
    print(subprocess.check_output([arguments.built / "examples/speed", task], text=True), end="", flush=True)


def start(arguments):
    """From the command to the answer to one text."""
    work = arguments.work
    one = arguments.scratch / "one.txt"
    make_texts(one, "sst2-dev", 1)
    demo = json.loads((HERE.parent.parent / "data/model/config.json").read_text())["hidden_size"]
    make_prompt(arguments.scratch / "demo-prompt", random_prompt(demo))
    predict = [arguments.built / "skn-predict", "--task", "sst2"]
    on_demo = [*predict, "--model", "demo", "--resume_from", arguments.scratch / "demo-prompt"]
    on_base = [*predict, "--model", work / "model", "--resume_from", work / "prompt"]
    peer = lambda key: [
        sys.executable,
        HERE / "speed_peers.py",
        "evaluate",
        key,
        work / "model",
        work / "prompt",
        str(arguments.threads),
    ]
    # The peers get token ids, so they don't load a tokenizer.
    commands = {
        "skn-predict, demo model": (on_demo, "a superb film"),
        "skn-predict, RoBERTa-base's shape": (on_base, "a superb film"),
        "PyTorch and transformers, the same, without tokenizer": (peer("frozen"), f"{one} {os.devnull}"),
        "ONNX Runtime, the same, with PyTorch imported": (peer("onnx"), f"{one} {os.devnull}"),
    }
    times = {name: [] for name in commands}
    for _ in range(arguments.rounds + 1):
        for name, (command, text) in commands.items():
            begun = time.monotonic()
            subprocess.run(command, input=text + "\n", text=True, check=True, capture_output=True)
            times[name].append(time.monotonic() - begun)
    print("\n### Start: one text, files in the page cache\n")
    print_row(["program", "ms"])
    print_row(["---"] * 2)
    for name, seconds in times.items():
        print_row([name, f"{median(seconds[1:]) * 1000:.0f}"])


OTHERS = {"products": products, "ratios": ratios, "growth": growth, "start": start}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--tasks", default=",".join([*TASKS, *OTHERS]))
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=60)
    parser.add_argument("--built", type=Path, default=Path("target/debug"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.work, arguments.built = arguments.work.resolve(), arguments.built.resolve()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(arguments.threads), RAYON_NUM_THREADS=str(arguments.threads))
    make(arguments)
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "onnxruntime")]
    machine = f"{cpu}, {os.cpu_count()} cores, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; Python {platform.python_version()}, {', '.join(versions)}", flush=True)
    # Texts and answers belong to this run alone: another may use the same models at the same time.
    with tempfile.TemporaryDirectory() as scratch:
        arguments.scratch = Path(scratch)
        for task in arguments.tasks.split(","):
            OTHERS[task](arguments) if task in OTHERS else compare(*TASKS[task], arguments)


if __name__ == "__main__":
    main()
