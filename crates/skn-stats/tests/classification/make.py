"""Writes cases.json: what scikit-learn says of answers and their probabilities, for tests/classification.rs.

Made with scikit-learn 1.9.1 and numpy's generator with the seed below:

    pip install scikit-learn
    python make.py

scikit-learn has no expected calibration error: it is put together here from the bins of its `calibration_curve`.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.calibration import _TemperatureScaling, calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss, precision_recall_fscore_support

rng = np.random.default_rng(23)


def calibration_error(confidence, right, bins):
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy="uniform")
    edges = np.linspace(0, 1, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    return float(np.sum(counts[counts > 0] * np.abs(accuracy - mean)) / len(right))


def case(rows, classes, scale, absent=False):
    labels = rng.integers(0, classes - absent, size=rows)
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    logits = (scale * logits).astype(np.float32).astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    answers = logits.argmax(axis=1)
    every = np.arange(classes)
    scores = precision_recall_fscore_support(labels, answers, labels=every, zero_division=0)
    one_hot = np.eye(classes)[labels]
    fitted = _TemperatureScaling().fit(logits, labels)
    beta = float(fitted.beta_)
    q = np.exp(beta * (logits - logits.max(axis=1, keepdims=True)))
    q /= q.sum(axis=1, keepdims=True)
    right = answers == labels
    return {
        "classes": classes,
        "labels": labels.tolist(),
        "logits": logits.ravel().tolist(),
        "confusion": confusion_matrix(labels, answers, labels=every).tolist(),
        "precision": scores[0].tolist(),
        "recall": scores[1].tolist(),
        "f1": scores[2].tolist(),
        "support": scores[3].tolist(),
        "calibration_error": calibration_error(p.max(axis=1), right, 15),
        "brier": float(brier_score_loss(one_hot, p, scale_by_half=False))
        if classes > 2
        else float(2 * brier_score_loss(labels, p[:, 1])),
        "nll": float(log_loss(labels, p, labels=every)),
        "temperature": 1 / beta,
        "nll_calibrated": float(log_loss(labels, q, labels=every)),
    }


cases = [case(40, 2, 1), case(300, 2, 4), case(200, 3, 0.5), case(500, 5, 3), case(60, 4, 2, absent=True)]
Path(__file__).with_name("cases.json").write_text(json.dumps(cases) + "\n")
