"""The invariants that keep the arena fast and right: each is tested by what it does and, where that catches decay, by its source.

A benchmark tells that the arena became slow, or a comparison that it became wrong; these tests tell which of its ideas was lost.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import types

from invpipe.arena import BacktestParams, OrderNothing, Orders, ShopView, Tape, engine, kernel, run_backtest
from invpipe.arena.policies import base
from invpipe.arena.tape import TapeArrays
from invpipe.arena.tape_build import differential
from invpipe_tests.unit.arena.worlds import MixedPolicy, random_params, random_tape

SEEDS = st.integers(0, 2**32 - 1)
KERNEL = Path(kernel.__file__)
#: What a day runs through, in the order of the day.
DAY_LOOP = (
    "advance", "_apply_deltas", "_scan_offers", "_receive", "_charge_holding", "_sell", "_velocity_step", "_estimate_lost",
    "capital_available", "close_day", "lines_are_allowed", "place", "_await_arrival", "velocity_now", "velocity_decay",
)  # fmt: skip
#: Calls that make arrays or Python objects.
ALLOCATING = {
    "empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "full_like", "array", "arange", "copy", "concatenate",
    "append", "where", "argsort", "sort", "unique", "cumsum", "flatnonzero", "nonzero", "astype", "list", "dict", "set", "sorted",
}  # fmt: skip
#: Arrays with one row per SKU: a loop over one of them costs every day what the catalogue costs.
PER_SKU = ("on_hand", "on_order", "velocity", "best_offer", "best_cost", "unit_price", "book")


def functions() -> dict[str, ast.FunctionDef]:
    """Return the functions of the kernel by name, as syntax trees."""
    tree = ast.parse(KERNEL.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def called(node: ast.AST) -> set[str]:
    """Return the names of what is called anywhere in a piece of source."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return {f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, ast.Name | ast.Attribute)}


class Watcher:
    """Orders like `policy`, and shows a check the kernel's state at the end of each day."""

    name = "watcher"

    def __init__(self, policy, check):
        self.policy, self.check = policy, check

    def decide(self, view: ShopView) -> Orders:
        """Check, then order."""
        self.check(view, view._state)
        return self.policy.decide(view)


def watch(seed: int, check, n_sku: int = 6, n_days: int = 25) -> Tape:
    """Replay a random world that decides daily, calling check(view, state, arrays) every day."""
    tape = random_tape(seed, n_sku, 3, n_days)
    params = BacktestParams(40.0, review_period_days=1, holding_cost_frac_per_year=3.0, velocity_half_life_days=7.0)
    run_backtest(tape, Watcher(MixedPolicy(seed), lambda view, state: check(view, state, tape.arrays)), params, seed % 100)
    return tape


# 1 ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAY_LOOP)
def test_no_allocation_or_validation_in_the_day_loop(name):
    """Prevents a convenience - a temporary array, a check of the input, a message - from being paid for on every day of every run.

    Input is checked once, when a tape is made or opened; orders are checked in one pass that allocates nothing.
    """
    node = functions()[name]
    assert not called(node) & ALLOCATING
    kinds = (ast.Raise, ast.Assert, ast.Try, ast.With, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.JoinedStr, ast.List)
    assert not [type(x).__name__ for x in ast.walk(node) if isinstance(x, kinds)]


def test_day_loop_is_complete():
    """Prevents a new step of the day from escaping these tests: whatever `advance` and the rest call is listed."""
    known, own = set(DAY_LOOP), functions()
    reached = set().union(*(called(own[name]) for name in DAY_LOOP)) & set(own)
    assert reached - {"_start_counting", "_rescale_velocities"} <= known  # when the warm-up ends, and after hundreds of half-lives


def test_a_day_leaves_every_array_where_it_was():
    """Prevents buffers that are made anew from day to day: the state's arrays are the same memory on the first day and the last."""
    seen: list[list[int]] = []
    watch(1, lambda view, state, arrays: seen.append([array.ctypes.data for array in state]))
    assert len(seen) == 25
    assert all(row == seen[0] for row in seen)


