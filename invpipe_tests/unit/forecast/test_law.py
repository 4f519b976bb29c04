"""Count laws against scipy and the definitions; wrong laws are refused by name; quantiles do not add."""

import re
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invpipe.errors import ForecastError
from invpipe.forecast.law import CountLaw, WindowDemand
from invpipe_tests.oracles import forecast as oracle

#: Probabilities agree to this, the precision of the incomplete beta function in the far tails.
PROBABILITY_ATOL = 1e-12

MEANS = st.one_of(st.just(0.0), st.floats(1e-6, 60.0), st.floats(400.0, 2000.0))
SIZES = st.one_of(st.just(np.inf), st.floats(0.01, 100.0), st.floats(1e9, 1e12))
LAWS = st.lists(st.tuples(MEANS, SIZES), min_size=1, max_size=8)


def law(rows: list[tuple[float, float]]) -> CountLaw:
    mean, size = np.array(rows).T
    return CountLaw(mean, size)


def reference_sf(mean: float, size: float, n: float) -> float:
    """P(D > n) by scipy."""
    if mean == 0:
        return float(n < 0)
    if size >= 1e8:
        return float(stats.poisson.sf(n, mean))
    return float(stats.nbinom.sf(n, size, size / (size + mean)))


@given(LAWS, st.integers(-2, 300))
def test_survival_equals_scipy(rows: list[tuple[float, float]], n: int) -> None:
    """Prevents an off-by-one between P(D >= n) and P(D > n), and a wrong parametrisation."""
    found = law(rows).survival(np.full(len(rows), n))
    np.testing.assert_allclose(found, [reference_sf(m, r, n - 1) for m, r in rows], rtol=1e-9, atol=PROBABILITY_ATOL)
    np.testing.assert_allclose(law(rows).cdf(np.full(len(rows), n)), [1 - reference_sf(m, r, n) for m, r in rows], atol=PROBABILITY_ATOL)


@given(LAWS, st.floats(0.001, 0.999))
def test_quantile_is_the_smallest_that_reaches_tau(rows: list[tuple[float, float]], tau: float) -> None:
    """Prevents quantiles a unit too high or too low, for sparse and for large means."""
    q = law(rows).quantile(tau)
    assert q.dtype == np.int64
    for (mean, size), n in zip(rows, q.tolist(), strict=True):
        assert 1 - reference_sf(mean, size, n) >= tau - 1e-10
        assert n == 0 or 1 - reference_sf(mean, size, n - 1) < tau + 1e-10


