"""Walk-forward folds against brute force; there is no other split."""

import inspect
import re
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import invpipe.forecast
import invpipe.grid
from invpipe.errors import ForecastError
from invpipe.forecast import folds as folds_module
from invpipe.forecast import walk_forward_folds
from invpipe_tests.oracles import forecast as oracle

START = date(2023, 1, 1)
SMALL = st.integers(1, 40)


@given(st.integers(60, 400), SMALL, SMALL, SMALL)
def test_folds_equal_walking_back_from_the_end(n_days: int, horizon: int, step: int, train: int) -> None:
    """Prevents a fold lost, a slab off by a day, and a test day at or before the cutoff."""
    last = START + timedelta(days=n_days - 1)
    wanted = oracle.folds(START, last, horizon, step, train)
    if not wanted:
        return
    found = walk_forward_folds(START, last, horizon_days=horizon, step_days=step, n_folds=len(wanted), min_train_days=train)
    assert [(fold.cutoff, fold.test_first, fold.test_last) for fold in found] == wanted
    assert [fold.index for fold in found] == list(range(len(found)))
    assert found[-1].test_last == last
    for fold in found:
        assert fold.cutoff < fold.test_first <= fold.test_last <= last
        assert fold.horizon_days == horizon
        assert (fold.cutoff - START).days + 1 >= train
    with pytest.raises(
        ForecastError, match=rf"the history has {n_days} \(.*\), enough for {len(wanted)}; ask for fewer folds or shorter steps"
    ):
        walk_forward_folds(START, last, horizon_days=horizon, step_days=step, n_folds=len(wanted) + 1, min_train_days=train)


def test_the_folds_of_the_document() -> None:
    """Prevents other defaults than 12 folds of 60 days sliding 90, and shows the one-year setting: 12 of 28 days sliding 14."""
    long = walk_forward_folds(START, START + timedelta(days=1999))
    assert len(long) == 12
    assert {fold.horizon_days for fold in long} == {60}
    assert {(b.cutoff - a.cutoff).days for a, b in pairwise(long)} == {90}
    year = walk_forward_folds(date(2017, 1, 1), date(2017, 12, 31), horizon_days=28, step_days=14, n_folds=12)
    assert (year[0].cutoff, year[-1].cutoff, year[-1].test_last) == (date(2017, 7, 2), date(2017, 12, 3), date(2017, 12, 31))


def test_too_short_a_history_says_what_is_needed() -> None:
    """Prevents folds that silently become fewer or shorter."""
    message = (
        "12 folds of 60 days sliding 90 after 91 days of training need 1141 days; the history has 365 "
        "(2023-01-01 .. 2023-12-31), enough for 3; ask for fewer folds or shorter steps"
    )
    with pytest.raises(ForecastError, match=f"^{re.escape(message)}$"):
        walk_forward_folds(START, date(2023, 12, 31))
    with pytest.raises(ForecastError, match=r"enough for 0; ask for fewer folds"):
        walk_forward_folds(START, START, n_folds=1)


@pytest.mark.parametrize("name", ["horizon_days", "step_days", "n_folds", "min_train_days"])
def test_parameters_below_1_are_refused(name: str) -> None:
    """Prevents folds without test days and walks that do not move."""
    with pytest.raises(ForecastError, match=rf"^{name} is 0; it must be at least 1$"):
        walk_forward_folds(START, START + timedelta(days=1999), **{name: 0})


def test_there_is_no_random_split() -> None:
    """Prevents an API through which training rows could come from after the cutoff."""
    for package in (invpipe.forecast, invpipe.grid):
        assert not [name for name in package.__all__ if re.search("split|shuffle|random|kfold|cross", name, re.IGNORECASE)]
    assert list(inspect.signature(walk_forward_folds).parameters) == [
        "first_day",
        "last_day",
        "horizon_days",
        "step_days",
        "n_folds",
        "min_train_days",
    ]
    assert not re.search(r"\b(numpy|np|rng|shuffle|permutation|sample)\b", inspect.getsource(folds_module))