def test_cost_of_a_day_does_not_grow_with_the_catalogue():
    """Prevents a loop over all SKUs in the steps of a day; only the warm-up's end, the run's end and the velocity view may have one."""
    loops = {}
    for name in set(DAY_LOOP) - {"velocity_now"}:
        bounds = [ast.unparse(loop.iter) for loop in ast.walk(functions()[name]) if isinstance(loop, ast.For | ast.comprehension)]
        loops[name] = [bound for bound in bounds if any(array in bound for array in PER_SKU)]
    assert not {name: bounds for name, bounds in loops.items() if bounds}


# 2 ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_incremental_inventory_value_is_the_full_sum(seed):
    """Prevents the capital rule from running on a value that drifted from the shelf: an arrival, a sale or an order not booked."""

    def check(view, state, arrays):
        value = state.on_hand @ state.book[:, kernel.AVERAGE_COST]
        np.testing.assert_allclose(state.total_value[0], value, rtol=1e-9, atol=1e-9)
        assert state.total_units.tolist() == [state.on_hand.sum(), state.on_order.sum()]

    watch(seed, check)


# 3 ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_incremental_cheapest_offer_is_the_full_scan(seed):
    """Prevents orders at a price that is gone: a price that rose, a vendor that ran out, a tie that went to the wrong offer."""

    def check(view, state, arrays):
        for sku in range(len(view.skus)):
            offers = range(arrays.offer_start[sku], arrays.offer_start[sku + 1])
            live = [(state.offer_cost[o], o) for o in offers if state.offer_cost[o] > 0.0]
            assert (state.best_cost[sku], state.best_offer[sku]) == min(live, default=(np.inf, -1))

    watch(seed, check)


def test_cheapest_offer_is_scanned_only_when_it_got_worse():
    """Prevents a scan of a SKU's offers per delta: only SKUs noted because their cheapest offer got dearer are scanned."""
    source = functions()["_apply_deltas"]
    assert [name for name, node in functions().items() if "_scan_offers" in called(node)] == ["start_run", "_apply_deltas"]
    scans = [loop for loop in ast.walk(source) if isinstance(loop, ast.For) and "_scan_offers" in called(loop)]
    assert [ast.unparse(loop.iter) for loop in scans] == ["range(dearer)"]
    assert "dearer = Row(dearer + ((offer == best) & (cost > least)))" in ast.unparse(source)


# 4 ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(SEEDS)
def test_pending_orders_wait_in_the_bucket_of_their_day(seed):
    """Prevents a search through all open orders every day, and orders that arrive late, twice, never, or out of the order of placement."""
    tape, params = random_tape(seed, 6, 3, 25), BacktestParams(40.0, review_period_days=1)
    law, state, log = engine.make_law(tape, params), engine._new_state(tape, params, 0), kernel.OrderLog.empty(4096)
    kernel.start_run(tape.arrays, state, law)
    n, rng = 0, np.random.default_rng(seed)
    for day in range(tape.n_days):
        kernel.advance(tape.arrays, state, log, law, day, day)
        skus = np.flatnonzero((state.best_offer >= 0) & (rng.random(6) < 0.5))
        n = kernel.place(tape.arrays, state, log, law, n, day, skus, np.ones(len(skus), dtype=np.int64))
        kernel.close_day(state, law, day)
        for later in range(tape.n_days):
            bucket, order = [], int(state.arrival_head[later])
            while order != kernel.NO_ORDER:
                bucket.append(order)
                order = int(log.next[order])
            assert bucket == np.flatnonzero(log.arrival_day[:n] == later).tolist()


def test_arrivals_follow_one_bucket():
    """Prevents a scan of the order log on arrival: the only loop of `_receive` walks the day's own chain."""
    loops = [node for node in ast.walk(functions()["_receive"]) if isinstance(node, ast.For | ast.While)]
    assert [ast.unparse(loop.test) for loop in loops if isinstance(loop, ast.While)] == ["order != NO_ORDER"]
    assert len(loops) == 1
    assert "state.arrival_head[day]" in ast.unparse(functions()["_receive"])


