"""Makes the tokenizers of this folder, and what transformers makes of texts with them.

    python make.py             # transformers 5.24, tokenizers 0.23
    python make.py --train     # the tokenizers too, which come out otherwise each time

Four small tokenizers are trained on text that is made here, one for each family, and saved in `roberta`, `bert`,
`xlm-roberta` and `camembert`. `cases.json` has the variants: which files of a base are left out, which keys of them are
replaced, which files are written beside them; and the ids of each text, as `AutoTokenizer` gives them for such a folder, or
the message that is expected where such a folder is refused.

Where transformers 4 and 5 differ, `asked` has the changes that make transformers 5 do what transformers 4 did, and says why
in `because`. Those changes are made only here, when transformers is asked.
"""

import copy
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
WORDS = (
    "the play is dull and long a song that was superb mind gap cinema actor never Zürich naïve café garçon Élan "
    "story plot warm cold bright text The Play Is two blanks line ok so x user"
).split()
BMP = "日本語🙂"


def corpus():
    dice = random.Random(5)
    for _ in range(400):
        yield " ".join(dice.choice(WORDS) for _ in range(12)) + dice.choice([".", "!", " " + BMP])


LONG = "the play is dull and long, a song that was superb; never mind the gap in the plot"
SINGLE = [
    "", " ", "the play is dull", " The Play", "Zürich naïve Élan", "mind <mask> the gap", "mind [MASK] the gap",
    "so <s>x</s> [SEP] [CLS] <pad> [PAD]", "the [USER]play[USER]x ", "say <cls>a<sep> [M] it <m> so", "日本語 text", "🙂 ok",
    "two  blanks\tand\nline ", "e\u0301 cafe\u0301", "<s>NOTUSED x",
]
PAIRS = [("the play", "a song"), ("", "b"), ("a", ""), ("Zürich <mask>", " [MASK] The play ")]
CUT = [(LONG, None, 7), (LONG, None, 2 + 6), (LONG, "a song", 12), ("a song", LONG, 12), (LONG, LONG, 11)]
ASKED = [(text, None, None) for text in SINGLE] + [(*pair, None) for pair in PAIRS] + CUT


def added(token, id=None, **flags):
    whole = {"content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {**({} if id is None else {"id": id}), **whole, **flags}


def save(name, tokenizer, takes_space):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    whole = json.loads(tokenizer.to_str())
    for token in whole["added_tokens"]:
        token["lstrip"] = takes_space and token["content"] == "<mask>"
    (folder / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": name}) + "\n")
    if whole["model"]["type"] != "Unigram":
        tokenizer.model.save(str(folder))


def bases():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    roberta = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roberta.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    roberta.train_from_iterator(corpus(), trainer)
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)

    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer(lowercase=False)
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    # Both cases, with accents and without, have places in the vocabulary.
    lower = (normalizers.BertNormalizer(lowercase=True).normalize_str(text) for text in corpus())
    bert.train_from_iterator([*corpus(), *lower], trainer)
    bert.normalizer = normalizers.BertNormalizer(lowercase=True)
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )

    def unigram(tokens, start, end):
        tokenizer = Tokenizer(models.Unigram())
        spaces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        trainer = trainers.UnigramTrainer(vocab_size=180, special_tokens=tokens, unk_token="<unk>")
        tokenizer.train_from_iterator(corpus(), trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", start), ("</s>", end)]
        )
        return tokenizer

    xlm = unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], 0, 2)
    not_used = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>"]
    camembert = unigram(not_used, 5, 6)
    save("roberta", roberta, True)
    save("bert", bert, False)
    save("xlm-roberta", xlm, True)
    save("camembert", camembert, True)


OLDER = ["tokenizer.json"]
ROBERTA_4 = {"special_tokens_map.json": {"mask_token": added("<mask>", lstrip=True)}}
MASK_4 = "transformers 4 lets <mask> take the space before it along; transformers 5 does so only if a file says it"
AS_WRITTEN = {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}
FILE_4 = "transformers 4 takes the post-processor of the file; transformers 5's class has its own, TokenizersBackend the file's"
BERT_PAIR = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def template(single, pair, tokens):
    def pieces(text):
        for piece in text.split():
            name, kind = piece.rsplit(":", 1)
            kind = int(kind)
            yield (
                {"Sequence": {"id": name[1:], "type_id": kind}} if name[0] == "$" else {"SpecialToken": {"id": name, "type_id": kind}}
            )

    named = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in tokens.items()}
    return {"type": "TemplateProcessing", "single": [*pieces(single)], "pair": [*pieces(pair)], "special_tokens": named}


