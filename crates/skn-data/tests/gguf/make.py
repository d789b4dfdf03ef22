#!/usr/bin/env python3
"""Makes the GGUF files of this folder, which hold a tokenizer and nothing else, and what the tokenizers of their models make of texts.

    pip install gguf==0.19.0 transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3
    python make.py

One small vocabulary is trained on text that is made here, and written under each name that files have for how texts are parted.
`cases.json` has the ids of each text: as transformers' class gives them where the family has one (GPT-2, Qwen 2, GPT-NeoX), else as the
parts of the published tokenizer.json give them (SmolLM2, Llama 3). pieces.gguf is a SentencePiece model, as Llama 2 has one.
"""

import json
import random
import tempfile
from pathlib import Path

import gguf
import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer, GPTNeoXTokenizer, Qwen2Tokenizer
from transformers.tokenization_utils_base import generate_merges

HERE = Path(__file__).parent
WORDS = ("the play is dull and long a song that was superb mind gap cinema I'm you'll we've DON'T don't Zürich naïve café 2024 1999 "
         "12345 7 42 x1y2 日本語 Привет don’t can't").split()
TEXTS = ["", " ", "  ", "\n", "\t\n \r\n", "the play is dull", " The Play", "in 1999 and 2024, 12345678 times", "x1y2z3 4.5e6",
         "I'm sure you'll say we've DON'T DON'Ts", "Zürich naïve café", "Zu\u0308rich nai\u0308ve cafe\u0301", "日本語のテキスト 42円", "Привет, мир! 2024",
         "🙂👩\u200d👩\u200d👧 ok 7", "two  blanks\tand\nline ", "trailing   ", "a\u00a0b\u3000c", "½ ² ٣٤٥ Ⅷ", "don’t can't", "!!! ... ---- ==>",
         "https://example.org/a?b=1&c=22", "quux quuxquux Quux", "line\n\n\nend", "mixed123abc456", "<|end|>", "say <|end|> and <|begin|>the",
         "a<br>b <br> c", "é e\u0301 ﬁ ①", "مرحبا بالعالم ٢٠٢٤", "नमस्ते १२३", "\u200b\ufeffx", "'s 't 're", "S's", "0" * 17, "the the\nthe\n the",
         "{\"a\": [1, 22, 333]}", "A.B.C. 1,000,000", "say </s>the <s> play", "tab\tseparated\tvalues\t9", "end."]
CONTROL, USER = ["<|end|>", "<|begin|>"], ["<br>"]


def train():
    dice = random.Random(3)
    corpus = [" ".join(dice.choice(WORDS) for _ in range(12)) for _ in range(400)]
    corpus += ["1999 2024 12345 the\n\nplay  is   dull"] * 50
    tokenizer = Tokenizer(models.BPE())
    # Not parted by kinds of letters, so that there are merges across digits and marks which only a parting keeps from use.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "merged_with_next"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    # A token that no merge makes.
    vocab["Ġquux"] = len(vocab)
    return vocab, merges


def plain(vocab, merges, parts, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def bytes_of(regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=regex)


def reference(name, vocab, merges):
    special = dict(unk_token="<|end|>", bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>")
    classes = {"gpt-2": GPT2Tokenizer, "gpt-2-space": GPT2Tokenizer, "qwen2": Qwen2Tokenizer, "neox": GPTNeoXTokenizer,
               "olmo": GPTNeoXTokenizer}
    if name in classes:
        space = dict(add_prefix_space=True) if name == "gpt-2-space" else {}
        tokenizer = classes[name](vocab=dict(vocab), merges=list(merges), **special, **space).backend_tokenizer
    elif name == "smollm":
        tokenizer = plain(vocab, merges, [pre_tokenizers.Digits(individual_digits=True), bytes_of(True)])
    else:
        tokenizer = plain(vocab, merges, [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), bytes_of(False)], ignore_merges=True)
        begin = ("<|begin|>", vocab["<|begin|>"])
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1",
                                                                 special_tokens=[begin])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in USER])
    assert all(tokenizer.token_to_id(token) == vocab[token] for token in CONTROL + USER)
    return tokenizer


