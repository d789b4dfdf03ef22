#!/usr/bin/env python3
"""Makes the cases of crates/skn-model/tests/models.rs: what Hugging Face transformers says of small random models, in float64.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6
    python tests/models/make.py

A case is a folder with a model (config.json, model.safetensors) and expected.safetensors. Where older versions of transformers
wrote another configuration of the same model, that is older.json. Shapes are awkward on purpose: heads that share keys, heads not as
wide as hidden / heads, windows shorter than the texts.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

HERE = Path(__file__).resolve().parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [[5, 9, 1, 30, 7, 7, 2, 40, 11, 3, 25], [8], [12, 44, 6, 19, 33]]
LABELS = [0, 1, 0]
WORDS = [4, 10]  # the tokens that answer
PROMPT = 3
SIZES = dict(vocab_size=320, hidden_size=24, intermediate_size=20, num_hidden_layers=4, num_attention_heads=4,
             max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ROPE = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 800.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
          "original_max_position_embeddings": 24}
LINEAR = {"rope_type": "linear", "rope_theta": 700.0, "factor": 2.5}

# model_type, its configuration, and what older files say otherwise (None takes a field away).
CASES = {
    "llama": ("llama", dict(num_key_value_heads=2, rope_parameters=LLAMA3, tie_word_embeddings=False),
              dict(rope_parameters=None, rope_theta=800.0,
                   rope_scaling={k: v for k, v in LLAMA3.items() if k != "rope_theta"})),
    "llama-biases": ("llama", dict(num_key_value_heads=4, head_dim=10, rope_parameters=LINEAR, tie_word_embeddings=True,
                                   attention_bias=True, mlp_bias=True),
                     dict(rope_parameters=None, rope_theta=700.0, rope_scaling={"type": "linear", "factor": 2.5})),
    "mistral": ("mistral", dict(num_key_value_heads=1, head_dim=8, sliding_window=4, rope_parameters=ROPE,
                                tie_word_embeddings=False),
                dict(rope_parameters=None, rope_theta=500.0)),
    "qwen2": ("qwen2", dict(num_key_value_heads=2, rope_parameters=ROPE, tie_word_embeddings=True),
              dict(rope_parameters=None, layer_types=None, rope_theta=500.0)),
    "qwen3": ("qwen3", dict(num_key_value_heads=2, head_dim=10, rope_parameters=ROPE, tie_word_embeddings=False),
              dict(rope_parameters=None, layer_types=None, rope_theta=500.0)),
    "gemma2": ("gemma2", dict(num_key_value_heads=2, head_dim=10, query_pre_attn_scalar=17, sliding_window=4,
                              attn_logit_softcapping=3.0, final_logit_softcapping=2.0, rope_parameters=ROPE,
                              tie_word_embeddings=True),
               dict(rope_parameters=None, layer_types=None, rope_theta=500.0)),
    "gemma3": ("gemma3_text", dict(num_key_value_heads=2, head_dim=10, query_pre_attn_scalar=17, sliding_window=4,
                                   sliding_window_pattern=3, tie_word_embeddings=True,
                                   rope_parameters={"full_attention": LINEAR, "sliding_attention": ROPE}),
               dict(rope_parameters=None, layer_types=None, sliding_window_pattern=3, rope_theta=700.0,
                    rope_local_base_freq=500.0, rope_scaling={"rope_type": "linear", "factor": 2.5})),
    "gpt_neox": ("gpt_neox", dict(hidden_size=32, rope_parameters={**ROPE, "partial_rotary_factor": 0.5},
                                  tie_word_embeddings=False),
                 dict(rope_parameters=None, rotary_emb_base=500, rotary_pct=0.5)),
    "gpt_neox-serial": ("gpt_neox", dict(use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
                                         rope_parameters={**ROPE, "partial_rotary_factor": 1.0}), None),
    "gpt2": ("gpt2", dict(n_inner=20, tie_word_embeddings=True), None),
    "olmo2": ("olmo2", dict(num_key_value_heads=2, rope_parameters=ROPE, tie_word_embeddings=False),
              dict(rope_parameters=None, rope_theta=500.0)),
    "modernbert": ("modernbert", dict(local_attention=6,
                                      rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 900.0},
                                                       "sliding_attention": ROPE}),
                   dict(rope_parameters=None, layer_types=None, global_attn_every_n_layers=3, global_rope_theta=900.0,
                        local_rope_theta=500.0)),
    "modernbert-biases": ("modernbert", dict(local_attention=6, norm_bias=True, attention_bias=True, mlp_bias=True,
                                             classifier_bias=True, decoder_bias=False,
                                             layer_types=["sliding_attention", "full_attention"] * 2), None),
}
SECOND_MATRIX = {"gpt_neox": "mlp.dense_4h_to_h", "gpt2": "mlp.c_proj", "modernbert": "mlp.Wo"}


def tokenizers():
    """A byte-level tokenizer for decoders, and the same with special tokens for an encoder. Remove the files to train anew; the
    trainer's ties come out otherwise each time."""
    folder = HERE / "tokenizers"
    if folder.exists():
        return
    folder.mkdir()
    texts = [" negative positive"] * 400
    for line in (HERE.parent.parent / "data/tasks/sentiment/train.jsonl").read_text().splitlines()[:400]:
        row = json.loads(line)
        texts += [text for column, text in row.items() if column != "label"]
    for name, special in [("decoder", []), ("encoder", SPECIAL)]:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=320, special_tokens=special,
                                                                 initial_alphabet=alphabet, show_progress=False))
        if special:
            around = [(token, tokenizer.token_to_id(token)) for token in ["[CLS]", "[SEP]"]]
            tokenizer.post_processor = processors.TemplateProcessing(
                single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around)
        tokenizer.save(str(folder / f"{name}.json"), pretty=False)


