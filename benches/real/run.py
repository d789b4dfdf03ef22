"""The whole method on a real decoder and real labelled text, with a check by others and a table.

    cargo build --workspace --bins
    python benches/real/run.py --work FOLDER                      # what fetch.py brought
    python benches/real/run.py --work FOLDER --csv reviews.csv --text review --label stars --classes 1,5 \\
        --words negative,positive --template 'Review: {text}\\nSentiment (positive or negative):'

Needs what fetch.py names. Of the CSV file's rows of the two classes (texts that stand there twice are left out where they have two labels, and
else taken once) as many of each are drawn, by --seed, into train (a half), dev and test (a quarter each). --words answer the
classes, in their order; the model continues the template. --model takes another decoder, a folder or a GGUF file.

Steps: the model as it is (every neuron at each text's last token; its own words), counted again by Python (check.py); a prompt
tuned behind the text; neurons perturbed, and as many random ones; pruned, tuned again; pruned to one width, which transformers loads
(check.py again). Everything is chosen on train and dev; scores are of test, with Wilson's interval of 95 %.
It leaves FOLDER/table.md and every run's folder; --page FILE puts the table into a page too, between the lines BEGIN and END of this file.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import numpy
from safetensors.numpy import load_file

import check

HERE = pathlib.Path(__file__).resolve().parent
SHARES = ["0.05", "0.3"]
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def rows_of(options):
    """Train, dev and test, each with as many rows of either class, in random order."""
    dice = random.Random(options.seed)
    labels = {}
    with open(options.csv, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        for column in (options.text, options.label):
            if column not in (reader.fieldnames or []):
                sys.exit(f"{options.csv}: expected a column {column}, found {reader.fieldnames}")
        for row in reader:
            text, label = " ".join((row[options.text] or "").split()), row[options.label]
            if text and label in options.classes:
                labels.setdefault(text, set()).add(label)
    each = options.rows // 2
    ends = [0, each // 2, each // 2 + each // 4, each]
    parts = {name: [] for name in ("train", "dev", "test")}
    for number, name in enumerate(options.classes):
        texts = [text for text, found in labels.items() if found == {name}]
        if len(texts) < each:
            sys.exit(f"{options.csv}: expected {each} texts of {options.label} {name}, found {len(texts)}")
        chosen = dice.sample(texts, each)
        for part, begin, end in zip(parts.values(), ends, ends[1:]):
            part += [(text, number) for text in chosen[begin:end]]
    for part in parts.values():
        dice.shuffle(part)
    return parts


def write_data(options, folder):
    """Three files and the task."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = rows_of(options)
    for name, part in parts.items():
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(part)
    words = json.dumps([f" {word}" for word in options.words])
    splits = "".join(f'{name} = "{name}"\n' for name in parts)
    template = json.dumps(options.template)
    task = f'name = "task"\ntemplate = {template}\nlabel = "label"\nlabels = {words}\n\n[splits]\n{splits}'
    (folder / "task.toml").write_text(task)
    return parts