def write(path, architecture, pre, vocab, merges, more):
    tokens = sorted(vocab, key=vocab.get)
    kind = lambda token: (gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.USER_DEFINED if token in USER
                          else gguf.TokenType.NORMAL)
    types = [kind(token) for token in tokens] + [gguf.TokenType.UNUSED] * 3
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + ["[PAD0]", "[PAD1]", "[PAD2]"])
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(vocab["<|begin|>"])
    writer.add_eos_token_id(vocab["<|end|>"])
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def pieces():
    """A vocabulary of SentencePiece's BPE, trained as Llama's was. What it makes of a text is what sentencepiece itself makes of it; of special
    tokens that stand in a text, which that takes for text, what the tokenizer makes of it that transformers' converter makes."""
    dice = random.Random(4)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text("\n".join(" ".join(dice.choice(WORDS) for _ in range(12)) for _ in range(400)) + "\n")
        spm.SentencePieceTrainer.train(input=str(text), model_prefix=f"{folder}/m", model_type="bpe", vocab_size=420, byte_fallback=True,
                                       split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                                       allow_whitespace_only_pieces=True, character_coverage=0.99, minloglevel=2)
        model = spm.SentencePieceProcessor(model_file=f"{folder}/m.model")
    kind = lambda id: (gguf.TokenType.UNKNOWN if model.is_unknown(id) else gguf.TokenType.CONTROL if model.is_control(id)
                       else gguf.TokenType.BYTE if model.is_byte(id) else gguf.TokenType.NORMAL)
    tokens = [model.id_to_piece(id) for id in range(model.get_piece_size())]
    scores = [model.get_score(id) for id in range(len(tokens))]
    writer = gguf.GGUFWriter(HERE / "pieces.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types([kind(id) for id in range(len(tokens))])
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    vocab = {token: id for id, token in enumerate(tokens)}
    merges = generate_merges(vocab, dict(zip(tokens, scores)), skip_tokens=["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ["<unk>", "<s>", "</s>"]])
    ids = [[model.bos_id(), *tokenizer.encode(text).ids] for text in TEXTS]
    for text, found in zip(TEXTS, ids):
        assert "</s>" in text or found == [model.bos_id(), *model.encode(text)], text
    return {"name": "pieces", "size": len(tokens), "ids": ids}


def main():
    vocab, merges = train()
    for token in CONTROL + USER:
        vocab[token] = len(vocab)
    nothing = lambda writer: None
    files = {
        "gpt-2": ("gpt2", "gpt-2", nothing),
        "gpt-2-space": ("gpt2", "gpt-2", lambda writer: writer.add_add_space_prefix(True)),
        "qwen2": ("qwen3", "qwen2", lambda writer: writer.add_add_bos_token(False)),
        "neox": ("gptneox", "gpt-2", nothing),
        "olmo": ("llama", "olmo", nothing),
        "smollm": ("llama", "smollm", lambda writer: (writer.add_add_space_prefix(False), writer.add_add_bos_token(False))),
        "llama-bpe": ("llama", "llama-bpe", nothing),
    }
    cases = []
    for name, (architecture, pre, more) in files.items():
        write(HERE / f"{name}.gguf", architecture, pre, vocab, merges, more)
        tokenizer = reference(name, vocab, merges)
        cases.append({"name": name, "size": len(vocab), "ids": [tokenizer.encode(text).ids for text in TEXTS]})
    cases.append(pieces())
    lines = [json.dumps(case, ensure_ascii=False) for case in cases]
    whole = "{\"texts\": " + json.dumps(TEXTS) + ",\n\"cases\": [\n" + ",\n".join(lines) + "]}\n"
    (HERE / "cases.json").write_text(whole)


if __name__ == "__main__":
    main()
