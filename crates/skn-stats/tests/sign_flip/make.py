"""Makes sign_flip.json beside it: p values of paired differences by all flips of their signs, from scipy.

python make.py   (scipy 1.11 or newer)
"""
import json
import pathlib

import numpy
from scipy.stats import permutation_test

random = numpy.random.default_rng(18)
samples = [
    [1.0] * 10,
    [0.5, 0.25, -0.125, 0.75, 0.5, -0.25, 0.5],
    (random.integers(-10, 11, 12) / 10).tolist(),
    (random.integers(-3, 11, 12) / 10).tolist(),
    (random.integers(-1, 2, 12) * 1.0).tolist(),
    random.normal(0.4, 1, 12).round(6).tolist(),
    random.normal(0.0, 1, 12).round(6).tolist(),
]
cases = []
for sample in samples:
    found = permutation_test((numpy.array(sample),), numpy.sum, permutation_type="samples", n_resamples=numpy.inf)
    cases.append({"differences": sample, "p": float(found.pvalue)})
path = pathlib.Path(__file__).with_name("sign_flip.json")
path.write_text(json.dumps(cases, indent=1) + "\n")