def layers_of(model):
    base = model.base_model
    return base.h if hasattr(base, "h") else base.layers


def randomise(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).double()
            around = 1.0 if "norm" in name and name.endswith("weight") and "gemma" not in model.config.model_type else 0.0
            around = 1.0 if ".ln_" in name and name.endswith("weight") else around
            parameter.copy_((around + 0.25 * noise).float().double())


def run(model, kind, embeds):
    """Neurons [L, rows, F], layers' outputs [L, rows, H] and logits [rows, V] of one sequence."""
    neurons, outputs, handles = [], [], []
    for layer in layers_of(model):
        matrix = layer.get_submodule(SECOND_MATRIX.get(kind, "mlp.down_proj"))
        handles.append(matrix.register_forward_pre_hook(lambda _, given: neurons.append(given[0][0])))
        handles.append(layer.register_forward_hook(
            lambda _, __, out: outputs.append((out if torch.is_tensor(out) else out[0])[0])))
    logits = model(inputs_embeds=embeds[None], use_cache=False).logits[0] if kind != "modernbert" \
        else model(inputs_embeds=embeds[None]).logits[0]
    for handle in handles:
        handle.remove()
    return torch.stack(neurons), torch.stack(outputs), logits


def make(name, kind, fields, older):
    torch.manual_seed(0)
    fields = {**SIZES, **fields}
    if kind == "gpt2":
        names = dict(hidden_size="n_embd", num_hidden_layers="n_layer", num_attention_heads="n_head",
                     max_position_embeddings="n_positions")
        fields = {names.get(k, k): v for k, v in fields.items() if k != "intermediate_size"}
    encoder = kind == "modernbert"
    config = AutoConfig.for_model(kind, **fields)
    config._attn_implementation = "eager"
    auto = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    model = auto.from_config(config).double().eval()
    randomise(model)
    model.tie_weights()
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    state = {k: v.float().numpy() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        for twin in ["lm_head.weight", "embed_out.weight", "decoder.weight"]:
            state.pop(twin, None)
    # As a file on the Hub, with what older versions stored beside the parameters.
    if kind == "gpt2":
        state = {k.removeprefix("transformer."): v for k, v in state.items()}
        state["h.0.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.float32))
    if kind == "gpt_neox":
        state["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    os.umask(0o022)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    written = json.loads(config.to_json_string(use_diff=False))
    written["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    if older is not None:
        other = {**written, **older}
        other = {k: v for k, v in other.items() if k not in older or older[k] is not None}
        (folder / "older.json").write_text(json.dumps(other, indent=1) + "\n")

    generator = torch.Generator().manual_seed(11)
    prompt = torch.randn(PROMPT, config.hidden_size, generator=generator).double().requires_grad_()
    words = model.get_input_embeddings()
    loss, expected = 0.0, {"prompt": prompt.detach().float().numpy()}
    for number, (text, label) in enumerate(zip(TEXTS, LABELS)):
        text = words(torch.tensor(text))
        plain = run(model, kind, text)
        prompted = run(model, kind, torch.cat([prompt, text] if encoder else [text, prompt]))
        for what, (neurons, outputs, logits) in [("plain", plain), ("prompted", prompted)]:
            expected[f"{what}.{number}.neurons"] = neurons.detach().numpy()
            expected[f"{what}.{number}.outputs"] = outputs.detach().numpy()
            answer = logits[0] if encoder else logits[-1]
            expected[f"{what}.{number}.logits"] = answer.detach().numpy()
        answer = prompted[2][0] if encoder else prompted[2][-1]
        loss = loss + torch.nn.functional.cross_entropy(answer[WORDS][None], torch.tensor([label]))
    loss.backward()
    expected["gradient"] = prompt.grad.numpy()
    expected["loss"] = np.array([loss.item()])
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in expected.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    tokenizers()
    for name, case in CASES.items():
        make(name, *case)
        print(name)
