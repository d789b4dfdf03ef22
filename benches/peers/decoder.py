"""Evaluation, probing and prompt tuning of a decoder of SmolLM2-135M's shape: PyTorch, ONNX Runtime, llama.cpp and this workspace, on the
same model and texts in the same run.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 onnx==1.23.2 onnxruntime==1.32.0 \\
        onnxscript==0.7.2 gguf==0.19.0 llama-cpp-python==0.3.36 safetensors==0.8.0 numpy==2.4.6
    cargo build --workspace --example speed
    venv/bin/python benches/peers/decoder.py --work FOLDER

prints a table in Markdown for each of `--tasks`. The model has random weights, the texts are 16 to 128 random tokens. llama.cpp is built by
pip for the machine (a C++ compiler, a quarter of an hour). Models are made in the folder `--work` (2.5 GB) and used again. As in speed.py every
contestant is a process of its own that stays, all take turns, what they answer is compared before anything is timed, times are medians over
the rounds and ratios medians of each round's ratio. In tuning 16 rows of prompt stand behind each text, and there is no dropout.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy

from decoder_inputs import HIDDEN, LAYERS, VOCABULARY, WIDTH, make_gguf, make_model, make_prompt, make_texts
from speed import HERE, Contestant, Racer, Worker, measure_peak, print_row, ratio

FEW = 4
OURS = [Contestant("skn f32", "ours", "f32"), Contestant("skn bf16", "ours", "bf16")]
# In the same turns as probing, whose time is compared with it.
BESIDE = Contestant("skn f32, evaluation of the same texts", "evaluation", "f32")
TORCH = Contestant("PyTorch f32, frozen, sdpa", "peer", "f32", "torch")
EVALUATE = [
    TORCH,
    Contestant("ONNX Runtime f32", "peer", "f32", "onnx"),
    Contestant("llama.cpp f32, a text at a time", "peer", "f32", "llama-alone-f32"),
    Contestant("llama.cpp f32, 512 tokens at once", "peer", "f32", "llama-batch-f32"),
    Contestant("llama.cpp Q8_0, 512 tokens at once", "peer", "q8_0", "llama-batch-q8_0"),
    *OURS,
]
# Title; how many texts for each of `--texts`; who takes part, the first being what answers are compared with.
TASKS = {
    "evaluate": ("Evaluation", 1, EVALUATE),
    "probe": ("Probing, all types", 1, [TORCH, *OURS, BESIDE]),
    "step": ("Prompt-tuning step, 16 texts", 1 / 2, [TORCH, *OURS]),
}
# How far answers may be apart; numbers of fewer bits are told and not judged.
MOST = {"evaluate": 1e-3, "gradient": 1e-3, "probe": 0.01}


def command(contestant, task, arguments):
    """What runs a contestant."""
    if contestant == BESIDE:
        task = "evaluate"
    model, threads = arguments.work / "decoder", str(arguments.threads)
    prompt = arguments.work / "decoder-prompt" if task in ("step", "gradient") else "-"
    if contestant.key:
        return [sys.executable, HERE / "decoder_peers.py", task, contestant.key, model, prompt, threads]
    return [arguments.built / "examples/speed", task, model, prompt, contestant.precision, threads]


def make(arguments):
    """What all contestants read."""
    model = arguments.work / "decoder"
    make_model(model)
    make_prompt(arguments.work / "decoder-prompt")
    if "evaluate" in arguments.tasks:
        for kind in ("f32", "q8_0"):
            make_gguf(model, kind)
        if not (model / "onnx/model.onnx").exists():
            export = [sys.executable, HERE / "decoder_peers.py", "export", "-", model, "-", "1"]
            subprocess.run(export, check=True, capture_output=True)


def first_runs(stack, task, texts, contestants, arguments):
    """Starts workers, and compares what they answer with what the first one does."""
    expected, found = None, []
    for contestant in contestants:
        worker = stack.enter_context(Worker(contestant, command(contestant, task, arguments)))
        worker.run(texts, arguments.scratch / "out.f32")
        answer = numpy.fromfile(arguments.scratch / "out.f32", dtype="<f4")
        found.append(worker)
        if expected is None:
            expected = answer
            continue
        if task == "step" or contestant == BESIDE:
            continue
        assert answer.shape == expected.shape, f"{contestant.name}: {answer.shape} instead of {expected.shape}"
        if task == "probe":
            what, difference = "share of counts that differ", float((answer != expected).mean())
        else:
            what = "largest difference from PyTorch, of the largest number"
            difference = float(numpy.abs(answer - expected).max() / numpy.abs(expected).max())
        print(f"- {contestant.name}: {what} {difference:.1e}", flush=True)
        if contestant.precision == "f32" and not difference <= MOST[task]:
            raise SystemExit(f"{contestant.name} does not do the same: {what} {difference}, at most {MOST[task]}")
    return found


def compare(task, arguments):
    """A task's table."""
    title, share, contestants = TASKS[task]
    print(f"\n### {title}\n", flush=True)
    short, texts = (arguments.scratch / name for name in ("short.txt", "texts.txt"))
    make_texts(short, 16 if task == "probe" else FEW)
    lengths = make_texts(texts, round(arguments.texts * share))
    if task == "step":
        with ExitStack() as stack:
            first_runs(stack, "gradient", short, contestants, arguments)
    with ExitStack() as stack:
        workers = first_runs(stack, task, short, contestants, arguments)
        for worker in workers:
            worker.run(texts, os.devnull)
        racers, peaks = [Racer(worker, texts, lengths, arguments.rounds) for worker in workers], []
        for number in range(arguments.rounds):
            for racer in racers:
                racer.run(number)
            peaks.append(measure_peak(arguments))
        tokens = sum(lengths) / len(lengths)
        print(f"\n{len(lengths)} texts of {tokens:.1f} tokens; peak of multiply-adds {median(peaks):.0f} GFLOP/s.\n")
        columns = ["contestant", "ms a text", "of processors", "tokens/s", *(f"{racers[place].worker.contestant.name} / it" for place in fastest(racers))]
        print_row([*columns, "peak MiB", "MiB at loading"])
        print_row(["---"] * (len(columns) + 2))
        for racer in racers:
            print_row([
                racer.worker.contestant.name,
                f"{median(racer.times) * 1000:.1f}",
                f"{median(racer.processor) * 1000:.1f}",
                f"{tokens / median(racer.times):.0f}",
                *(f"{ratio(racers[place], racer):.2f}" for place in fastest(racers)),
                f"{racer.worker.mib('VmHWM'):.0f}",
                f"{racer.worker.loading:.0f}",
            ])  # fmt: skip
        if task == "evaluate":
            packed = LAYERS * (HIDDEN * HIDDEN * 2 + 2 * HIDDEN * HIDDEN // 3 + 3 * HIDDEN * WIDTH) * 4 / 2**20
            print(f"\nPacked weights in f32: {packed:.0f} MiB; the table of {VOCABULARY} words stays in its file.")
        if task == "probe":
            ours, beside = (next(racer for racer in racers if racer.worker.contestant == one) for one in (OURS[0], BESIDE))
            print(f"\nProbing in f32 takes {ratio(ours, beside):.2f} times as long as evaluating the same texts.")


def fastest(racers):
    """PyTorch, and the fastest of llama.cpp in f32 if it takes part."""
    llama = [place for place, racer in enumerate(racers) if racer.worker.contestant.key.startswith("llama") and racer.worker.contestant.precision == "f32"]
    return [0, min(llama, key=lambda place: median(racers[place].times))] if llama else [0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--built", type=Path, default=Path("target/debug"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.tasks = arguments.tasks.split(",")
    arguments.work, arguments.built = arguments.work.resolve(), arguments.built.resolve()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(arguments.threads), RAYON_NUM_THREADS=str(arguments.threads))
    make(arguments)
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "onnxruntime", "llama-cpp-python")]
    machine = f"{cpu}, {os.cpu_count()} cores, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; Python {platform.python_version()}, {', '.join(versions)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        arguments.scratch = Path(scratch)
        for task in arguments.tasks:
            compare(task, arguments)


if __name__ == "__main__":
    main()
