"""JSON Lines read and tokenised: Python's datasets and tokenizers, and skn-data, on the same file in the same run.

    python -m venv venv && venv/bin/pip install datasets==5.2.0 tokenizers==0.23.3
    cargo build --workspace --example reading
    venv/bin/python benches/peers/reading.py --rows 1000000 --turns 3

Each turn runs both, one after the other, each in a process of its own with nothing cached; what is printed are medians of
wall time (interpreter and imports included), of processor time and of the peak of resident memory. The file and the tokenizer are made here:
words of random syllables, as frequent as Zipf's law has it, in texts as long as SST-2's; byte-level BPE trained on them.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def make(folder, rows):
    dice = random.Random(7)
    syllables = [c + v + e for c in "bcdfglmnprstvw" for v in "aeiou" for e in ("", "n", "r", "st", "l")]
    words = ["".join(dice.choices(syllables, k=dice.choice((1, 1, 2, 2, 3)))) for _ in range(30000)]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    with open(f"{folder}/train.jsonl", "w") as file:
        for row in range(rows):
            # SST-2's training phrases: 9.4 words on average, most of them shorter.
            count = min(52, 1 + int(dice.gammavariate(1.2, 7)))
            text = " ".join(dice.choices(words, cum_weights=weights, k=count))
            file.write(json.dumps({"sentence": text + " ", "label": row % 2, "idx": row}) + "\n")

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=20000, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    with open(f"{folder}/train.jsonl") as file:
        texts = [json.loads(line)["sentence"] for _, line in zip(range(50000), file)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(f"{folder}/tokenizer.json")


def python(folder):
    import datasets
    from tokenizers import Tokenizer, processors

    datasets.disable_progress_bars()
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    start, end = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", start), add_prefix_space=False)
    tokenizer.enable_truncation(128)
    with tempfile.TemporaryDirectory() as cache:
        data = datasets.load_dataset(
            "json", data_files={"train": f"{folder}/train.jsonl"}, split="train", cache_dir=cache
        )
        encode = lambda batch: {"ids": [text.ids for text in tokenizer.encode_batch_fast(batch["sentence"])]}
        data = data.map(encode, batched=True, remove_columns=["sentence", "idx"])
        column = data.data.column("ids")
        print(len(data), sum(len(chunk.flatten()) for chunk in column.chunks))


def run(command):
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = process.stdout.read().decode().split()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said


def compare(arguments):
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    folder = tempfile.mkdtemp()
    try:
        make(folder, arguments.rows)
        commands = {
            "python": [sys.executable, __file__, "--python", folder],
            "skn-data": [arguments.ours, f"{folder}/train.jsonl", f"{folder}/tokenizer.json"],
        }
        found = {name: [] for name in commands}
        for _ in range(arguments.turns):
            for name, command in commands.items():
                found[name].append(run(command))
        for name, runs in found.items():
            seconds, cpu, mib = (statistics.median(run[place] for run in runs) for place in range(3))
            rows, tokens, *parts = runs[0][3]
            print(
                f"{name:9} {rows} rows {tokens} tokens  {seconds:6.2f} s  {int(rows) / seconds:9.0f} rows/s"
                f"  {cpu:6.2f} s of processor time  {mib:6.0f} MiB  {parts}"
            )
        assert found["python"][0][3][:2] == found["skn-data"][0][3][:2], "they do not make the same tokens"
    finally:
        shutil.rmtree(folder)


parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=1_000_000)
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--ours", default="target/debug/examples/reading")
parser.add_argument("--python", metavar="FOLDER")
arguments = parser.parse_args()
python(arguments.python) if arguments.python else compare(arguments)
