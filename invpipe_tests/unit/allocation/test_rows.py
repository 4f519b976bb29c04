"""Orders straight from arrays against `allocate`, and the shortcuts of the exact method against the version without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invpipe.allocation import allocate, exact, expected_values
from invpipe.allocation.rows import AllocationRows, order_units, row_values, unlimited_units
from invpipe.errors import AllocationError
from invpipe_tests.oracles import allocation as oracle
from invpipe_tests.oracles import exact_lots

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0, 3.0, 1000.0])
METHODS = st.sampled_from(["exact", "greedy"])


def rows_of(problem):
    """The problem's rows; vendors are numbered against the order of their names, so that ties show."""
    names = sorted(set(problem.vendors), reverse=True)
    vendor = np.array([names.index(name) for name in problem.vendors], dtype=np.int64)
    least = np.zeros(len(names))
    least[vendor] = problem.vendor_min_order_value
    return AllocationRows(
        problem.demand.mean,
        problem.demand.size,
        problem.unit_price,
        problem.unit_cost,
        problem.holding_cost,
        problem.salvage_value,
        problem.inventory_position_units,
        problem.first_lot_units,
        problem.pack_units,
        vendor,
        least,
        np.arange(len(names), dtype=np.int64)[::-1].copy(),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=SEEDS, n=st.integers(1, 80), share=SHARES, packs=st.booleans(), method=METHODS, minimum=st.sampled_from([0.0, 0.3, 0.7, 2.0]))
def test_orders_are_those_of_allocate(seed, n, share, packs, method, minimum):
    """Prevents a fast way that orders otherwise: ties, packs, scarce or free capital, vendors deferred in several rounds."""
    problem = oracle.random_problem(seed, n, capital_share=share, packs=packs, price_below_cost=True)
    per_vendor = minimum * problem.capital / 3 if np.isfinite(problem.capital) else 10.0
    problem = replace(problem, vendor_min_order_value=np.full(n, per_vendor))
    plan = allocate(problem, method)
    got = order_units(rows_of(problem), problem.capital, method)
    assert got.tolist() == plan.order_units.tolist()
    assert row_values(rows_of(problem), got).tolist() == expected_values(problem, got).tolist()


@pytest.mark.parametrize("method", ["exact", "greedy"])
@pytest.mark.parametrize("capital", [0.0, 300.0, 3_000.0, np.inf])
def test_ties_are_taken_in_the_order_of_rows(method, capital):
    """Prevents a heap or a sort that is not stable: every row has twins, so that ranks and ratios tie exactly."""
    problem = oracle.random_problem(5, 300, packs=True, mean=6.0)
    twins = np.arange(300) // 10 * 10
    problem = replace(
        problem.take(np.arange(300)),
        unit_price=problem.unit_price[twins],
        unit_cost=problem.unit_cost[twins],
        holding_cost=problem.holding_cost[twins],
        salvage_value=problem.salvage_value[twins],
        inventory_position_units=problem.inventory_position_units[twins],
        demand=problem.demand.take(twins),
        min_order_units=problem.min_order_units[twins],
        pack_units=problem.pack_units[twins],
        capital=capital,
    )
    for least in (0.0, 60.0):
        again = replace(problem, vendor_min_order_value=np.full(300, least))
        assert order_units(rows_of(again), capital, method).tolist() == allocate(again, method).order_units.tolist()


def test_unlimited_units_are_the_newsvendor_of_each_row():
    """Prevents a row's own wish from depending on the others or on the capital."""
    problem = oracle.random_problem(9, 60, packs=True, capital_share=0.01)
    assert unlimited_units(rows_of(problem)).tolist() == allocate(replace(problem, capital=np.inf)).order_units.tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=SEEDS, n=st.integers(1, 200), share=SHARES, packs=st.booleans(), mean=st.sampled_from([0.05, 0.5, 3.0, 40.0]))
def test_shortcuts_keep_every_byte(seed, n, share, packs, mean):
    """Prevents a skipped row that had a lot worth buying, and a shorter list of fitting lots that changes plan, price or bound."""
    problem = oracle.random_problem(seed, n, capital_share=share, packs=packs, mean=mean, price_below_cost=True)
    fast, slow = exact.Lots.of(problem), exact_lots.Lots.of(problem)
    for name in ("start", "value", "ratio"):
        assert getattr(fast, name).tobytes() == getattr(slow, name).tobytes()
    a, b = fast.buy(problem.capital), slow.buy(problem.capital)
    assert (a.order_units.tobytes(), a.capital_price, a.bound) == (b.order_units.tobytes(), b.capital_price, b.bound)


@pytest.mark.parametrize("size", [0.05, 1.0, 30.0, np.inf])
def test_bound_of_the_survival_is_one(size):
    """Prevents a bound below P(D >= n), under which rows worth buying would be skipped; and one so loose that it skips nothing."""
    skipped = 0
    for mean in (1e-6, 0.01, 0.3, 2.0, 50.0):
        law = stats.poisson(mean) if np.isinf(size) else stats.nbinom(size, size / (size + mean))
        for position in (0, 1, 2, 5, 11, 60):
            for loss in (1e-9, 0.01, 0.1, 0.4, 0.9):
                if exact.cannot_pay(mean, size, 1.0, loss, position):
                    assert law.sf(position) <= loss
                    skipped += 1
    assert skipped > 40


def test_too_many_lots_is_an_error(monkeypatch):
    """Prevents the memory from being filled by a catalogue of bulk goods ordered by the piece."""
    from invpipe.allocation import rows

    monkeypatch.setattr(rows, "_lots_of", lambda _: (np.array([0, -1]), np.zeros(0), np.zeros(0)))
    with pytest.raises(AllocationError, match=r"more than 20,000,000 lots are worth buying, exceeded at row 0; order in larger packs"):
        order_units(rows_of(oracle.random_problem(1, 1)), 1.0, "exact")
