"""How sure a mean is: bootstrap intervals over groups of rows that are not independent of each other.

Examples of one photo share its light, its blur and its clutter, so photos are drawn, not examples: drawing
examples would take five objects of one photo for five photos, and give intervals that are too narrow.

The intervals are expanded percentile intervals of the cluster bootstrap: their ends lie further out than the
level says, as Student's t does from the normal, since with few clusters plain percentiles are too narrow
(Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
NUM_RESAMPLES = 2000
MIN_CLUSTERS = 5
"""With fewer, an interval is not given: the few ways to redraw a handful say nothing about other photos."""

_DRAWN_AT_ONCE = 1_000_000  # indices; eight megabytes


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, and how far it can be trusted.

    Attributes:
        mean: The mean over rows.
        low: Lower end of the 95% interval; None where there are fewer than MIN_CLUSTERS photos.
        high: Upper end.
        num_rows: How many rows it is a mean of.
        num_clusters: How many photos those came from.
    """

    mean: float
    low: float | None
    high: float | None
    num_rows: int
    num_clusters: int


def resampled_ratios(
    numerators_CQ: np.ndarray, denominators_CQ: np.ndarray, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Draws clusters with replacement, and divides sums of what was drawn.

    Args:
        numerators_CQ: float (clusters, quantities), summed over the rows of each cluster.
        denominators_CQ: Likewise: the number of rows, or the sum of their weights.
        seed: The same seed draws the same clusters.
        num_resamples: How often.

    Returns:
        float (resamples, quantities); NaN where nothing that counts was drawn.
    """
    num_clusters = len(numerators_CQ)
    random = np.random.default_rng(seed)
    chunk = max(1, min(num_resamples, _DRAWN_AT_ONCE // num_clusters))
    ratios = []
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        drawn = random.integers(num_clusters, size=(rows, num_clusters))
        drawn += np.arange(rows)[:, None] * num_clusters
        times_RC = np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)
        with np.errstate(invalid="ignore"):
            ratios.append((times_RC @ numerators_CQ) / (times_RC @ denominators_CQ))
    return np.concatenate(ratios)


def estimate_means(
    values_NQ: np.ndarray, clusters_N: np.ndarray, *, weights_NQ: np.ndarray | None = None, seed: int = 0
) -> list[Estimate | None]:
    """Means of several quantities over the same rows, with intervals from the same draws.

    Args:
        values_NQ: float (rows, quantities); NaN where a row has no value, which leaves it out.
        clusters_N: (rows,), what each row belongs to: the id of its photo.
        weights_NQ: float (rows, quantities), how much each row counts; equally by default.
        seed: Of the draws.

    Returns:
        One estimate for each quantity; None for one without any value.
    """
    there_NQ = ~np.isnan(values_NQ)
    weights_NQ = there_NQ.astype(float) if weights_NQ is None else np.where(there_NQ, weights_NQ, 0.0)
    clusters, cluster_of_row = np.unique(clusters_N, return_inverse=True)
    numerators_CQ = np.zeros((len(clusters), values_NQ.shape[1]))
    denominators_CQ = np.zeros_like(numerators_CQ)
    np.add.at(numerators_CQ, cluster_of_row, np.where(there_NQ, values_NQ, 0.0) * weights_NQ)
    np.add.at(denominators_CQ, cluster_of_row, weights_NQ)

    ratios_RQ = None
    if len(clusters) >= MIN_CLUSTERS:
        ratios_RQ = resampled_ratios(numerators_CQ, denominators_CQ, seed=seed)
    estimates: list[Estimate | None] = []
    for k in range(values_NQ.shape[1]):
        num_clusters = int(np.count_nonzero(denominators_CQ[:, k]))
        if num_clusters == 0:
            estimates.append(None)
            continue
        low = high = None
        if ratios_RQ is not None and num_clusters >= MIN_CLUSTERS:
            low, high = map(float, np.nanquantile(ratios_RQ[:, k], _percentiles(num_clusters)))
        mean = numerators_CQ[:, k].sum() / denominators_CQ[:, k].sum()
        num_rows = int(np.count_nonzero(there_NQ[:, k]))
        estimates.append(
            Estimate(mean=float(mean), low=low, high=high, num_rows=num_rows, num_clusters=num_clusters)
        )
    return estimates


def _percentiles(num_clusters: int) -> tuple[float, float]:
    """Where the interval's ends are among the resamples, in [0, 1]."""
    t = special.stdtrit(num_clusters - 1, (1 + LEVEL) / 2)
    below = float(special.ndtr(-t * np.sqrt(num_clusters / (num_clusters - 1))))
    return below, 1 - below