# 5 ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(SEEDS)
def test_velocity_decays_lazily(seed):
    """Prevents a multiplication per SKU and day: nothing of a SKU without an event is written, yet its velocity reads as decayed daily."""
    last: dict[str, np.ndarray] = {}
    daily = 0.5 ** (1.0 / 7.0)

    def check(view, state, arrays):
        day, now = view.day_index, kernel.velocity_now(state, view.day_index).copy()
        if last:
            still = np.ones(len(now), dtype=bool)
            for start, skus in ((arrays.demand_start, arrays.demand_sku), (arrays.views_start, arrays.views_sku)):
                still[skus[start[day] : start[day + 1]]] = False
            assert (state.velocity[still] == last["stored"][still]).all()
            np.testing.assert_allclose(now[still], last["now"][still] * daily, rtol=1e-12)
        last.update(stored=state.velocity.copy(), now=now)

    watch(seed, check)


def test_only_events_write_the_velocity():
    """Prevents a second place that decays velocities: sales, views and the start add to them, and all are rescaled once in many years."""
    writers = {
        name
        for name, node in functions().items()
        for n in ast.walk(node)
        if isinstance(n, ast.AugAssign | ast.Assign)
        for target in (n.targets if isinstance(n, ast.Assign) else [n.target])
        if ast.unparse(target).startswith(("velocity[", "state.velocity["))
    }
    assert writers == {"_sell", "_estimate_lost", "start_run", "_rescale_velocities"}
    assert [name for name, node in functions().items() if "_rescale_velocities" in called(node)] == ["_velocity_step"]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(SEEDS)
def test_rescaled_velocities_are_the_same(seed):
    """Prevents a velocity that jumps, or leaves the range of floats, when it is put in units of another day."""
    tape, seen = random_tape(seed, 6, 3, 25), []
    for half_lives in (kernel.MAX_HALF_LIVES, 1):
        velocities: list[np.ndarray] = []
        seen.append(velocities)

        class Reader(Watcher):
            def decide(self, view, velocities=velocities):
                velocities.append(view.velocity.copy())
                return super().decide(view)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "MAX_HALF_LIVES", half_lives)
            params = BacktestParams(40.0, review_period_days=1, velocity_half_life_days=3.0)
            run_backtest(tape, Reader(OrderNothing(), lambda *_: None), params)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-12)
    assert np.max(seen[0]) > 0.0


# 6 ------------------------------------------------------------------------------------------------------------------------------------


def test_tapes_hold_differential_deltas_only():
    """Prevents full offer states from creeping into the tape, which made it many times larger and every day touch every offer."""
    import polars as pl

    rng = np.random.default_rng(3)
    n = 300
    states = pl.DataFrame(
        {
            "s": np.sort(rng.integers(0, 9, n)), "v": 0, "day": np.arange(n), "unit_cost": rng.integers(1, 3, n) / 2,
            "in_stock": rng.integers(0, 2, n), "min_order_units": rng.integers(1, 3, n), "pack_units": 1,
        }
    )  # fmt: skip
    known: dict[int, list] = {}
    for row in differential(states).iter_rows(named=True):
        state = known.setdefault(row["s"], [None] * 4)
        values = [row[name] for name in ("unit_cost", "in_stock", "min_order_units", "pack_units")]
        changes = [None if x in (-1, 0) and i else None if x != x else x for i, x in enumerate(values)]
        changes[1] = None if values[1] == -1 else values[1]
        assert any(new is not None for new in changes)
        assert all(new is None or new != old for new, old in zip(changes, state, strict=True))
        known[row["s"]] = [old if new is None else new for new, old in zip(changes, state, strict=True)]
    last = states.group_by("s", maintain_order=True).last()
    assert [known[s] for s in last["s"]] == [list(row) for row in last.drop("s", "v", "day").iter_rows()]