def read(base, name):
    return (HERE / base / name).read_text()


def cases():
    def case(name, base, drop=(), patch=None, write=None, **more):
        return {"name": name, "base": base, "drop": list(drop), "patch": patch or {}, "write": write or {}, **more}

    def roberta(name, *args, **more):
        return case(name, "roberta", *args, **more)

    def bert(name, *args, **more):
        return case(name, "bert", *args, **more)

    def json_patch(**keys):
        return {"tokenizer.json": keys}

    def settings(**keys):
        return {"tokenizer_config.json": keys}

    vocab, merges, words = read("roberta", "vocab.json"), read("roberta", "merges.txt"), read("bert", "vocab.txt")
    size = len(json.loads(vocab))
    lines = len(words.splitlines())
    mask_4 = {"asked": ROBERTA_4, "because": MASK_4}
    named = {"cls_token": "<cls>", "sep_token": "<sep>", "mask_token": "<m>"}
    renamed = vocab.replace('"<s>"', '"<cls>"').replace('"</s>"', '"<sep>"').replace('"<mask>"', '"<m>"')
    mask = added("<m>", lstrip=True)
    again = "versions of transformers disagree about it, so make both say the same"
    known = (
        "RobertaTokenizer, BartTokenizer, LongformerTokenizer, XLMRobertaTokenizer, CamembertTokenizer, BertTokenizer, "
        "DistilBertTokenizer, ElectraTokenizer, PreTrainedTokenizerFast, TokenizersBackend, AlbertTokenizer, HerbertTokenizer, "
        "GPT2Tokenizer, GPTNeoXTokenizer, LlamaTokenizer, CodeLlamaTokenizer, Qwen2Tokenizer, GemmaTokenizer"
    )

    # RoBERTa, with tokenizer.json.
    yield roberta("roberta")
    yield roberta("roberta, a space before the text by its settings", write=settings(add_prefix_space=True))
    yield roberta("roberta, no space before the text by the class", patch=json_patch(pre_tokenizer=LEVEL))
    yield roberta(
        "roberta, a space by the file, for a class without settings", patch=json_patch(pre_tokenizer=LEVEL), write=AS_WRITTEN
    )
    yield roberta(
        "roberta, file and settings apart, for a class without settings",
        write=settings(tokenizer_class="PreTrainedTokenizerFast", add_prefix_space=True),
        refused="tokenizer.json: pre_tokenizer: expected add_prefix_space true, as tokenizer_config.json says, "
        f"found false; {again}",
    )
    sequence = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, LEVEL]}
    yield roberta(
        "roberta, a space by a part of the file, for a class without settings",
        patch=json_patch(pre_tokenizer=sequence),
        write=settings(tokenizer_class="PreTrainedTokenizerFast", add_prefix_space=False),
    )
    yield roberta(
        "roberta, a space by a part of the file, and none by the settings",
        patch=json_patch(pre_tokenizer=sequence),
        write=settings(add_prefix_space=False),
        refused="tokenizer.json: pre_tokenizer: expected add_prefix_space false, as tokenizer_config.json says, "
        f"found true; {again}",
    )
    yield roberta(
        "roberta, a normaliser of the file",
        patch=json_patch(normalizer={"type": "Lowercase"}),
        asked=AS_WRITTEN,
        because="transformers 4 takes the normaliser of the file; transformers 5's class has none",
    )
    yield roberta("roberta, BertProcessing", patch=json_patch(post_processor=BERT_PAIR), asked=AS_WRITTEN, because=FILE_4)
    yield roberta(
        "roberta, a sequence of post-processors",
        patch=json_patch(
            post_processor={
                "type": "Sequence",
                "processors": [
                    LEVEL,
                    template("<s>:0 <s>:0 $A:0 </s>:0", "<s>:0 $A:0 <mask>:0 </s>:0 $B:0 </s>:0 </s>:0", {"<s>": 0, "</s>": 2, "<mask>": 4}),
                ],
            }
        ),
        asked=AS_WRITTEN,
        because=FILE_4,
    )
    yield roberta("roberta, no post-processor", patch=json_patch(post_processor=None))
    yield roberta(
        "roberta, no post-processor, for a class that has none",
        patch=json_patch(post_processor=None),
        write=AS_WRITTEN,
        refused="tokenizer.json: post_processor: expected one that puts tokens around a text, such as <s> and </s>, found none; in "
        "Python: tokenizer.backend_tokenizer.post_processor = tokenizers.processors.RobertaProcessing(..)",
    )
    yield roberta(
        "roberta, ids of other tokens around texts",
        patch=json_patch(post_processor={**BERT_PAIR, "sep": ["</s>", 3]}),
        refused='tokenizer.json: post_processor: expected "</s>" to be 3, found 2 in the vocabulary',
    )
    yield roberta(
        "roberta, ids by chance",
        patch=json_patch(model={**json.loads(read("roberta", "tokenizer.json"))["model"], "dropout": 0.1}),
        refused="tokenizer.json: model: dropout: expected 0 or null, found 0.1: ids would be left to chance",
    )
    yield roberta("roberta, added_tokens.json", write={"added_tokens.json": {"[USER]": size}})
    yield roberta(
        "roberta, added_tokens.json with another id",
        write={"added_tokens.json": {"[USER]": size + 7}},
        refused=f'added_tokens.json: expected "[USER]" to have the id {size}, the next one of the vocabulary, as the tokenizers '
        f"library gives it; found {size + 7}",
    )
    decoder = {"4": added("<mask>", lstrip=True), str(size): added("[USER]", special=False, normalized=True, rstrip=True)}
    yield roberta("roberta, added_tokens_decoder", write=settings(added_tokens_decoder=decoder))
    yield roberta(
        "roberta, a mask that takes no space, by added_tokens_decoder",
        write=settings(added_tokens_decoder={"4": added("<mask>")}),
    )
    yield roberta(
        "roberta, added_tokens_decoder beside the older files, which are not looked at",
        write={
            **settings(added_tokens_decoder=decoder),
            "added_tokens.json": {"play": 9000},
            "special_tokens_map.json": {"mask_token": "<cls>"},
        },
    )
    yield roberta("roberta, further special tokens", write=settings(additional_special_tokens=["[USER]", "x "]))
    yield roberta("roberta, cut at the beginning by its settings", write=settings(truncation_side="left"))
    yield roberta(
        "roberta, cut at the beginning by the file",
        patch=json_patch(truncation={"direction": "Left", "max_length": 512, "strategy": "LongestFirst", "stride": 0}),
    )
    yield roberta("roberta, special tokens in a text are text", write=settings(split_special_tokens=True))
    yield roberta(
        "roberta, a class that is not read",
        write=settings(tokenizer_class="BertweetTokenizer"),
        refused=f'tokenizer_config.json: tokenizer_class: expected one of {known}, found "BertweetTokenizer"',
    )
    yield roberta(
        "roberta, a class that is not read, in config.json",
        write={"config.json": {"model_type": "roberta", "tokenizer_class": "PhobertTokenizer"}},
        refused=f'config.json: tokenizer_class: expected one of {known}, found "PhobertTokenizer"',
    )
    yield roberta(
        "roberta, code of the model's own",
        write=settings(auto_map={"AutoTokenizer": ["tokenization_x.X", None]}),
        refused='tokenizer_config.json: auto_map: expected no code of its own for the tokenizer, found {"AutoTokenizer":["tokenization_x.X",null]}',
    )
    yield roberta(
        "roberta, code of the model's own for the model, and one file of the tokenizer",
        write=settings(auto_map={"AutoModel": "modeling_x.X", "AutoTokenizer": None}, fast_tokenizer_files=["tokenizer.json"]),
        asked=settings(),
        because="a list of files makes transformers 5 look for one that is newer, on the Hub",
    )
    yield roberta(
        "roberta, other files of the tokenizer",
        write=settings(fast_tokenizer_files=["tokenizer.4.0.json", "tokenizer.json"]),
        refused="tokenizer_config.json: fast_tokenizer_files: expected tokenizer.json alone, found "
        '["tokenizer.4.0.json","tokenizer.json"]',
    )
    turned = template("<s>:0 $A:0 </s>:0", "<s>:0 $B:0 </s>:0 $A:0 </s>:0", {"<s>": 0, "</s>": 2})
    yield roberta(
        "roberta, pairs turned round",
        patch=json_patch(post_processor=turned),
        asked=AS_WRITTEN,
        because=FILE_4,
        refused_pair='tokenizer.json: post_processor: pair: expected the texts ["A", "B"], each once and in this order, found ["B", "A"]',
    )
    yield roberta(
        "roberta, a template without tokens",
        patch=json_patch(post_processor=template("$A:0", "$A:0 $B:0", {})),
        refused="tokenizer.json: post_processor: expected one that puts tokens around a text, such as <s> and </s>, found none; in "
        "Python: tokenizer.backend_tokenizer.post_processor = tokenizers.processors.RobertaProcessing(..)",
    )
    yield roberta(
        "roberta, two post-processors that add tokens",
        patch=json_patch(post_processor={"type": "Sequence", "processors": [BERT_PAIR, BERT_PAIR]}),
        refused="tokenizer.json: post_processor: expected one that adds tokens, found 2",
    )
    yield roberta(
        "roberta, settings of another type",
        write=settings(add_prefix_space="yes"),
        refused='tokenizer_config.json: add_prefix_space: expected true, false or null, found "yes"',
    )
    yield roberta(
        "roberta, a side that is none",
        write=settings(truncation_side="middle"),
        refused='tokenizer_config.json: truncation_side: expected "left" or "right", found "middle"',
    )
    yield roberta(
        "roberta, a special token without a name",
        write={"special_tokens_map.json": {"mask_token": {"lstrip": True}}},
        refused='special_tokens_map.json: mask_token: expected a token, found {"lstrip":true}',
    )
    yield roberta(
        "roberta, two added tokens with one id",
        write={"added_tokens.json": {"[A]": size, "[B]": size}},
        refused=f'added_tokens.json: expected one token with id {size}, found "[A]" and another',
    )
    yield roberta(
        "roberta, all files as transformers 4 writes them",
        write={
            "tokenizer_config.json": {
                "add_prefix_space": False, "additional_special_tokens": [], "bos_token": "<s>", "cls_token": "<s>", "errors": "replace",
                "clean_up_tokenization_spaces": False, "eos_token": "</s>", "extra_special_tokens": {}, "mask_token": "<mask>",
                "model_max_length": 1000000000000000019884624838656, "pad_token": "<pad>", "sep_token": "</s>",
                "tokenizer_class": "RobertaTokenizerFast", "trim_offsets": True, "unk_token": "<unk>",
                "added_tokens_decoder": {
                    **{str(id): added(token, normalized=True) for id, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])},
                    "4": added("<mask>", lstrip=True), str(size): added("[USER]", special=False, normalized=True),
                },
            },
            "special_tokens_map.json": {"mask_token": {k: v for k, v in added("<mask>", lstrip=True).items() if k != "special"}},
            "added_tokens.json": {"[USER]": size},
        },
    )
    # RoBERTa's older files.
    yield roberta("roberta's older files", OLDER, **mask_4)
    yield roberta("roberta's older files, a space before the text", OLDER, write=settings(add_prefix_space=True), **mask_4)
    yield roberta("roberta's older files, added_tokens.json", OLDER, write={"added_tokens.json": {"[USER]": size}}, **mask_4)
    yield roberta(
        "roberta's older files, added_tokens.json with another id",
        OLDER,
        write={"added_tokens.json": {"[USER]": 420000}},
        refused=f'added_tokens.json: expected "[USER]" to have the id {size}, the next one of the vocabulary, as the tokenizers '
        "library gives it; found 420000",
    )
    yield roberta(
        "roberta's older files, other names",
        OLDER,
        write={"vocab.json": renamed, "special_tokens_map.json": {**named, "bos_token": "<cls>", "eos_token": "<sep>", "mask_token": mask}},
    )
    yield roberta(
        "roberta's older files, other names in the settings",
        OLDER,
        write={"vocab.json": renamed, **settings(**named, bos_token="<cls>", eos_token="<sep>")},
        asked={"special_tokens_map.json": {"mask_token": mask}},
        because=MASK_4,
    )
    yield roberta(
        "roberta's older files, a mask that takes no space", OLDER, write={"special_tokens_map.json": {"mask_token": added("<mask>")}}
    )
    yield roberta(
        "roberta's older files, ends of lines of Windows",
        OLDER,
        write={"merges.txt": merges.replace("\n", "\r\n"), "vocab.json": vocab},
        **mask_4,
    )
    yield roberta(
        "roberta's older files, byte order marks",
        OLDER,
        write={"merges.txt": "\ufeff" + merges, "vocab.json": "\ufeff" + vocab, "tokenizer_config.json": "\ufeff{}"},
        asked={**ROBERTA_4, "merges.txt": merges, "vocab.json": vocab, "tokenizer_config.json": "{}"},
        because="Python's json refuses a byte order mark; it is passed over here",
    )
    yield roberta(
        "roberta's older files for BERT",
        OLDER,
        write={"config.json": {"model_type": "bert"}},
        refused="vocab.json: expected a tokenizer of the kind Roberta, which has this file, found the kind Bert (tokenizer_class in "
        "tokenizer_config.json or config.json, or its model_type); make a tokenizer.json in Python: "
        "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
    )
    # BERT, with tokenizer.json.
    yield bert("bert")
    yield bert("bert, case kept", write=settings(do_lower_case=False))
    yield bert("bert, accents kept", write=settings(strip_accents=False))
    yield bert("bert, accents taken away, case kept", write=settings(strip_accents=True, do_lower_case=False))
    yield bert("bert, Chinese not parted", write=settings(tokenize_chinese_chars=False))
    keeps = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False}
    yield bert("bert, case kept by the file, lowered by the class", patch=json_patch(normalizer=keeps))
    yield bert(
        "bert, case kept by the file, for a class without settings",
        patch=json_patch(normalizer=keeps),
        write=settings(tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True),
    )
    yield bert("bert, no normaliser", patch=json_patch(normalizer=None))
    yield bert(
        "bert, another normaliser",
        patch=json_patch(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
        asked=AS_WRITTEN,
        because="transformers 4 takes the normaliser of the file; transformers 5's class has its own",
    )
    yield bert("bert, added_tokens.json", write={"added_tokens.json": {"[USER]": lines}})
    yield bert(
        "bert, token types of RoBERTa",
        patch=json_patch(post_processor=template("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0", {"[CLS]": 2, "[SEP]": 3})),
        refused_pair="tokenizer.json: post_processor: pair: expected token type 1 (from the second text on), found 0; only 0 up to "
        "the second text and 1 from there on are given to a BERT",
    )
    # BERT's older file.
    yield bert("bert's older file", OLDER)
    yield bert("bert's older file, case kept", OLDER, write=settings(do_lower_case=False))
    yield bert("bert's older file, added_tokens.json", OLDER, write={"added_tokens.json": {"[USER]": lines, "[M]": lines + 1}})
    yield bert("bert's older file, ends of lines of Windows", OLDER, write={"vocab.txt": words.replace("\n", "\r\n")})
    yield bert(
        "bert's older file, a byte order mark",
        OLDER,
        write={"vocab.txt": "\ufeff" + words},
        asked={"vocab.txt": words},
        because="transformers takes the mark for a part of [PAD]; it is passed over here",
    )
    yield bert("bert's older file for RoBERTa with BERT's class", OLDER, write={"config.json": {"model_type": "roberta"}, **settings(tokenizer_class="BertTokenizer")})
    yield bert("bert for RoBERTa with BERT's class", write={"config.json": {"model_type": "roberta", "tokenizer_class": "BertTokenizerFast"}})
    yield bert(
        "bert's older file, other names",
        OLDER,
        write={"vocab.txt": words.replace("[MASK]", "[M]").replace("[UNK]", "<unk>"), **settings(mask_token="[M]", unk_token="<unk>")},
    )
    yield bert(
        "bert's older file for RoBERTa",
        OLDER,
        write={"config.json": {"model_type": "roberta"}},
        refused="vocab.txt: expected a tokenizer of the kind Bert, which has this file, found the kind Roberta (tokenizer_class in "
        "tokenizer_config.json or config.json, or its model_type); make a tokenizer.json in Python: "
        "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
    )
    # Unigrams.
    for base in ["xlm-roberta", "camembert"]:
        count = len(json.loads(read(base, "tokenizer.json"))["model"]["vocab"])
        yield case(base, base)
        yield case(f"{base}, added_tokens.json", base, write={"added_tokens.json": {"[USER]": count}})
        yield case(
            f"{base}, no space before the text by its settings",
            base,
            write=settings(add_prefix_space=False),
            refused="tokenizer.json: pre_tokenizer: expected add_prefix_space false, as tokenizer_config.json says, "
            f"found true; {again}",
        )
        yield case(
            f"{base}, special tokens that only the class knows",
            base,
            patch=json_patch(added_tokens=[]),
            asked={"special_tokens_map.json": {"mask_token": added("<mask>", lstrip=True)}},
            because=MASK_4,
        )
    # Files that are something else.
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n"
    lfs = (
        "{}: expected text, found a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull` in its "
        "repository, or fetch the file itself"
    )
    for base, drop, name in [
        ("roberta", [], "tokenizer.json"),
        ("roberta", [], "tokenizer_config.json"),
        ("roberta", [], "special_tokens_map.json"),
        ("roberta", [], "added_tokens.json"),
        ("roberta", OLDER, "vocab.json"),
        ("roberta", OLDER, "merges.txt"),
        ("bert", OLDER, "vocab.txt"),
    ]:
        yield case(f"{base}, {name} is a pointer of Git LFS", base, drop, write={name: pointer}, refused=lfs.format(name))
    for model in ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "sentencepiece.model"]:
        yield case(
            f"{model} alone",
            "xlm-roberta",
            OLDER,
            write={model: "\n"},
            refused=f": no tokenizer.json, and {model} is not read; make one in Python: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    yield case(
        "nothing", "xlm-roberta", OLDER, refused=": no tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt beside it"
    )


