#!/usr/bin/env python3
"""Makes tests/models/gguf: the models of make.py as GGUF files, written by the Python package gguf with the changes that llama.cpp's
converter makes to weights and settings, and one of all types of stored numbers.

    pip install gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6
    python tests/models/make_gguf.py

A file that can't say everything of its model has the model's config.json beside it, in a folder of its own (gemma2, gemma3, llama). Of
blocks.gguf there is blocks.safetensors: the first, second and last row of each matrix as gguf.dequantize has it.
"""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
OUT = HERE / "gguf"
# The folder of make.py, the architecture, and whether a config.json must lie beside the file.
CASES = {
    "llama": ("llama", True),  # its divisors are not those that Meta published
    "llama-biases": ("llama", False),
    "mistral": ("llama", False),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "gemma2": ("gemma2", True),
    "gemma3": ("gemma3", True),
    "gpt_neox": ("gptneox", False),
    "gpt_neox-serial": ("gptneox", False),
    "gpt2": ("gpt2", False),
}
LLAMA = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
GEMMA = {**LLAMA, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
NEOX = {
    "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output", "lm_head": "output",
    "input_layernorm": "attn_norm", "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
}
GPT2 = {
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
NAMES = {"llama": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA, "gemma2": GEMMA, "gemma3": GEMMA, "gptneox": NEOX, "gpt2": GPT2}
BUFFERS = (".attn.bias", "rotary_emb.inv_freq")


def stored_name(name, names):
    module, end = name.rsplit(".", 1)
    if module in names:
        return f"{names[module]}.{end}"
    for prefix in ["model.layers.", "gpt_neox.layers.", "h."]:
        if module.startswith(prefix):
            layer, part = module.removeprefix(prefix).split(".", 1)
            return f"blk.{layer}.{names[part]}.{end}"
    raise ValueError(name)


def permute(weights, heads):
    """LlamaModel.permute of the converter."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def converted(name, tensor, config, arch):
    if arch == "llama":
        if ".q_proj." in name:
            return permute(tensor, config["num_attention_heads"])
        if ".k_proj." in name:
            return permute(tensor, config["num_key_value_heads"])
    if arch in ("gemma2", "gemma3") and name.endswith("norm.weight"):
        return tensor + np.float32(1)
    if arch == "gptneox" and ".query_key_value." in name:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        parts = tensor.reshape(heads, 3, hidden // heads, *tensor.shape[1:])
        return np.concatenate([parts[:, part].reshape(hidden, *tensor.shape[1:]) for part in range(3)])
    if arch == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return tensor.T
    return tensor


def set_rope(writer, config):
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    return rope


def divisors(rope, width):
    """LlamaModel.generate_extra_tensors of the converter."""
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float32) / width)
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    out = []
    for frequency in frequencies:
        wave = 2 * np.pi / frequency
        if wave < original / high:
            out.append(1)
        elif wave > original / low:
            out.append(factor)
        else:
            smooth = (original / wave - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def set_tokenizer(writer, arch):
    tokenizer = json.loads((HERE / "tokenizers/decoder.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    assert [vocab[token] for token in tokens] == list(range(len(tokens)))
    # As the converter pads a vocabulary to the rows of its table.
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.UNUSED] * (320 - len(tokens))
    tokens += [f"[PAD{number}]" for number in range(len(tokens), 320)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if arch.startswith("gemma"):
        writer.add_add_bos_token(False)


def make(name, arch, beside):
    config = json.loads((HERE / name / "config.json").read_text())
    tensors = load_file(HERE / name / "model.safetensors")
    folder = OUT / name if beside else OUT
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", arch)
    writer.add_name(name)
    heads = config.get("n_head", config.get("num_attention_heads"))
    hidden = config.get("n_embd", config.get("hidden_size"))
    width = config.get("head_dim") or hidden // heads
    writer.add_block_count(config.get("n_layer", config.get("num_hidden_layers")))
    writer.add_context_length(config.get("n_positions", config.get("max_position_embeddings")))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config.get("n_inner", config.get("intermediate_size")))
    writer.add_head_count(heads)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if arch == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    elif arch == "gptneox":
        rope = set_rope(writer, config)
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * width))
        writer.add_parallel_residual(config["use_parallel_residual"])
        writer.add_layer_norm_eps(config["layer_norm_eps"])
    else:
        rope = set_rope(writer, config)
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        if width != hidden // heads or arch.startswith("gemma"):
            writer.add_key_length(width)
            writer.add_value_length(width)
        if arch == "llama":
            writer.add_vocab_size(config["vocab_size"])
            writer.add_rope_dimension_count(width)
        if rope.get("rope_type") == "llama3":
            writer.add_tensor("rope_freqs.weight", divisors(rope, width))
        if config.get("sliding_window") and arch in ("llama", "gemma2", "gemma3"):
            writer.add_sliding_window(config["sliding_window"])
        if config.get("attn_logit_softcapping"):
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        if config.get("final_logit_softcapping"):
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    set_tokenizer(writer, arch)
    for tensor, values in tensors.items():
        if not tensor.endswith(BUFFERS):
            writer.add_tensor(stored_name(tensor, NAMES[arch]), np.ascontiguousarray(converted(tensor, values, config, arch)))
    write(writer)
    if beside:
        shutil.copy(HERE / name / "config.json", folder)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def k_blocks(generator, kind, shape):
    """Random blocks: the package can't make such of numbers. All but the scales in half precision may be anything."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    count = shape[0] * shape[1] // numbers
    blocks = generator.integers(0, 256, (count, size), dtype=np.uint8)
    # Where the scales of a block are, in bytes.
    places = {Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}[kind]
    for place in places:
        scales = (generator.uniform(0.002, 0.01, count) / (16 if kind == Type.Q6_K else 1)).astype(np.float16)
        blocks[:, place:place + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks.reshape(shape[0], -1)


def make_blocks():
    """A llama of two layers, each of whose matrices has a type of its own, with the divisors of Llama 3.1."""
    heads, width, hidden, ffn, words = 4, 16, 256, 32, 24
    generator = np.random.default_rng(5)
    writer = gguf.GGUFWriter(OUT / "blocks.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(1e-5)
    # As Meta published it of Llama 3.1.
    rope = dict(rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_tensor("rope_freqs.weight", divisors(rope, width))
    kinds = {
        "token_embd": Type.Q8_0, "output": Type.Q6_K,
        "blk.0.attn_q": Type.Q4_0, "blk.0.attn_k": Type.Q4_1, "blk.0.attn_v": Type.Q5_0, "blk.0.attn_output": Type.Q5_1,
        "blk.0.ffn_gate": Type.Q2_K, "blk.0.ffn_up": Type.Q3_K, "blk.0.ffn_down": Type.Q8_0,
        "blk.1.attn_q": Type.Q4_K, "blk.1.attn_k": Type.Q5_K, "blk.1.attn_v": Type.BF16, "blk.1.attn_output": Type.F16,
        "blk.1.ffn_gate": Type.Q6_K, "blk.1.ffn_up": Type.Q4_K, "blk.1.ffn_down": Type.Q4_1,
    }
    shapes = {"token_embd": (words, hidden), "output": (words, hidden), "attn_q": (heads * width, hidden),
              "attn_k": (2 * width, hidden), "attn_v": (2 * width, hidden), "attn_output": (hidden, heads * width),
              "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden), "ffn_down": (hidden, ffn)}
    expected = {}
    for name, kind in kinds.items():
        shape = shapes[name.split(".")[-1]]
        if kind.name.endswith("_K"):
            blocks = k_blocks(generator, kind, shape)
        else:
            values = generator.normal(0, 0.1, shape).astype(np.float32)
            blocks = values.astype(np.float16) if kind == Type.F16 else gguf.quantize(values, kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
        values = blocks.astype(np.float32) if kind == Type.F16 else gguf.dequantize(blocks, kind)
        expected[f"{name}.weight"] = np.ascontiguousarray(values.reshape(shape)[[0, 1, -1]], np.float32)
    for name in ["output_norm"] + [f"blk.{layer}.{part}" for layer in range(2) for part in ["attn_norm", "ffn_norm"]]:
        writer.add_tensor(f"{name}.weight", generator.normal(1, 0.2, hidden).astype(np.float32))
    write(writer)
    save_file(expected, OUT / "blocks.safetensors")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    for name, (arch, beside) in CASES.items():
        make(name, arch, beside)
    make_blocks()
