#!/usr/bin/env python3
"""Makes more/CASE/expected.safetensors for each case of make.py, from the model that is there: what Hugging Face transformers and PEFT
say of it, in float64.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0 numpy==2.4.6
    python tests/models/more.py

`gate.N`, `up.N` [L, rows, F]: the two factors of a gated FFN's neurons, of text N alone. `front.N.logits`, `front.loss`,
`front.gradient`: of decoders, with the case's prompt before the text, as PEFT puts it. The folder more/CASE/peft is that prompt as PEFT saves it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import PromptTuningConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from make import CASES, HERE, LABELS, TEXTS, WORDS, layers_of


def factors(model, kind, text):
    """act(gate) and up of all layers, each [L, rows, F]; nothing of a plain FFN."""
    gates, ups, handles = [], [], []
    for layer in layers_of(model):
        if kind == "modernbert":
            handles.append(layer.mlp.act.register_forward_hook(lambda _, __, out: gates.append(out[0])))
            handles.append(layer.mlp.Wi.register_forward_hook(lambda _, __, out: ups.append(out[0].chunk(2, -1)[1])))
        elif hasattr(layer.mlp, "up_proj"):
            handles.append(layer.mlp.act_fn.register_forward_hook(lambda _, __, out: gates.append(out[0])))
            handles.append(layer.mlp.up_proj.register_forward_hook(lambda _, __, out: ups.append(out[0])))
    model(input_ids=torch.tensor([text]))
    for handle in handles:
        handle.remove()
    return (torch.stack(gates), torch.stack(ups)) if gates else None


def prompted(model, prompt, folder):
    """The answers, the loss and the prompt's gradient, with PEFT's prompt of a causal model."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
    tuned = get_peft_model(model, config)
    rows = tuned.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        rows.copy_(torch.from_numpy(prompt))
    tuned = tuned.double().eval()
    rows = tuned.prompt_encoder["default"].embedding.weight
    found, loss = {}, 0.0
    for number, (text, label) in enumerate(zip(TEXTS, LABELS)):
        ids = torch.tensor([text])
        answer = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        found[f"front.{number}.logits"] = answer.detach().numpy()
        loss = loss + torch.nn.functional.cross_entropy(answer[WORDS][None], torch.tensor([label]))
    loss.backward()
    found["front.gradient"] = rows.grad.numpy()
    found["front.loss"] = np.array([loss.item()])
    tuned.peft_config["default"].base_model_name_or_path = folder.name
    tuned.float().save_pretrained(folder / "peft")
    (folder / "peft" / "README.md").unlink()
    return found


def make(name, kind):
    source, folder = HERE / name, HERE / "more" / name
    folder.mkdir(parents=True, exist_ok=True)
    auto = AutoModelForMaskedLM if kind == "modernbert" else AutoModelForCausalLM
    model = auto.from_pretrained(source, attn_implementation="eager", dtype=torch.float64).eval()
    expected = {}
    with torch.no_grad():
        for number, text in enumerate(TEXTS):
            both = factors(model, kind, text)
            if both is not None:
                expected[f"gate.{number}"], expected[f"up.{number}"] = (part.numpy() for part in both)
    if kind != "modernbert":
        prompt = load_file(source / "expected.safetensors")["prompt"]
        expected |= prompted(model, prompt, folder)
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in expected.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    os.umask(0o022)
    transformers.logging.set_verbosity_error()
    for name, (kind, *_) in CASES.items():
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make(name, kind)
            print(name)