def folder(case, asked):
    to = Path(tempfile.mkdtemp())
    for file in (HERE / case["base"]).iterdir():
        if file.name not in case["drop"]:
            shutil.copy(file, to)
    for name, keys in case["patch"].items():
        whole = json.loads((to / name).read_text())
        (to / name).write_text(json.dumps({**whole, **keys}))
    for name, content in {**case["write"], **(asked or {})}.items():
        with open(to / name, "w", newline="") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
    # Else a class that makes its tokenizer anew from a vocabulary might look at both.
    if (to / "tokenizer.json").exists():
        for name in ["vocab.json", "merges.txt", "vocab.txt"]:
            (to / name).unlink(missing_ok=True)
    return to


def main():
    if "--train" in sys.argv:
        bases()
    made = []
    for case in cases():
        case, asked, because = copy.deepcopy(case), case.get("asked"), case.get("because")
        if "refused" not in case:
            tokenizer = AutoTokenizer.from_pretrained(folder(case, asked))
            case["size"] = len(tokenizer)
            case["ids"] = []
            for text, pair, most in ASKED:
                # In a batch, as data sets are tokenised: outside of one an empty second text counts as none.
                pairs = None if pair is None else [pair]
                encoded = tokenizer([text], pairs, truncation=most is not None, max_length=most, return_token_type_ids=True)
                ids, types = encoded["input_ids"][0], encoded["token_type_ids"][0]
                second = types.index(1) if 1 in types and case["base"] == "bert" else None
                case["ids"].append([ids, second])
        case.pop("asked", None)
        made.append(case)
        print(case["name"], "|", because or "")
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in made)
    asked = json.dumps(ASKED, ensure_ascii=False)
    (HERE / "cases.json").write_text(f'{{"asked":{asked},\n"cases":[\n{lines}\n]}}\n')


main()