def test_an_unchanged_value_leaves_the_offer_alone():
    """Prevents a delta from overwriting what it does not state: each value is written under the test that it is stated."""
    writes = {}
    for node in ast.walk(functions()["_apply_deltas"]):
        if isinstance(node, ast.If) and len(node.body) == 1 and isinstance(node.body[0], ast.Assign):
            writes[ast.unparse(node.body[0].targets[0])] = ast.unparse(node.test)
    assert {target: test for target, test in writes.items() if target.startswith("state.offer_")} == {
        "state.offer_min_order_units[offer]": "minima[row] > 0",
        "state.offer_pack_units[offer]": "packs[row] > 0",
    }


# 7 ------------------------------------------------------------------------------------------------------------------------------------


def test_views_are_read_only():
    """Prevents a policy from changing the shop's books, by accident or to win: what it can reach is a copy or refuses a write."""

    def arrays_of(value):
        parts = value if isinstance(value, tuple) else (value,)
        return [part for part in parts if isinstance(part, np.ndarray)]

    def check(view, state, arrays):
        for name in dir(view):
            if not name.startswith("_"):
                for array in arrays_of(getattr(view, name)):
                    assert not array.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            view.on_hand_units[0] = 1_000

    tape = watch(5, check)
    assert not any(array.flags.writeable for array in tape.arrays)


def test_views_do_not_hand_out_the_state():
    """Prevents a public way to the kernel's own arrays: the view keeps the state under a private name and wraps what it shows."""
    shown = [node for node in ast.walk(ast.parse(inspect.getsource(base))) if isinstance(node, ast.AnnAssign | ast.Assign)]
    raw = []
    for node in shown:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        value = ast.unparse(node.value) if node.value else ""
        raw += [ast.unparse(t) for t in targets if ast.unparse(t).startswith("self.") and value.startswith(("state.", "self._state."))]
    assert not [name for name in raw if not name.startswith("self._")]


# 8 ------------------------------------------------------------------------------------------------------------------------------------


def test_kernel_is_free_of_python_objects():
    """Prevents a fall back to Python objects, which costs a hundredfold and holds the interpreter's lock: every function is compiled."""
    run_backtest(random_tape(2), MixedPolicy(2), BacktestParams(40.0, review_period_days=1))
    compiled = [getattr(kernel, name) for name in functions() if hasattr(getattr(kernel, name), "nopython_signatures")]
    entered = [function for function in compiled if function.nopython_signatures]
    assert {"advance", "place", "close_day", "start_run", "finish_run"} <= {function.__name__ for function in entered}
    for function in entered:
        assert len(function.nopython_signatures) == len(function.signatures) == 1, function.__name__
        assert function.targetoptions["nogil"], function.__name__
        flat = [part for argument in function.signatures[0] for part in getattr(argument, "types", (argument,))]
        assert not [part for part in flat if part == types.pyobject]


def test_no_array_holds_objects():
    """Prevents names, dates or other objects in what the kernel reads or writes."""
    tape, params = random_tape(2), BacktestParams(40.0)
    arrays = [*tape.arrays, *engine._new_state(tape, params, 0), *kernel.OrderLog.empty(3)]
    assert {array.dtype.kind for array in arrays} <= {"i", "f"}
    assert all(array.flags.c_contiguous for array in arrays)


def test_every_kernel_function_is_compiled_without_the_lock():
    """Prevents a step in plain Python between compiled ones, and one that keeps other threads waiting."""
    for name, node in functions().items():
        options = {kw.arg: ast.unparse(kw.value) for d in node.decorator_list if isinstance(d, ast.Call) for kw in d.keywords}
        assert options.get("nogil") == "True", name
        assert "forceobj" not in options, name


