#!/usr/bin/env python3
"""Makes the cases of tests/families.rs: what Hugging Face transformers says of small random models, in float64.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2 \
        safetensors==0.8.0 numpy==2.4.6
    python tests/families/make.py                      # the cases beside this file
    python tests/families/make.py --model DIR CASE     # a case of a model that you have

A case is a folder with a model (config.json, model.safetensors, tokenizer.json), case.json and expected.safetensors.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers, trainers, Tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
PROMPT_ROWS = 5  # the mask row and four more
WORDS = ["negative", "positive", "maybe"]
TEXTS = [
    ["The play is dull, and the ending was awful."],
    ["A superb film!", "I liked the film."],
    [""],
    ["Où est la gare ? L'été fut très chaud… déjà vu", "Naïve café, Zürich; 12,345 ﬁne unknown☃ words"],
    ["  two  blanks\tand a tab "],
    ["the singer was good . " * 12, "he hated the band and the melody . " * 12],
    ["the band was good . " * 30],
]
FRENCH = [
    "le film est très bon .", "la pièce est mauvaise .", "où est la gare ?", "l' été fut chaud et la gare déjà vide .",
    "je déteste ce groupe .", "une mélodie superbe , un café .",
]


def lines():
    """The demo's texts, a few of our own, and the words that answer, often enough to become tokens."""
    found = []
    for task in ["sentiment", "inference"]:
        for line in (HERE.parent.parent / "data/tasks" / task / "train.jsonl").read_text().splitlines()[:400]:
            row = json.loads(line)
            found += [text for column, text in row.items() if column != "label"]
    for text in FRENCH * 40 + [" ".join(WORDS)] * 200 + ["yes no"] * 200:
        found.append(text)
    for text in TEXTS:
        found += [part for part in text if part.strip()]
    return found


def wordpiece(folder):
    if (folder / "vocab.txt").exists():
        # Remove it to train anew; the trainer's ties come out otherwise each time.
        return save_wordpiece(folder)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # The snowman stays unknown.
    texts = [text.replace("☃", "") for text in lines()]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=330, special_tokens=special))
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    save_wordpiece(folder)


def save_wordpiece(folder):
    vocabulary = (folder / "vocab.txt").read_text().split("\n")[:-1]
    ids = {token: id for id, token in enumerate(vocabulary)}
    transformers.BertTokenizer(vocab=ids).save_pretrained(folder)


def unigrams(folder, camembert):
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "text").write_text("\n".join(text.replace("☃", "") for text in lines()))
        # A small table in place of NFKC's, of which the model file would have 240 kB.
        rules = {"ﬁ": "fi", "…": "...", "\t": " ", "\u00a0": " ", "ａ": "a"}
        code = lambda text: " ".join(f"{ord(c):X}" for c in text)
        (work / "rules.tsv").write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in rules.items()))
        sentencepiece.SentencePieceTrainer.train(
            input=str(work / "text"), model_prefix=str(work / "m"), vocab_size=330, num_threads=1,
            normalization_rule_tsv=str(work / "rules.tsv"), minloglevel=2, hard_vocab_limit=False,
        )
        proto = sentencepiece_model_pb2.ModelProto.FromString((work / "m.model").read_bytes())
    pieces = [(piece.piece, piece.score) for piece in proto.pieces][3:]  # without <unk> <s> </s>
    # So small a vocabulary has few whole words; those that answer must be there.
    answers = [f"▁{word}" for word in WORDS + ["yes", "no"]]
    pieces = [(piece, score) for piece, score in pieces if piece not in answers] + [(piece, -4.0) for piece in answers]
    if camembert:
        special = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
        vocabulary = special + [("<s>", 0.0), ("</s>", 0.0)] + pieces + [("<mask>", 0.0)]
        kind = transformers.CamembertTokenizer
    else:
        special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        vocabulary = special + pieces + [("<mask>", 0.0)]
        kind = transformers.XLMRobertaTokenizer
    kind(vocab=vocabulary, _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap).save_pretrained(folder)


def model(folder, model_type, seed):
    """A random model that is far from linear, of this tokenizer's size."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), hidden_size=24, num_attention_heads=3, num_hidden_layers=3,
        intermediate_size=32, max_position_embeddings=42 if model_type != "bert" else 40,
        type_vocab_size=2 if model_type == "bert" else 1, layer_norm_eps=1e-12 if model_type == "bert" else 1e-5,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
    )
    torch.manual_seed(seed)
    built = AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            norm = "orm.weight" in name
            parameter.copy_(torch.randn(parameter.shape) * (0.1 if norm else 0.25) + (1.0 if norm else 0.0))
    built.save_pretrained(folder)
    # Differs from version to version, and nothing reads it.
    for name in ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]:
        (folder / name).unlink(missing_ok=True)


class Oracle:
    """transformers' model in float64, looked into at every FFN."""

    def __init__(self, folder, head, **changes):
        kind = AutoModelForMaskedLM if head else AutoModel
        self.model = kind.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", **changes).eval()
        self.encoder = self.model.base_model
        self.head = head
        self.seen = []
        for layer in self.encoder.encoder.layer:
            layer.intermediate.register_forward_hook(lambda _, __, output: self.seen.append(output[0].numpy()))

    @torch.no_grad()
    def run(self, ids, types, before):
        """Activations [L, rows, F] and logits [rows, vocabulary] of `before` [n, H] and then a text."""
        words = self.encoder.get_input_embeddings()(torch.tensor(ids))
        rows = torch.cat([before, words])[None]
        types = torch.tensor([0] * len(before) + types)[None]
        self.seen.clear()
        output = self.model(inputs_embeds=rows, token_type_ids=types, attention_mask=torch.ones(rows.shape[:2]))
        return np.stack(self.seen), output.logits[0].numpy() if self.head else None


