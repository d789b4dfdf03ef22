"""Writes reference.json: what scipy, statsmodels and scikit-learn say of small samples, for tests/reference.rs.

Made with scipy 1.17.1, statsmodels 0.15.0, scikit-learn 1.9.1, numpy's generator with the seed below:

    pip install scipy statsmodels scikit-learn
    python reference.py
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(18)


def fisher():
    tables = [[3, 1, 1, 3], [0, 5, 7, 2], [12, 0, 3, 9], [400, 36, 28, 408], [218, 218, 218, 218], [1, 870, 0, 1]]
    tables += [[430, 6, 300, 136], [50, 49_950, 80, 49_920], [25_100, 24_900, 24_600, 25_400]]
    tables += [[30_000, 20_000, 10_000, 40_000], [0, 27, 640, 205], [635, 1, 234, 2]]
    for _ in range(60):
        n = int(rng.integers(4, 900))
        tables.append([int(x) for x in rng.multinomial(n, rng.dirichlet([1, 1, 1, 1]))])
    cases = []
    for a, b, c, d in tables:
        cases.append({"table": [a, b, c, d], "p": float(stats.fisher_exact([[a, b], [c, d]]).pvalue)})
    return cases


def adjusted():
    cases = []
    for n in [1, 2, 7, 40]:
        p = rng.uniform(size=n) ** 3
        p[: n // 3] = p[0]  # ties
        cases.append({"p": p.tolist(), "q": multipletests(p, method="fdr_bh")[1].tolist()})
    return cases


def wilson():
    cases = []
    for x, n in [(0, 7), (7, 7), (3, 7), (90, 100), (436, 872), (871, 872)]:
        for level in [0.9, 0.95, 0.99]:
            low, high = proportion_confint(x, n, alpha=1 - level, method="wilson")
            cases.append({"of": [x, n], "level": level, "interval": [float(low), float(high)]})
    return cases


def paired():
    cases = []
    for b, c in [(0, 0), (1, 9), (5, 5), (0, 12), (40, 61), (300, 345)]:
        p = mcnemar([[10, b], [c, 10]], exact=True).pvalue
        cases.append({"only": [b, c], "p": float(min(p, 1.0))})
    return cases


def flips():
    """All sign flips, not a sample of them."""
    cases = []
    for n in [1, 5, 9, 12]:
        d = rng.integers(-4, 6, size=n) / 8
        sums = np.array([abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=n)])
        cases.append({"differences": d.tolist(), "p": float(np.mean(sums >= abs(d.sum()) - 1e-12))})
    return cases


def ranked():
    cases = []
    for n, levels in [(8, 3), (30, 5), (60, 1000), (200, 12)]:
        y = rng.integers(0, 2, size=n)
        y[:2] = [0, 1]
        x = rng.integers(0, levels, size=n) + y * levels // 4
        other = rng.integers(0, levels, size=n) + x
        test = stats.mannwhitneyu(x[y == 1], x[y == 0], alternative="two-sided", method="asymptotic")
        cases.append(
            {
                "scores": x.tolist(),
                "labels": y.tolist(),
                "other": other.tolist(),
                "auc": float(roc_auc_score(y, x)),
                "rank_sum": float(test.pvalue),
                "spearman": float(stats.spearmanr(x, other).statistic),
                "balanced": float(balanced_accuracy_score(y, x > x.mean())),
            }
        )
    return cases


def intervals():
    """A percentile interval of the mean over given resamples: numpy's nearest order statistic."""
    values = rng.normal(size=25)
    places = rng.integers(0, 25, size=(41, 25))
    means = np.sort(values[places].mean(axis=1))
    return {"values": values.tolist(), "places": places.tolist(), "interval": [float(means[1]), float(means[39])]}


parts = [fisher, adjusted, wilson, paired, flips, ranked, intervals]
Path(__file__).with_name("reference.json").write_text(json.dumps({f.__name__: f() for f in parts}, indent=None) + "\n")
