"""What run.py asks Python to count again: activations of transformers, counts and shuffles of numpy. Nothing of skn is called but the
files that its programs wrote are read."""

import json
import os
import subprocess

# Before transformers is there: it shows bars while it reads a GGUF file.
os.environ["TQDM_DISABLE"] = "1"

import numpy
import torch
import transformers
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def last_activations(folder, texts, threads, batch=16):
    """Inputs of each layer's second matrix at the last token of each text: [N, L, F]."""
    torch.set_num_threads(threads)
    place = {"pretrained_model_name_or_path": folder}
    if folder.is_file():
        place = {"pretrained_model_name_or_path": folder.parent, "gguf_file": folder.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    layers, seen = model.model.layers, {}
    for number, layer in enumerate(layers):
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, given, number=number: seen.__setitem__(number, given[0]))
    ids = [tokenizer(text)["input_ids"] for text in texts]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    found = numpy.zeros((len(ids), len(layers), model.config.intermediate_size), dtype=numpy.float32)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        longest = max(len(ids[row]) for row in rows)
        # Padding stands behind, where no row of a text sees it.
        padded = torch.tensor([ids[row] + [0] * (longest - len(ids[row])) for row in rows])
        last = torch.tensor([len(ids[row]) - 1 for row in rows])
        with torch.no_grad():
            model.model(input_ids=padded, use_cache=False)
        for number in range(len(layers)):
            found[rows, number] = seen[number][torch.arange(len(rows)), last].numpy()
    return found


def recount(folder, parts, options, ours):
    """Averages, counts and the null of the maximum, from transformers' activations."""
    texts = [options.template.replace("{text}", text) for part in parts.values() for text, _ in part]
    labels = {name: numpy.array([label for _, label in part]) for name, part in parts.items()}
    ends = numpy.cumsum([len(part) for part in parts.values()])[:-1]
    activations = dict(zip(parts, numpy.split(last_activations(folder, texts, options.threads), ends)))
    averages = load_file(ours / "train_last_avg.safetensors")["train_avg"]
    apart = numpy.abs(activations["train"].mean(axis=0, dtype=numpy.float64) - averages).max()
    assert apart < 1e-4, f"averages are {apart} apart"
    fires = {name: activations[name] > averages for name in ("dev", "test")}
    counts, theirs = {}, {}
    for name in ("dev", "test"):
        counts[name] = (fires[name] == (labels[name] == 1)[:, None, None]).sum(axis=0)
        theirs[name] = load_file(ours / f"{name}_last_perf.safetensors")["correct"]
    total = len(labels["dev"])
    right = numpy.maximum(counts["dev"], total - counts["dev"]).ravel()
    # Of equals the first, by layer and index.
    best = numpy.argsort(-right, kind="stable")[:10]
    for name in ("dev", "test"):
        here, there = counts[name].ravel()[best], theirs[name].ravel()[best]
        assert (here == there).all(), f"{name}: the ten best neurons: {here} here, {there} by skn"
    # The first of them is what skn-run reports.
    said, turned = json.loads((ours.parent / "summary.json").read_text())["best_neuron"], counts["dev"].ravel()[best[0]] * 2 < total
    share = {name: counts[name].ravel()[best[0]] / len(labels[name]) for name in counts}
    expected = {name: 1 - value if turned else value for name, value in share.items()}
    layer, index = divmod(int(best[0]), averages.shape[1])
    assert (said["layer"], said["index"]) == (layer, index), f"best neuron: {layer}, {index} here, {said} by skn"
    assert all(abs(said[name] - expected[name]) < 1e-9 for name in expected), f"best neuron: {expected} here, {said} by skn"
    same = numpy.logical_and(counts["dev"] == theirs["dev"], counts["test"] == theirs["test"]).sum()
    # Elsewhere an activation lies so near the average that the last bits decide.
    most = max(int(numpy.abs(counts[name] - theirs[name]).max()) for name in counts)
    assert most <= 1 + total // 200, f"a neuron's counts are {most} apart"
    null = null_of_the_best(fires["dev"].reshape(total, -1), labels["dev"], options)
    observed = right.max() / total
    return {
        "same": int(same), "neurons": right.size, "averages": apart, "five": majority(fires["test"], labels["test"], counts["dev"], best[:5], total),
        "null_mean": null.mean(), "null_most": null.max(), "shuffles": len(null), "observed": observed,
        "p": (1 + (null >= observed).sum()) / (1 + len(null)), "test_rows": len(labels["test"]),
    }  # fmt: skip


def null_of_the_best(fires, labels, options):
    """What the best of all neurons reaches when labels mean nothing: [shuffles]."""
    dice = numpy.random.default_rng(options.seed)
    shuffled = numpy.stack([dice.permutation(labels) for _ in range(options.shuffles)]).astype(numpy.float32)
    # Right where it fires and the label is 1, and where neither is: products of zeros and ones, exact below 2^24.
    fires = fires.astype(numpy.float32)
    both = shuffled @ fires
    right = 2 * both + len(labels) - shuffled.sum(axis=1, keepdims=True) - fires.sum(axis=0)
    return numpy.maximum(right, len(labels) - right).max(axis=1) / len(labels)


def majority(fires, labels, of_dev, best, total):
    """How many texts the neurons answer by majority, each the way that was right on dev; and of how many."""
    votes = fires.reshape(len(labels), -1)[:, best]
    turned = of_dev.ravel()[best] * 2 < total
    said = (votes ^ turned).sum(axis=1) * 2 > len(best)
    return int((said == (labels == 1)).sum()), len(labels)


def others(run, part, options):
    """How far skn's and stock transformers' probabilities of the words are apart, of a pruned model with its prompt behind the text."""
    folder = run / "best"
    prompt = torch.tensor(load_file(folder / "prompt.safetensors")["prompt_embeddings"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    unknown = [found[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if found.get(what)]
    assert not unknown, unknown
    model.eval()
    words = [tokenizer.encode(f" {word}")[0] for word in options.words]
    texts = [text for text, _ in part[:32]]
    apart = 0.0
    for text, ours in zip(texts, answers(run, texts, options)):
        text = options.template.replace("{text}", text)
        with torch.no_grad():
            rows = torch.cat([model.get_input_embeddings()(torch.tensor(tokenizer.encode(text))), prompt])
            logits = model(inputs_embeds=rows[None]).logits[0, -1, words]
        theirs = torch.softmax(logits.double(), -1).numpy()
        apart = max(apart, float(numpy.abs(theirs - ours).max()))
    assert apart < 2e-5, f"answers are {apart} apart"
    return apart


def answers(run, texts, options):
    """Probabilities that skn-predict gives."""
    line = [str(options.bin / "skn-predict"), "--resume_from", str(run), "--input", "-", "--json"]
    said = subprocess.run(line, input="\n".join(texts) + "\n", capture_output=True, text=True, check=True).stdout
    return numpy.array([answer["probabilities"] for answer in json.loads(said)])
