from __future__ import annotations

import numpy as np
import pytest

from textremove.statistics import MIN_CLUSTERS, Estimate, estimate_means, resampled_ratios


def one(values: np.ndarray, clusters: np.ndarray, **options: object) -> Estimate:
    (estimate,) = estimate_means(values[:, None], clusters, **options)  # type: ignore[arg-type]
    assert estimate is not None
    return estimate


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


@pytest.mark.parametrize("num_photos", [8, 40])
def test_intervals_cover_the_true_mean_about_as_often_as_they_say(num_photos: int) -> None:
    # Rows of a photo share most of what moves them; photos have one to five rows.
    random, covered, trials = np.random.default_rng(0), 0, 150
    for trial in range(trials):
        photos = np.repeat(np.arange(num_photos), random.integers(1, 6, size=num_photos))
        values = 0.6 + 0.2 * random.normal(size=num_photos)[photos] + 0.05 * random.normal(size=len(photos))
        estimate = one(values, photos, seed=trial)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0.6 <= estimate.high
    assert 0.9 <= covered / trials <= 0.99


def test_the_interval_of_independent_rows_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    estimate = one(values, np.arange(400))
    assert estimate.mean == pytest.approx(values.mean())
    assert width(estimate) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_seeing_every_row_four_times_makes_nothing_surer() -> None:
    values = np.random.default_rng(2).normal(size=60)
    once = one(values, np.arange(60))
    by_photo = one(np.repeat(values, 4), np.repeat(np.arange(60), 4))
    by_row = one(np.repeat(values, 4), np.arange(240))
    assert width(by_photo) == pytest.approx(width(once))
    assert width(by_row) < 0.6 * width(by_photo)
    assert (by_photo.num_rows, by_photo.num_clusters) == (240, 60)


def test_weights_and_missing_values_count_as_they_should() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    weights = np.array([1.0, 1.0, 9.0, 2.0, 1.0, 1.0])
    estimate = one(values, np.arange(6), weights_NQ=weights[:, None])
    assert estimate.mean == pytest.approx((1 + 2 + 8 + 5 + 6) / 6)
    assert (estimate.num_rows, estimate.num_clusters) == (5, 5)
    assert estimate.low is not None


def test_a_handful_of_photos_has_a_mean_and_no_interval() -> None:
    values = np.array([0.1, 0.4, 0.7, 0.9])
    few = one(np.repeat(values, 3), np.repeat(np.arange(MIN_CLUSTERS - 1), 3))
    assert few.mean == pytest.approx(values.mean())
    assert (few.low, few.high) == (None, None)


def test_nothing_at_all_has_no_mean() -> None:
    assert estimate_means(np.full((3, 1), np.nan), np.arange(3)) == [None]
    assert estimate_means(np.zeros((0, 2)), np.zeros(0)) == [None, None]


def test_equal_values_have_an_interval_of_no_width() -> None:
    estimate = one(np.zeros(20), np.arange(20))
    assert (estimate.mean, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_the_same_seed_draws_the_same_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    numerators, denominators = np.random.default_rng(3).random((30, 2)), np.ones((30, 2))
    whole = resampled_ratios(numerators, denominators, seed=5, num_resamples=50)
    monkeypatch.setattr("textremove.statistics._DRAWN_AT_ONCE", 100)
    np.testing.assert_allclose(resampled_ratios(numerators, denominators, seed=5, num_resamples=50), whole)
    assert whole.shape == (50, 2)
    assert not np.allclose(resampled_ratios(numerators, denominators, seed=6, num_resamples=50), whole)