# 9 ------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, derandomize=True)
@given(SEEDS)
def test_same_input_same_bytes(seed):
    """Prevents results that depend on what ran before: the second run of a world, after another one, has the fingerprint of the first."""
    tape, params, policy = random_tape(seed, 5, 3, 20), random_params(seed), MixedPolicy(seed)
    first = run_backtest(tape, policy, params, 3).fingerprint()
    run_backtest(random_tape(seed + 1), OrderNothing(), params)
    assert run_backtest(tape, policy, params, 3).fingerprint() == first


def test_no_clock_and_no_shared_generator_in_the_kernel():
    """Prevents randomness without a seed: the kernel draws nothing and reads no time; the engine draws lead times from the run's seed."""
    words = {node.attr for node in ast.walk(ast.parse(KERNEL.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)}
    assert not words & {"random", "time", "perf_counter", "default_rng", "Generator"}
    drawn = [n for n in ast.walk(ast.parse(inspect.getsource(engine))) if isinstance(n, ast.Attribute) and n.attr == "random"]
    assert len(drawn) == 2  # np.random.Generator(np.random.Philox(seed))


# conservation -------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_units_are_conserved_every_day(seed):
    """Prevents units that appear or vanish between vendor, shelf and customer, per SKU and on every single day."""
    before = SimpleNamespace(on_hand=None, on_order=None, sales=None)

    def check(view, state, arrays):
        day, sales = view.day_index, state.book[:, kernel.CONVERSION_UNITS] - state.conversion_start
        if before.on_hand is None:
            before.on_hand, before.sales = arrays.opening_on_hand_units, np.zeros(len(view.skus), dtype=np.int64)
            before.on_order = np.zeros(len(view.skus), dtype=np.int64)
        arrived = before.on_order - state.on_order
        assert (state.on_hand == before.on_hand + arrived - (sales - before.sales)).all()
        assert (state.on_hand >= 0).all()
        assert (arrived >= 0).all()
        assert arrived.sum() == state.day_units[day, kernel.ARRIVAL]
        wanted = np.bincount(arrays.demand_sku, minlength=len(view.skus)) if day == len(arrays.demand_start) else None
        assert wanted is None or (sales <= wanted).all()
        before.on_hand, before.sales = state.on_hand.copy(), sales
        before.on_order = state.on_order.copy()

    class Books(Watcher):
        def decide(self, view):
            orders = super().decide(view)
            np.add.at(before.on_order, orders.sku_index, orders.order_units)
            return orders

    tape = random_tape(seed, 6, 3, 25)
    tape = Tape(tape.start, tape.skus, tape.vendors, tape.arrays._replace(min_order_value=np.zeros(3)))  # no line is refused
    params = BacktestParams(40.0, review_period_days=1)
    run_backtest(tape, Books(MixedPolicy(seed), lambda view, state: check(view, state, tape.arrays)), params, 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_cash_is_conserved_every_day(seed):
    """Prevents money that appears or vanishes: what was paid to vendors is on the shelf, on the way, or was sold at cost, on every day."""
    tape, params = random_tape(seed, 6, 3, 25), random_params(seed)
    days = run_backtest(tape, MixedPolicy(seed), params, 1).days
    opening = float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost)
    bound = (days["inventory_value"] + days["on_order_value"]).to_numpy()
    paid = opening + np.cumsum(days["order_value"].to_numpy() - days["cogs"].to_numpy())
    np.testing.assert_allclose(bound, paid, rtol=1e-9, atol=1e-9)
    earned = days["revenue"] - days["cogs"] - days["holding_cost"] - days["inbound_cost"]
    np.testing.assert_allclose(days["profit_at_cost"], earned, rtol=1e-9, atol=1e-9)
    free = np.maximum(params.capital_limit - bound, 0.0) if np.isfinite(params.capital_limit) else np.full(len(bound), np.inf)
    np.testing.assert_allclose(days["capital_available"], free, rtol=1e-9, atol=1e-9)


def test_arrays_of_a_tape_and_of_the_day_loop_are_named():
    """Prevents this module from testing names that are gone."""
    assert set(PER_SKU) <= {*kernel.State._fields, *TapeArrays._fields}
    assert set(DAY_LOOP) <= set(functions())