@given(LAWS, st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_quantiles_are_monotone_in_tau_and_survival_in_units(rows: list[tuple[float, float]], a: float, b: float) -> None:
    """Prevents quantiles that cross and a survival function that rises."""
    assert (law(rows).quantile(min(a, b)) <= law(rows).quantile(max(a, b))).all()
    s = law(rows).survival(np.arange(-1, 200)[:, None])
    assert s.shape == (201, len(rows))
    assert (np.diff(s, axis=0) <= 1e-15).all()
    assert (s[:2] == 1.0).all()
    assert ((s >= 0) & (s <= 1)).all()


@given(st.floats(1e-3, 30.0), st.one_of(st.just(np.inf), st.floats(0.05, 50.0)), st.integers(0, 60))
def test_expected_sales_equal_the_definition(mean: float, size: float, stock: int) -> None:
    """Prevents a wrong closed form of E[min(D, stock)]."""
    found = law([(mean, size)]).expected_sales(np.array([stock]))[0]
    assert found == pytest.approx(oracle.expected_sales(mean, size, stock), rel=1e-8, abs=1e-10)


def test_expected_sales_of_no_stock_and_of_all_stock() -> None:
    """Prevents negative sales and sales above the demand."""
    demand = law([(0.0, np.inf), (2.0, np.inf), (2.0, 0.5)])
    assert demand.expected_sales(np.array([-3, -3, 0])).tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(demand.expected_sales(np.full(3, 10_000)), demand.mean, rtol=1e-12)


def test_large_size_is_poisson() -> None:
    """Prevents a jump between the families: at r = 1e7 and beyond, nothing but Poisson is left."""
    mean, n = np.array([0.3, 4.0, 90.0]), np.array([1, 6, 80])
    poisson = CountLaw(mean, np.full(3, np.inf))
    for size in (1e7, 1e9, 1e300):
        near = CountLaw(mean, np.full(3, size))
        np.testing.assert_allclose(near.survival(n), poisson.survival(n), rtol=1e-4)
        np.testing.assert_allclose(near.expected_sales(n), poisson.expected_sales(n), rtol=1e-5)
        assert near.quantile(0.9).tolist() == poisson.quantile(0.9).tolist()
    np.testing.assert_allclose(CountLaw(mean, np.full(3, 2.0)).variance(), mean + mean**2 / 2)
    np.testing.assert_allclose(poisson.variance(), mean)


@pytest.mark.parametrize("tau", [1e-12, 1 - 1e-12, 1 - 2**-53])
def test_extreme_quantiles_end(tau: float) -> None:
    """Prevents a search that never reaches tau because the sum of probabilities rounds below it."""
    q = law([(0.5, np.inf), (3.0, 0.2), (200.0, 5.0), (900.0, np.inf)]).quantile(tau)
    assert (q >= 0).all()
    assert (q < 10_000).all()


def test_take_keeps_rows_together() -> None:
    """Prevents means with other rows' sizes."""
    demand = law([(1.0, np.inf), (2.0, 5.0), (3.0, 7.0)])
    some = demand.take(np.array([False, True, True]))
    assert (some.mean.tolist(), some.size.tolist(), len(some)) == ([2.0, 3.0], [5.0, 7.0], 2)


WRONG_LAWS = [
    (
        ([1.0, -0.5, np.nan], [1.0, 1.0, 1.0]),
        r"2 of 3 mean demands are negative or not finite, first at flat index 1: -0.5; check the forecast",
    ),
    (([np.inf], [1.0]), r"1 of 1 mean demands are negative or not finite, first at flat index 0: inf"),
    (([1.0, 1.0], [1.0, 0.0]), r"1 of 2 sizes are not above 0, first at flat index 1: 0.0; inf is the Poisson law"),
    (([1.0], [np.nan]), r"1 of 1 sizes are not above 0, first at flat index 0: nan"),
    (([1.0], [1.0, 2.0]), r"mean has shape (1,), size has shape (2,); give one size per mean"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_LAWS)
def test_wrong_law_is_refused(columns: tuple[list[float], list[float]], message: str) -> None:
    """Prevents a law from carrying numbers that no demand has."""
    with pytest.raises(ForecastError, match=f"^{re.escape(message)}"):
        CountLaw(*map(np.array, columns))


@pytest.mark.parametrize("tau", [0.0, 1.0, -0.1, 1.5, np.nan])
def test_tau_outside_0_1_is_refused(tau: float) -> None:
    """Prevents percent taken for shares."""
    with pytest.raises(ForecastError, match=rf"^tau is {tau}; it must lie strictly between 0 and 1$"):
        law([(1.0, 1.0)]).quantile(tau)


def windows(mean: object = ((1.0, 3.0), (0.0, 0.5)), size: object = ((np.inf, 2.0), (1.0, 0.3)), **changes: object) -> WindowDemand:
    """Two SKUs, two windows."""
    fields = {"skus": ("A", "B"), "cutoff": date(2025, 1, 31), "windows": ((1, 7), (1, 28))} | changes
    return WindowDemand(**fields, mean=np.array(mean), size=np.array(size))  # type: ignore[arg-type]


def test_window_quantiles_are_integer_with_dates_of_the_windows() -> None:
    """Prevents windows that start on the cutoff itself, fractions of units, and rows in chance order."""
    frame = windows().quantiles([0.9, 0.5])
    assert frame.schema["demand_units"] == pl.Int64
    assert frame.equals(frame.sort("sku", "first_day", "last_day", "tau"))
    rows = frame.filter(sku="A", last_day=date(2025, 2, 28)).rows()
    wanted = [int(stats.nbinom.ppf(tau, 2.0, 2.0 / 5.0)) for tau in (0.5, 0.9)]
    assert rows == [("A", date(2025, 2, 1), date(2025, 2, 28), tau, q) for tau, q in zip((0.5, 0.9), wanted, strict=True)]


def test_window_law_and_survival_agree_with_the_law_of_each_window() -> None:
    """Prevents a law of one SKU's window with another window's size."""
    demand = windows()
    mixed = demand.law(np.array([1, 0]))
    assert (mixed.mean.tolist(), mixed.size.tolist()) == ([3.0, 0.0], [2.0, 1.0])
    assert (demand.law(1).mean.tolist(), demand.law().mean.tolist()) == ([3.0, 0.5], [1.0, 0.0])
    s = demand.survival(30)
    assert s.shape == (2, 2, 30)
    for j in range(2):
        np.testing.assert_array_equal(s[:, j], demand.law(j).survival(np.arange(1, 31)[:, None]).T)
        np.testing.assert_array_equal(demand.quantile(0.8)[:, j], demand.law(j).quantile(0.8))


def test_window_demands_do_not_add() -> None:
    """Prevents the mistake the class is there to stop: a longer window's quantile from adding shorter ones, also by sum()."""
    message = "window demands cannot be added: quantiles do not add; ask the forecaster for the longer window"
    with pytest.raises(TypeError, match=message):
        windows() + windows()
    with pytest.raises(TypeError, match=message):
        sum([windows(), windows()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": ((1, 7), (0, 28))}, "window (0, 28) is empty or starts before day 1; give 1 <= first <= last"),
        ({"windows": ((1, 7), (9, 8))}, "window (9, 8) is empty or starts before day 1"),
        ({"skus": ("A",)}, "mean has shape (2, 2) for 1 SKUs and 2 windows"),
        ({"windows": ((1, 7),)}, "mean has shape (2, 2) for 2 SKUs and 1 windows"),
        ({"size": ((1.0, 1.0),)}, "mean has shape (2, 2), size has shape (1, 2); give one size per mean"),
        ({"mean": ((1.0, -1.0), (1.0, 1.0))}, "1 of 4 mean demands are negative or not finite, first at flat index 1: -1.0"),
    ],
)
def test_wrong_window_demand_is_refused(changes: dict[str, object], message: str) -> None:
    """Prevents laws that do not fit their SKUs and windows."""
    with pytest.raises(ForecastError, match=f"^{re.escape(message)}"):
        windows(**changes)


def test_window_demand_survives_a_frame() -> None:
    """Prevents laws that change when they are stored as a table, whatever the order of its rows."""
    demand = windows()
    again = WindowDemand.from_frame(demand.to_frame().sample(fraction=1.0, shuffle=True, seed=1))
    assert (again.skus, again.cutoff, again.windows) == (demand.skus, demand.cutoff, demand.windows)
    assert (again.mean.tobytes(), again.size.tobytes()) == (demand.mean.tobytes(), demand.size.tobytes())


def test_frame_of_more_or_less_than_one_forecast_is_refused() -> None:
    """Prevents rows of several cutoffs, or a lost window, from shifting laws to other SKUs."""
    frame = windows().to_frame()
    message = r"rows are not one law for each of \d SKUs and \d windows at one cutoff; take one partition"
    other = windows(cutoff=date(2025, 2, 1)).to_frame()
    twice = frame[[0, 0, 2, 3]]
    for wrong in (frame.head(3), frame.clear(), twice, pl.concat([frame, other]), pl.concat([frame.head(2), other.tail(2)])):
        with pytest.raises(ForecastError, match=rf"^{len(wrong)} {message}"):
            WindowDemand.from_frame(wrong)
