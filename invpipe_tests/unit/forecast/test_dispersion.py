"""The spread of the window law: its gradient from the definition, and what it is for."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from invpipe.features import FEATURES
from invpipe.forecast import ForecastParams
from invpipe.forecast.dispersion import MAX_SHIFT, Curves, fit_size, fit_size_shift, log_level, size_gradient, spread_inputs, train_spread
from invpipe_tests.oracles import forecast as oracle


def derivatives(mean: float, units: int, log_size: float) -> tuple[float, float]:
    gradient, hessian = np.full(1, np.nan), np.full(1, np.nan)
    size_gradient(np.array([mean]), np.array([float(units)]), np.array([log_size]), gradient, hessian)
    return float(gradient[0]), float(hessian[0])


@given(st.floats(0.01, 40.0), st.integers(0, 150), st.floats(-2.0, 4.0))
@example(1.0, 65, 5.0)
def test_gradient_is_the_slope_of_the_likelihood(mean: float, units: int, log_size: float) -> None:
    """Prevents a lost term or a bad expansion for many units: compared with differences of the probability's definition."""
    step = 1e-4
    assume(oracle.pmf(mean, np.exp(log_size), units) > 1e-200)
    low, high = (-np.log(oracle.pmf(mean, np.exp(log_size + side * step), units)) for side in (-1, 1))
    gradient, hessian = derivatives(mean, units, log_size)
    assert gradient == pytest.approx((high - low) / (2 * step), rel=2e-3, abs=2e-5)
    assert hessian > 0


def test_spread_tells_steady_from_lumpy_skus_of_one_mean() -> None:
    """Prevents a dispersion that knows the mean alone: half of the SKUs come in lumps, which a feature tells and the mean does not."""
    g, n = np.random.default_rng(0), 8000
    lumpy = np.arange(n) % 2 == 1
    size = np.where(lumpy, 0.3, 20.0)
    units = g.poisson(4.0 * g.gamma(size) / size).astype(float)
    mean, matrix = np.full(n, 4.0), np.full((n, len(FEATURES)), np.nan, dtype=np.float32)
    matrix[:, FEATURES.index("sale_size_cv2_364")] = np.where(lumpy, 3.0, 0.1) + g.normal(0.0, 0.01, n)
    start = np.full(n, fit_size(mean, units))
    booster = train_spread(
        spread_inputs(matrix, mean), (*FEATURES, "log_mean"), (mean, units, start), np.arange(n) % 5 == 0, ForecastParams()
    )
    found = np.exp(start + booster.predict(spread_inputs(matrix, mean), raw_score=True))
    assert np.median(found[lumpy]) == pytest.approx(0.3, rel=0.3)
    assert np.median(found[~lumpy]) == pytest.approx(20.0, rel=0.6)


@pytest.mark.parametrize("held_skus", [0, 6, 20])
def test_spread_does_not_learn_skus_by_heart(held_skus: int) -> None:
    """Prevents intervals too narrow in a small shop: 20 SKUs of one spread, each told by a feature, are many cells and little evidence.

    Rows of one SKU share its level, which looks like a spread of its own. Where no SKU is held out, or all are, one round is all there is.
    """
    g, per_sku = np.random.default_rng(3), 2000
    sku = np.repeat(np.arange(20), per_sku)
    level = g.gamma(2.0, 0.5, 20)[sku]
    mean, units = np.full(len(sku), 4.0), g.poisson(4.0 * level).astype(float)
    matrix = np.full((len(sku), len(FEATURES)), np.nan, dtype=np.float32)
    matrix[:, FEATURES.index("sale_size_cv2_364")] = sku
    start = np.full(len(sku), fit_size(mean, units))
    inputs = spread_inputs(matrix, mean)
    booster = train_spread(inputs, (*FEATURES, "log_mean"), (mean, units, start), sku < held_skus, ForecastParams())
    assert booster.num_trees() == 1
    assert np.abs(booster.predict(inputs, raw_score=True)).max() < 0.8


def test_shift_of_sizes_only_widens() -> None:
    """Prevents a law made narrower by a calm week, and a lost term: sizes four times too large come down by log 4, right ones stay."""
    g, n = np.random.default_rng(2), 30_000
    mean, size = g.uniform(0.5, 20.0, n), np.where(np.arange(n) % 2 == 1, 1.0, 6.0)
    units = g.poisson(mean * g.gamma(size) / size).astype(float)
    assert fit_size_shift(mean, units, np.log(4.0 * size)) == pytest.approx(-np.log(4.0), abs=0.06)
    assert fit_size_shift(mean, units, np.log(size)) == pytest.approx(0.0, abs=0.06)
    assert fit_size_shift(mean, units, np.log(size / 4.0)) == pytest.approx(0.0, abs=1e-4)
    assert fit_size_shift(np.full(9, 1.0), np.array([0.0] * 8 + [1e4]), np.full(9, 8.0)) == pytest.approx(-MAX_SHIFT, abs=1e-4)


def test_level_is_the_ratio_of_sums() -> None:
    """Prevents the logarithm of nothing where a class sold nothing."""
    assert log_level(np.full(999, 1.0), np.full(999, 2.0)) == pytest.approx(np.log(1999 / 1000))
    assert np.isfinite(log_level(np.zeros(3), np.zeros(3)))


def test_curves_come_back_from_their_document() -> None:
    """Prevents a saved model that answers otherwise than the fitted one."""
    g = np.random.default_rng(1)
    mean, days = g.uniform(0.1, 5.0, 4000), np.repeat([7, 28], 2000)
    curves = Curves.fit(mean, g.poisson(mean).astype(float), days, fit_size)
    again = Curves.of_document(curves.document())
    np.testing.assert_array_equal(curves.at_cells(mean, days), again.at_cells(mean, days))
    np.testing.assert_array_equal(curves.at_cells(mean, days)[2000:], curves.at(mean[2000:], 28))