def expected(folder, prompt_seed=7, changes=()):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with_head = any("MaskedLM" in name for name in AutoConfig.from_pretrained(folder).architectures or [])
    oracle = Oracle(folder, with_head)
    config = oracle.model.config
    first = 0 if config.model_type == "bert" else config.pad_token_id + 1
    cut = config.max_position_embeddings - first - PROMPT_ROWS
    tensors, ids, types = {}, [], []
    for text in TEXTS:
        encoded = tokenizer(*text, truncation="longest_first", max_length=cut, return_token_type_ids=True)
        ids.append(encoded["input_ids"])
        types.append(encoded["token_type_ids"])
    padded = lambda rows: np.array([row + [-1] * (max(map(len, rows)) - len(row)) for row in rows], np.int64)
    tensors["ids"], tensors["types"] = padded(ids), padded(types)

    embeddings = oracle.encoder.get_input_embeddings().weight.detach()
    mask = embeddings[tokenizer.mask_token_id][None]
    generator = torch.Generator().manual_seed(prompt_seed)
    prompt = (torch.randn(PROMPT_ROWS - 1, config.hidden_size, generator=generator) * 0.3).float()
    tensors["prompt"] = prompt.numpy()
    before = {"prompt": torch.cat([mask, prompt.double()]), "mask": mask, "plain": mask[:0]}
    words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    tensors["word_ids"] = np.array([word[0] for word in words], np.int64)
    assert all(len(word) == 1 for word in words), words
    for layout in ["prompt", "mask"]:
        rows = before[layout]
        runs = [oracle.run(*text, rows) for text in zip(ids, types)]
        if layout == "prompt":
            tensors["prompt.activations"] = np.concatenate([activations for activations, _ in runs], axis=1)
        if with_head:
            tensors[f"{layout}.logits"] = np.stack([logits[0][tensors["word_ids"]] for _, logits in runs])
    if with_head:
        # As the model was pre-trained: a masked word in a text, the whole vocabulary.
        masked = tokenizer(f"the film was {tokenizer.mask_token} .")["input_ids"]
        place = masked.index(tokenizer.mask_token_id)
        tensors["masked.ids"] = np.array(masked, np.int64)
        tensors["masked.logits"] = oracle.run(masked, [0] * len(masked), before["plain"])[1][place]
    for activation in changes:
        other = Oracle(folder, with_head, hidden_act=activation)
        runs = [other.run(*text, before["prompt"]) for text in zip(ids, types)]
        tensors[f"{activation}.logits"] = np.stack([logits[0][tensors["word_ids"]] for _, logits in runs])
    if config.model_type == "bert" and (folder / "vocab.txt").exists():
        vocabulary = {token: id for id, token in enumerate((folder / "vocab.txt").read_text().split("\n")[:-1])}
        cased = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=False)
        tensors["cased.ids"] = padded([cased(*text, truncation="longest_first", max_length=cut)["input_ids"] for text in TEXTS])
    write(folder, tensors, with_head, cut)


def write(folder, tensors, with_head, cut):
    half = lambda array: array if array.dtype == np.int64 else array.astype(np.float32)
    save_file({name: np.ascontiguousarray(half(array)) for name, array in tensors.items()}, folder / "expected.safetensors")
    versions = {module.__name__: module.__version__ for module in [torch, transformers]}
    case = {"texts": TEXTS, "words": WORDS, "head": with_head, "max_tokens": cut, "made_by": versions}
    (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", nargs=2, type=Path, metavar=("DIR", "CASE"))
    chosen = arguments.parse_args().model
    torch.set_num_threads(1)
    if chosen:
        source, case = chosen
        case.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(source):
            if (source / name).is_file() and not (case / name).exists():
                (case / name).symlink_to((source / name).resolve())
        return expected(case)
    for seed, model_type in enumerate(["bert", "xlm-roberta", "camembert"]):
        folder = HERE / model_type
        folder.mkdir(exist_ok=True)
        wordpiece(folder) if model_type == "bert" else unigrams(folder, model_type == "camembert")
        model(folder, model_type, seed)
        expected(folder, changes=["relu", "gelu_new"])


if __name__ == "__main__":
    main()
