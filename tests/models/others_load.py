#!/usr/bin/env python3
"""Whether stock transformers loads model folders without code of ours, and answers as was expected.

    python tests/models/others_load.py FOLDER...

Beside config.json and model.safetensors a folder has expected.safetensors: texts as ids.0, ids.1 .. and logits [texts, V], of a
masked language model at the first row, of a decoder at the last. The test `transformers_answers_as_we_do` of skn-model makes such
folders and calls this. Packages: as in make.py.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

TOLERANCE = 2e-5


def check(folder):
    expected = load_file(folder / "expected.safetensors")
    config = json.loads((folder / "config.json").read_text())
    masked = "ForMaskedLM" in config["architectures"][0]
    auto = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    model, found = auto.from_pretrained(folder, output_loading_info=True)
    for what in ["missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"]:
        assert not found.get(what), f"{folder}: {what}: {found[what]}"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}, f"{folder}: not of 32 bits"
    for precision in [torch.float32, torch.float64]:
        model = model.to(precision).eval()
        for text, logits in enumerate(expected["logits"]):
            with torch.no_grad():
                answer = model(input_ids=torch.tensor(expected[f"ids.{text}"])[None]).logits[0, 0 if masked else -1]
            apart = np.abs(answer.numpy() - logits).max()
            assert apart <= TOLERANCE, f"{folder}: text {text} in {precision}: {apart} apart"
    print(f"{folder.name}: {type(model).__name__}: same answers")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for folder in sys.argv[1:]:
        check(Path(folder))
