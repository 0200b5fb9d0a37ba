#!/usr/bin/env python3
"""Golden numbers for tests/test_compare.c: exact binomial counting, Clopper-Pearson bounds, percentiles with their
upper bound, Mann-Whitney and Holm, as numpy, scipy and statsmodels compute them.

    python tests/oracle/make_compare_golden.py > tests/data/compare/golden.json

Made with the versions that stand in the file."""
import json
import sys

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests

random = np.random.default_rng(20)
out = {"versions": {"numpy": np.__version__, "scipy": scipy.__version__, "statsmodels": statsmodels.__version__}}

out["at_least"] = [[k, n, p, float(stats.binom.sf(k - 1, n, p))]
                   for n in (1, 6, 20, 52, 104, 208, 1000) for p in (0.5, 0.03, 0.9)
                   for k in sorted({0, 1, n // 3, n // 2, n // 2 + 1, 9 * n // 10, n})]
out["critical"] = [[n, alpha, next(k for k in range(n + 2) if stats.binom.sf(k - 1, n, 0.5) <= alpha)]
                   for n in (3, 6, 20, 52, 104, 208) for alpha in (0.05, 0.05 / 3, 0.025 / 3, 0.05 / 60)]


def bound(k, n, side):
    ci = stats.binomtest(k, n, alternative="greater" if side == "lower" else "less").proportion_ci(0.95, "exact")
    return float(ci.low if side == "lower" else ci.high)


out["shares"] = [[k, n, bound(k, n, "lower"), bound(k, n, "upper")]
                 for k, n in ((0, 10), (1, 10), (10, 10), (2, 300), (90, 100), (81, 100), (299, 300), (7, 19))]

percentiles = []
for n in (59, 60, 100, 299, 500, 1000):
    x = np.round(random.lognormal(0, 1, n), 6)
    for p in (0.5, 0.95, 0.99):
        if n < np.log(0.05) / np.log(p):
            continue
        # smallest rank s with P(Binomial(n, p) >= s) <= 0.05
        rank = next(s for s in range(1, n + 1) if stats.binom.sf(s - 1, n, p) <= 0.05)
        percentiles.append({"p": p, "value": float(np.quantile(x, p)), "upper": float(np.sort(x)[rank - 1]),
                            "samples": x.tolist()})
out["percentiles"] = percentiles

ranks = []
for n_a, n_b, shift, digits in ((20, 20, 0, 6), (20, 20, 0.5, 6), (52, 52, 0.3, 6), (12, 30, 0.4, 1), (20, 20, 0, 0)):
    a, b = np.round(random.normal(10, 1, n_a), digits), np.round(random.normal(10 + shift, 1, n_b), digits)
    p = stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic", use_continuity=True).pvalue
    ranks.append({"a": a.tolist(), "b": b.tolist(), "p": float(p)})
out["mann_whitney"] = ranks

holm = []
for n in (1, 3, 8, 40):
    p = np.round(random.uniform(0, 1, n) ** 4, 6)
    for alpha in (0.05, 0.2):
        holm.append({"p": p.tolist(), "alpha": alpha,
                     "rejected": multipletests(p, alpha, method="holm")[0].astype(int).tolist()})
out["holm"] = holm
json.dump(out, sys.stdout, separators=(",", ":"))
print()
