"""What all contestants of speed.py get: a model of RoBERTa-base's shape with random weights, a prompt, texts as token ids."""

import json
import random
from pathlib import Path

import numpy
from safetensors.numpy import save_file

HIDDEN, LAYERS, WIDTH, HEADS, VOCABULARY, POSITIONS = 768, 12, 3072, 12, 50265, 514
MASK = VOCABULARY - 1
PROMPT = 16  # rows before every text, the <mask> row counted
VERBALIZER = [100, 200]  # the tokens that answer for the two classes
BATCH = 16

# Tokens without <s> and </s> are log-normal: median, spread, and the most tokens that a text has.
LENGTHS = {"sst2-train": (8.5, 0.75, 66), "sst2-dev": (21, 0.5, 66), "imdb": (230, 0.7, 512 - PROMPT)}


def make_model(folder):
    """config.json, model.safetensors and tokenizer.json; the same at every call."""
    if (folder / "tokenizer.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": WIDTH, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 1, "initializer_range": 0.02, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    dice = numpy.random.default_rng(7)
    # Weights are drawn as RoBERTa's were; the factors of LayerNorms are 1.
    draw = lambda name, shape: dice.normal(0, 0.02, shape) + name.endswith("Norm.weight") + name.endswith("norm.weight")
    tensors = {name: draw(name, shape).astype(numpy.float32) for name, shape in shapes().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False))


def shapes():
    found = {
        "roberta.embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "roberta.embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "roberta.embeddings.token_type_embeddings.weight": (1, HIDDEN),
        "roberta.embeddings.LayerNorm.weight": (HIDDEN,),
        "roberta.embeddings.LayerNorm.bias": (HIDDEN,),
        "lm_head.bias": (VOCABULARY,),
        "lm_head.layer_norm.weight": (HIDDEN,),
        "lm_head.layer_norm.bias": (HIDDEN,),
    }
    dense = {"lm_head.dense": (HIDDEN, HIDDEN)}
    for layer in range(LAYERS):
        name = f"roberta.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            dense[f"{name}.{part}"] = (HIDDEN, HIDDEN)
        dense[f"{name}.intermediate.dense"] = (WIDTH, HIDDEN)
        dense[f"{name}.output.dense"] = (HIDDEN, WIDTH)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"{name}.{part}.weight"] = found[f"{name}.{part}.bias"] = (HIDDEN,)
    for name, (outputs, inputs) in dense.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)
    return found


def tokenizer():
    """Byte-level BPE with as many tokens and merges as RoBERTa has, of no language: it costs what the real one does to load."""
    dice = random.Random(7)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    known, merges = set(tokens), []
    while len(tokens) < VOCABULARY - 5:
        left, right = dice.choice(tokens), dice.choice(tokens)
        if len(left + right) <= 12 and left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            merges.append([left, right])
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: id for id, token in enumerate(special + tokens + ["<mask>"])}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **added} for token in [*special, "<mask>"]],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "post_processor": {**byte_level, "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": None, "dropout": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False},
    }  # fmt: skip


def make_prompt(folder, rows):
    """A soft prompt in the form that PEFT saves."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "PROMPT_TUNING", "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": "model",
        "num_virtual_tokens": len(rows), "token_dim": rows.shape[1], "num_layers": LAYERS, "num_attention_heads": HEADS,
        "num_transformer_submodules": 1, "prompt_tuning_init": "RANDOM", "inference_mode": True,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    save_file({"prompt_embeddings": rows.astype(numpy.float32)}, folder / "adapter_model.safetensors")


def random_prompt(hidden):
    """Drawn as a prompt is before it is trained."""
    return numpy.random.default_rng(8).normal(0, 1 / 30, (PROMPT, hidden))


def make_texts(file, lengths, count):
    """`count` texts, each a line: class, token ids. Returns their lengths."""
    dice = random.Random(9)
    median, spread, longest = LENGTHS[lengths]
    texts = []
    for _ in range(count):
        length = min(longest, max(3, 2 + round(dice.lognormvariate(0, spread) * median)))
        texts.append([0, *(dice.randrange(5, MASK) for _ in range(length - 2)), 2])
    lines = (" ".join(map(str, [row % 2, *ids])) for row, ids in enumerate(texts))
    Path(file).write_text("\n".join(lines) + "\n")
    return [len(ids) for ids in texts]


def read_texts(file):
    lines = (list(map(int, line.split())) for line in open(file))
    return [(label, ids) for label, *ids in lines]


def batches(lengths, by_length):
    """Indexes of the texts of each batch: in the order of the file, or with texts of about the same length together."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__) if by_length else list(range(len(lengths)))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def padded(lengths, by_length):
    """For each text, the rows that a padded batch computes for it, prompt included."""
    of_batch = ((batch, max(lengths[row] for row in batch)) for batch in batches(lengths, by_length))
    return [PROMPT + longest for batch, longest in of_batch for _ in batch]
