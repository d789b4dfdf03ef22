"""What numpy, scipy and scikit-learn say of the activations that rankings.rs makes: writes expected.json beside this file.

Run with numpy, scipy and scikit-learn: python3 expected.py
"""

import json
import pathlib

import numpy as np
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

L, P, F = 2, 4, 16
MASK = (1 << 64) - 1


class Numbers:
    """xorshift64*: numbers from -1 to 1, those of tests/support."""

    def __init__(self, seed):
        self.state = (seed * 0x9E3779B97F4A7C15 & MASK) | 1

    def next(self):
        s = self.state
        s ^= s >> 12
        s ^= s << 25 & MASK
        s ^= s >> 27
        self.state = s
        return np.float32(np.float32((s * 0x2545F4914F6CDD1D & MASK) >> 40) / np.float32(1 << 23) - np.float32(1))


def activations(texts, classes, seed):
    """[texts, L, P, F] and labels: some neurons follow the label, neuron 5 is dead."""
    numbers = Numbers(seed)
    labels = [(text * 7 + text // 5) % classes for text in range(texts)]
    values = np.zeros((texts, L, P, F), dtype=np.float32)
    for text in range(texts):
        for layer in range(L):
            for position in range(P):
                for neuron in range(F):
                    value = numbers.next()
                    if neuron == 5:
                        value = np.float32(0.25)
                    elif labels[text] == 1:
                        value = np.float32(value + np.float32(0.125) * np.float32(neuron % 4 * position))
                    values[text, layer, position, neuron] = value
    return values, np.array(labels)


def best(scores, dead):
    """The largest over classes and positions of [classes, L, P, F], dead places left out."""
    scores = np.where(dead, -1.0, scores)
    return np.maximum(scores.max(axis=(0, 2)), 0.0)


def rankings(classes):
    train, _ = activations(30, classes, 11)
    dev, labels = activations(41, classes, 12)
    wide = dev.astype(np.float64)
    mean = train.astype(np.float64).mean(axis=0).astype(np.float32)
    deviation = train.astype(np.float64).std(axis=0)
    dead = np.zeros((L, P, F), dtype=bool)
    dead[:, :, 5] = True
    ruled = [1] if classes == 2 else range(classes)
    shares = np.bincount(labels) / len(labels)
    balanced = classes > 2 or shares.max() > 0.55
    found = {name: [] for name in ["predictivity", "auc", "mean_difference", "cohen_d", "correlation"]}
    for c in ruled:
        y = labels == c
        each = {name: np.zeros((L, P, F)) for name in found}
        for place in np.ndindex(L, P, F):
            z = wide[(slice(None), *place)]
            fires = dev[(slice(None), *place)] > mean[place]
            accuracy = balanced_accuracy_score(y, fires) if balanced else np.mean(fires == y)
            each["predictivity"][place] = max(accuracy, 1 - accuracy)
            each["auc"][place] = abs(roc_auc_score(y, z) - 0.5)
            difference = z[y].mean() - z[~y].mean()
            each["mean_difference"][place] = abs(difference)
            each["cohen_d"][place] = 0 if dead[place] else abs(difference / deviation[place])
            each["correlation"][place] = 0 if dead[place] else abs(stats.pearsonr(z, y.astype(float))[0])
        for name in found:
            found[name].append(each[name])
    d = np.array(found.pop("cohen_d"))
    result = {name: best(np.array(each), dead) for name, each in found.items()}
    # Cohen's d of the class and position whose difference is the largest.
    each = np.where(dead, -1.0, np.array(found["mean_difference"])).transpose(1, 3, 0, 2).reshape(L, F, -1)
    where = each.argmax(axis=-1)[..., None]
    result["cohen_d"] = np.take_along_axis(d.transpose(1, 3, 0, 2).reshape(L, F, -1), where, -1)[..., 0]
    # The published code of LAPE: kthvalue(round(0.95 n)), and neurons above it somewhere.
    p = np.array([(dev[labels == c] > 0).mean(axis=0) for c in range(classes)])
    flat = np.sort(p[:, ~dead].ravel())
    threshold = flat[round(len(flat) * 0.95) - 1]
    shares = p / p.sum(axis=0)
    entropy = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(axis=0)
    specific = np.where((p.max(axis=0) > threshold) & ~dead, np.log(classes) - entropy, 0.0)
    result["lape"] = specific.max(axis=1)
    return {name: scores.ravel().tolist() for name, scores in result.items()}


if __name__ == "__main__":
    found = {str(classes): rankings(classes) for classes in (2, 3)}
    path = pathlib.Path(__file__).with_name("expected.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
