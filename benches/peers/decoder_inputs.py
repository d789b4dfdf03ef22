"""What all contestants of decoder.py get: a decoder of SmolLM2-135M's shape with random weights, as a folder and as GGUF files, a prompt,
texts as token ids."""

import json
import random

import numpy
from safetensors.numpy import save_file

HIDDEN, LAYERS, WIDTH, HEADS, KEY_HEADS, VOCABULARY, THETA, EPS = 576, 30, 1536, 9, 3, 49152, 100000.0, 1e-5
HEAD = HIDDEN // HEADS
PROMPT = 16  # rows behind every text, in tuning
WORDS = [100, 200]  # the tokens that answer for the two classes
BATCH = 16
SHORTEST, LONGEST = 16, 128


def make_model(folder):
    """config.json and model.safetensors; the same at every call."""
    if (folder / "model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS, "intermediate_size": WIDTH,
        "hidden_act": "silu", "max_position_embeddings": 8192, "rms_norm_eps": EPS, "rope_theta": THETA, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(weights(), folder / "model.safetensors", {"format": "pt"})


def weights():
    dice = numpy.random.default_rng(7)
    found = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{name}.{norm}.weight"] = (HIDDEN,)
        for part, outputs in (("q", HIDDEN), ("k", KEY_HEADS * HEAD), ("v", KEY_HEADS * HEAD), ("o", HIDDEN)):
            found[f"{name}.self_attn.{part}_proj.weight"] = (outputs, HIDDEN)
        for part, shape in (("gate", (WIDTH, HIDDEN)), ("up", (WIDTH, HIDDEN)), ("down", (HIDDEN, WIDTH))):
            found[f"{name}.mlp.{part}_proj.weight"] = shape
    # Factors of norms are 1.
    return {name: (dice.normal(0, 0.04, shape) + name.endswith("norm.weight")).astype(numpy.float32) for name, shape in found.items()}


def make_gguf(folder, kind):
    """model-f32.gguf or model-q8_0.gguf in the folder, of its weights."""
    import gguf
    from safetensors.numpy import load_file

    path = folder / f"model-{kind}.gguf"
    if path.exists():
        return
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name in outside:
            name = outside[name]
        else:
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                # llama.cpp rotates neighbours.
                heads = tensor.shape[0] // HEAD
                tensor = tensor.reshape(heads, 2, HEAD // 2, HIDDEN).swapaxes(1, 2).reshape(tensor.shape)
            name = f"blk.{layer}.{names[part]}.weight"
        if kind == "q8_0" and tensor.ndim == 2:
            quantised = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, numpy.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_prompt(folder):
    """A prompt behind the text, as large as the rows of words."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = numpy.random.default_rng(8).normal(0, 0.04, (PROMPT, HIDDEN)).astype(numpy.float32)
    save_file({"prompt_embeddings": rows}, folder / "prompt.safetensors")


def make_texts(file, count):
    """`count` texts of 16 to 128 tokens, short ones more often, each a line: class, token ids. Returns their lengths."""
    dice = random.Random(9)
    texts = []
    for _ in range(count):
        length = round(SHORTEST * (LONGEST / SHORTEST) ** dice.random())
        texts.append([dice.randrange(5, VOCABULARY) for _ in range(length)])
    file.write_text("".join(" ".join(map(str, [row % 2, *ids])) + "\n" for row, ids in enumerate(texts)))
    return [len(ids) for ids in texts]


def read_texts(file):
    lines = (list(map(int, line.split())) for line in open(file))
    return [(label, ids) for label, *ids in lines]


def batches(lengths, by_length):
    """Indexes of the texts of each batch: in the order of the file, or with texts of about the same length together."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__) if by_length else list(range(len(lengths)))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