class Runner:
    """Calls the programs, and remembers how long each took."""

    def __init__(self, options):
        self.options, self.times = options, []

    def __call__(self, what, program, *arguments):
        line = [str(self.options.bin / program), *map(str, arguments), "--threads", str(self.options.threads)]
        if program == "skn-select":
            line = line[:-2]
        print(f"\n$ {program} {' '.join(line[1:])}", flush=True)
        begun = time.monotonic()
        # Progress goes on as it is.
        said = subprocess.run(line + ["--progress", "none"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.times.append((what, time.monotonic() - begun))
        print(said, end="", flush=True)

    def python(self, what, call):
        begun = time.monotonic()
        result = call()
        self.times.append((what, time.monotonic() - begun))
        return result


def wilson(right, total):
    """Wilson's interval of 95 %, as the programs give it."""
    z = 1.959963984540054
    share = right / total
    middle = share + z * z / (2 * total)
    spread = z * ((share * (1 - share) + z * z / (4 * total)) / total) ** 0.5
    return [(middle - spread) / (1 + z * z / total), (middle + spread) / (1 + z * z / total)]


def score(share, interval):
    return f"{share:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def of_run(folder):
    """Accuracy on test, as the probe `speed` wrote it."""
    found = json.loads((folder / "task" / "inference_perf.json").read_text())
    return score(found["test_score"], found["interval"])


def best_neuron(folder, kind):
    """The best neuron on dev and how it does on test: (layer, index, position), dev, test."""
    dev, test = (load_file(folder / "task" / f"{split}{kind}_perf.safetensors") for split in ("dev", "test"))
    right, total = dev["correct"], int(dev["total"][0])
    shape = right.shape if right.ndim == 3 else (right.shape[0], 1, right.shape[1])
    # Of equals the first by layer, position and index; a rule that is wrong more often than right is turned round.
    best = int(numpy.argmax(numpy.maximum(right, total - right)))
    layer, position, index = (int(place) for place in numpy.unravel_index(best, shape))
    of_dev, of_test, rows = int(right.ravel()[best]), int(test["correct"].ravel()[best]), int(test["total"][0])
    if total - of_dev > of_dev:
        of_dev, of_test = total - of_dev, rows - of_test
    return (layer, index, position), of_dev / total, score(of_test / rows, wilson(of_test, rows))


def perturbed(folder, lines):
    """A line for each share: the neurons of the mask, and as many random ones."""
    skill, random_ = (json.loads((folder / name).read_text()) for name in ("mask_perf.json", "cmp_perf.json"))
    for mine, others in zip(skill, random_) if isinstance(skill, list) else [(skill, random_)]:
        share, draws = pathlib.Path(mine["mask"]).name, len(others["draws"])
        lines.append((f"the best {share} of each layer's neurons held at their means", score(mine["mean"], mine["interval"])))
        lines.append((f"as many random ones ({draws} draws)", score(others["mean"], others["interval"])))


def weighed(folder, what):
    """What skn-select says of the best neuron on dev: is it chance?"""
    found = json.loads((folder / "info" / "task" / "evidence.json").read_text())
    best, chance = found["best"][0], found["chance"]
    draws = sorted(chance["best"])
    shuffled = f"{draws[len(draws) // 2]:.3f}; {draws[-1]:.3f} at most in {len(draws):,} draws"
    discovered = f"{found['discoveries']:,} of {found['neurons']:,}"
    return f"| {what} | {best['dev']:.3f} | {best['p']:.1e} | {best['q']:.1e} | {discovered} | {shuffled} | {best['p_max']:.4f} |\n"


def damage(folder):
    """What skn-mask says of the skill neurons beside random ones on the same texts, a line for each share."""
    found, text = json.loads((folder / "cmp_perf.json").read_text()), ""
    for one in found if isinstance(found, list) else [found]:
        said, draws = one["evidence"], len(one["draws"])
        low, high = said["difference_interval"]
        text += f"| {pathlib.Path(one['mask']).name} | {said['difference']:+.3f} [{low:+.3f}, {high:+.3f}] | {said['sign_flip_p']:.4f} | "
        text += f"{said['at_least_as_damaging']} of {draws} | {said['rank_p']:.2f} |\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, help="a decoder's folder or GGUF file [default: SmolLM2's in WORK]")
    parser.add_argument("--csv", type=pathlib.Path, help="labelled text [default: WORK/tweets.csv]")
    parser.add_argument("--text", default="text", help="the column of texts")
    parser.add_argument("--label", default="sentiment", help="the column of labels")
    parser.add_argument("--classes", default="negative,positive", help="two labels, as they stand there")
    parser.add_argument("--words", default="negative,positive", help="the words that answer them")
    parser.add_argument("--template", default="Tweet: {text}\\nSentiment (positive or negative):", help="\\n ends a line")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--steps", type=int, default=125, help="of prompt tuning, 16 texts each")
    parser.add_argument("--draws", type=int, default=4, help="of random neurons")
    parser.add_argument("--shuffles", type=int, default=200, help="of labels")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--page", type=pathlib.Path, help="a page whose table is replaced, such as docs/real-model.md")
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parent.parent / "target" / "debug", help="the programs")
    options = parser.parse_args()
    work = options.work
    options.model = options.model or work / "SmolLM2-135M-Instruct.Q4_1.gguf"
    options.csv = options.csv or work / "tweets.csv"
    options.classes, options.words = options.classes.split(","), options.words.split(",")
    options.template = options.template.replace("\\n", "\n")
    if options.page and not {BEGIN, END} <= set(options.page.read_text().splitlines(keepends=True)):
        sys.exit(f"{options.page}: expected the lines {BEGIN.strip()} and {END.strip()}")
    if len(options.classes) != 2 or len(options.words) != 2 or options.template.count("{") != 1 or "{text}" not in options.template:
        sys.exit("expected two --classes, two --words and a --template whose one brace is {text}")

    data, plain, tuned, small, again, uniform = (work / name for name in ("data", "untuned", "tuned", "pruned", "retuned", "uniform"))
    for folder in (data, plain, tuned, small, again, uniform):
        shutil.rmtree(folder, ignore_errors=True)
    parts = write_data(options, data)
    run = Runner(options)
    subject = ["--model", options.model, "--task-file", data / "task.toml", "--data", data]

    # The model as it is.
    run("untuned: every neuron, the model's words", "skn-run", "--untuned", *subject, "--out", plain)
    found = run.python("the same in Python, and shuffles", lambda: check.recount(options.model, parts, options, plain / "task"))

    # A prompt behind the text.
    training = ["--bz", 16, "--epoch", 1000, "--lr", "0.01"]
    run("prompt tuned", "skn-train", *subject, *training, "--max-steps", options.steps, "--eval_every_step", options.steps // 2 or 1, "--out", tuned)
    probe = ["--probe_type", "acc,speed", "--repeats", 1, "--fire-bits"]
    run("tuned: every neuron at the prompt", "skn-probe", "-p", "--resume_from", tuned, *probe, "--out", tuned)
    run("", "skn-select", "-a", tuned / "task" / "dev_perf", "--shares", ",".join(SHARES), "--out", tuned)
    masks = ",".join(str(tuned / "info" / "task" / share) for share in SHARES)
    averages = tuned / "task" / "train_avg"
    run("perturbed, and random neurons", "skn-mask", "-p", "--resume_from", tuned, "--info_path", masks, "--type", "mean", "--ths_path", averages,
        "--cmp", "--draws", options.draws, "--out", tuned)  # fmt: skip

    # Pruned.
    prune = ["--resume_from", tuned, "--info_path", tuned / "info" / "task" / SHARES[-1], "--ths_path", averages, "--round-width", 16]
    speed = ["--probe_type", "speed", "--repeats", 1]
    run("pruned", "skn-prune", *prune, "--out", small)
    run("", "skn-probe", "-p", "--resume_from", small, *speed, "--out", small)
    run("pruned and tuned again", "skn-train", "-p", "--resume_from", small, *training, "--max-steps", options.steps, "--out", again)
    run("", "skn-probe", "-p", "--resume_from", again, *speed, "--out", again)
    run("pruned to one width", "skn-prune", *prune, "--uniform", "--out", uniform)
    run("", "skn-probe", "-p", "--resume_from", uniform, *speed, "--out", uniform)
    apart = run.python("one width in transformers", lambda: check.others(uniform, parts["test"], options))

    write_table(options, run, found, apart)


def write_table(options, run, found, apart):
    work = options.work
    plain, tuned = work / "untuned", work / "tuned"
    lines = [("the model's own words, untuned", of_run(plain))]
    for kind, at in (("_last", "at the last token"), ("_mean", "mean over the text")):
        (layer, index, _), dev, test = best_neuron(plain, kind)
        lines.append((f"best neuron, untuned, {at}: layer {layer}, index {index} (dev {dev:.3f})", test))
    five = found["five"]
    lines.append(("the five best by majority, untuned, last token", score(five[0] / five[1], wilson(*five))))
    lines.append(("prompt tuned", of_run(tuned)))
    (layer, index, position), dev, test = best_neuron(tuned, "")
    lines.append((f"best neuron, tuned: layer {layer}, index {index}, position {position} (dev {dev:.3f})", test))
    perturbed(tuned, lines)
    lines += [("pruned", of_run(work / "pruned")), ("pruned and tuned again", of_run(work / "retuned")), ("pruned to one width", of_run(work / "uniform"))]
    text = f"| of {found['test_rows']} test texts | accuracy |\n|---|---|\n"
    text += "".join(f"| {what} | {value} |\n" for what, value in lines)
    text += f"\nThe best of all neurons on dev with shuffled labels: {found['null_mean']:.3f} on average, {found['null_most']:.3f} at most in {found['shuffles']} draws; "
    text += f"with the real ones {found['observed']:.3f} (p = {found['p']:.4f}).\n"
    text += "\nWhat the programs say of chance (`skn-select`, fire bits of dev):\n\n"
    text += "| best neuron | dev | p | q | neurons with q <= 0.05 | best of all, labels shuffled: median | p_max |\n|---|---|---|---|---|---|---|\n"
    text += weighed(plain, "untuned, last token") + weighed(tuned, "tuned, at the prompt")
    text += "\nWhat they say of the damage (`skn-mask --cmp`, right answers on the same test texts, skill less random):\n\n"
    text += "| share | difference | sign flips, p | random choices that do as much | rank p |\n|---|---|---|---|---|\n" + damage(tuned)
    text += f"\nCounted again by Python: {found['same']} of {found['neurons']} neurons have the same counts on dev and test, the ten best among them; "
    text += f"averages differ by at most {found['averages']:.1e}. Answers of the model of one width in transformers differ by at most {apart:.1e}.\n\n"
    text += "| step | s |\n|---|---|\n" + "".join(f"| {what} | {seconds:.0f} |\n" for what, seconds in merged(run.times))
    text += f"| all | {sum(seconds for _, seconds in run.times):.0f} |\n"
    said = f"{options.rows} rows, {options.steps} steps of tuning, {options.threads} threads, load {os.getloadavg()[0]:.1f} at the end:\n\n"
    text = said + text
    (work / "table.md").write_text(text)
    if options.page:
        before, _, behind = options.page.read_text().partition(BEGIN)
        options.page.write_text(before + BEGIN + "\n" + text + "\n" + END + behind.partition(END)[2])
    print("\n" + text)


def merged(times):
    """A step without a name belongs to the one before it."""
    rows = []
    for what, seconds in times:
        if what:
            rows.append([what, seconds])
        else:
            rows[-1][1] += seconds
    return rows


if __name__ == "__main__":
    main()
