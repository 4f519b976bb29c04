"""ShopHistory: one value from any form of the tables, nothing after a cutoff, arrays as the definitions say."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.contracts import CONTRACTS
from invpipe.errors import ContractError, HistoryError
from invpipe.history import Events, ShopHistory
from invpipe_tests.unit.history.worlds import START, day, history, random_shop

SEEDS = st.integers(0, 2**32 - 1)


def same(a: ShopHistory, b: ShopHistory) -> bool:
    """Whether two histories hold the same tables and days."""
    frames = all(
        (getattr(a, name) is None and getattr(b, name) is None) or getattr(a, name).equals(getattr(b, name), null_equal=True)
        for name in CONTRACTS
    )
    return frames and (a.first_day, a.last_day, a.skus) == (b.first_day, b.last_day, b.skus)


def rows_of(events: Events, sku: int) -> list[tuple[int, float]]:
    """The events of one SKU as (day index, value)."""
    part = slice(events.ptr[sku], events.ptr[sku + 1])
    return list(zip(events.day[part].tolist(), events.value[part].tolist(), strict=True))


@settings(max_examples=15)
@given(SEEDS)
def test_lazy_tables_and_row_order_change_nothing(seed: int) -> None:
    """Prevents a forecast that depends on how a database happened to order its rows."""
    frames = random_shop(seed)
    right = history(frames)
    lazy = ShopHistory.from_frames(**{name: frame.lazy() for name, frame in frames.items()})
    shuffled = history({name: frame.sample(fraction=1.0, shuffle=True, seed=seed) for name, frame in frames.items()})
    assert same(right, lazy)
    assert same(right, shuffled)
    for name in ("sales", "views", "offer_cost", "offer_vendors"):
        a, b = getattr(right.arrays, name), getattr(shuffled.arrays, name)
        assert (a.ptr.tobytes(), a.day.tobytes(), a.value.tobytes()) == (b.ptr.tobytes(), b.day.tobytes(), b.value.tobytes())


@settings(max_examples=15)
@given(SEEDS)
def test_spans_and_days_give_the_same_history(seed: int) -> None:
    """Prevents the two forms of orderable_daily from giving different labels."""
    frames = random_shop(seed)
    spans = frames["orderable_daily"]
    flags = spans.select("sku", pl.date_ranges("from_day", "to_day").alias("day"), orderable=pl.lit(value=True)).explode("day")
    assert same(history(frames), history(frames, orderable_daily=flags.sample(fraction=1.0, shuffle=True, seed=seed)))


@settings(max_examples=25)
@given(SEEDS, st.integers(0, 59))
def test_until_leaves_nothing_after_the_cutoff(seed: int, k: int) -> None:
    """Prevents reading the future: every row of every dated table lies at or before the cutoff, and nothing before it is lost."""
    full = history(random_shop(seed))
    cutoff = min(day(k), full.last_day)
    known = full.until(cutoff)
    assert (known.first_day, known.last_day) == (full.first_day, cutoff)
    for name in ("sales_daily", "stock_daily", "page_views_daily"):
        before: pl.DataFrame = getattr(full, name).filter(pl.col("day") <= cutoff)
        assert getattr(known, name).equals(before)
    assert known.offers is not None
    assert full.offers is not None
    assert known.offers.equals(full.offers.filter(pl.col("observed_at").dt.date() <= cutoff))
    open_days = {(s, d) for s, a, b in full.orderable_daily.rows() for d in pl.date_range(a, b, eager=True) if d <= cutoff}
    assert {(s, d) for s, a, b in known.orderable_daily.rows() for d in pl.date_range(a, b, eager=True)} == open_days
    assert known.skus == full.skus
    assert known.until(cutoff) is known, "its arrays are built once"


def test_until_refuses_days_it_cannot_answer() -> None:
    """Prevents an empty history, or one that pretends to know days nobody recorded."""
    full = history(random_shop(1))
    with pytest.raises(
        HistoryError, match=rf"cutoff 2023-03-07 lies outside the history, {START} .. {full.last_day}; choose a day within it"
    ):
        full.until(START - timedelta(days=1))
    with pytest.raises(HistoryError, match=r"cutoff .* lies outside the history"):
        full.until(full.last_day + timedelta(days=1))
    late = history(random_shop(1), sales_daily=random_shop(1)["sales_daily"].filter(pl.col("day") > day(9)))
    first = late.sales_daily["day"].min()
    with pytest.raises(
        HistoryError, match=rf"no sale or no orderable day up to cutoff {day(5)}; the first sale is on {first}; choose a later day"
    ):
        late.until(day(5))


def test_no_good_row_left_is_an_error() -> None:
    """Prevents a history without sales, and one whose orderable days all say no."""
    frames = random_shop(2)
    with pytest.raises(HistoryError, match=r"table sales_daily has no good rows left; see the quarantine counts"):
        ShopHistory.from_frames(
            **(frames | {"sales_daily": frames["sales_daily"].with_columns(sku=pl.lit("Z"))}), quarantine_threshold_frac=1.0
        )
    never = pl.DataFrame({"sku": ["S00"], "day": [START], "orderable": [False]})
    with pytest.raises(HistoryError, match=r"table orderable_daily has no good rows left"):
        history(frames, orderable_daily=never)


def test_bad_rows_are_an_error_unless_allowed() -> None:
    """Prevents silent loss: by default one bad row stops the history; with a threshold it is kept in `quarantine`."""
    frames = random_shop(3)
    sales = frames["sales_daily"]
    bad = sales.with_columns(sales_units=pl.when(pl.int_range(pl.len()) == 1).then(-1).otherwise("sales_units").cast(pl.Int32))
    with pytest.raises(ContractError, match=rf"1 of {len(sales)} rows of sales_daily break \[sales_units > 0\]"):
        history(frames, sales_daily=bad)
    kept = ShopHistory.from_frames(**(frames | {"sales_daily": bad}), quarantine_threshold_frac=0.5)
    assert len(kept.sales_daily) == len(sales) - 1
    assert kept.quarantine["table"].to_list() == ["sales_daily"]


def test_rows_after_the_as_of_day_are_future() -> None:
    """Prevents a clock or an import from moving the end of the history."""
    frames = random_shop(4)
    with pytest.raises(ContractError, match=r"is not in the future\], first \(sku=S\d\d, "):
        ShopHistory.from_frames(**frames, as_of=day(30))


@settings(max_examples=25)
@given(SEEDS)
def test_arrays_are_what_the_tables_say(seed: int) -> None:
    """Prevents a kernel from reading another SKU's or another day's events; sales of days that were not orderable stay out."""
    h = history(random_shop(seed))
    a, first = h.arrays, h.first_day
    open_days = {(s, (d - first).days) for s, x, y in h.orderable_daily.rows() for d in pl.date_range(x, y, eager=True)}
    sold = [(s, (d - first).days, units) for s, d, units, _ in h.sales_daily.rows()]
    assert h.page_views_daily is not None
    seen = [(s, (d - first).days, views) for s, d, views in h.page_views_daily.rows()]
    for i, sku in enumerate(h.skus):
        assert rows_of(a.sales, i) == [(d, units) for s, d, units in sold if s == sku and (s, d) in open_days]
        assert rows_of(a.views, i) == [(d, views) for s, d, views in seen if s == sku]
        spans = slice(a.span_ptr[i], a.span_ptr[i + 1])
        listed = [d for x, y in zip(a.span_from[spans], a.span_to[spans], strict=True) for d in range(x, y + 1)]
        assert listed == sorted(d for s, d in open_days if s == sku)
        released = h.items["release_date"][i]
        assert np.isnan(a.release_day[i]) if released is None else a.release_day[i] == (released - first).days
    assert h.sales_units_not_orderable == sum(units for s, d, units in sold if (s, d) not in open_days)
    assert (a.n_days, a.n_skus) == (h.n_days, len(h.skus))
    assert a.sales.cumulative.tolist() == [0.0, *np.cumsum(a.sales.value).tolist()]


@settings(max_examples=25)
@given(SEEDS)
def test_offers_are_step_functions_of_the_day(seed: int) -> None:
    """Prevents a cost taken from a vendor without stock, or the state within a day instead of at its end."""
    h = history(random_shop(seed))
    assert h.offers is not None
    for i, sku in enumerate(h.skus):
        cost, vendors = rows_of(h.arrays.offer_cost, i), rows_of(h.arrays.offer_vendors, i)
        for d in range(h.n_days):
            state: dict[str, tuple[float, bool]] = {}
            for s, vendor, at, unit_cost, in_stock, _, _ in h.offers.rows():  # sorted by time within a vendor
                if s == sku and h.day_index(at.date()) <= d:
                    state[vendor] = (unit_cost, in_stock)
            live = [unit_cost for unit_cost, in_stock in state.values() if in_stock]
            cost_now = [value for k, value in cost if k <= d][-1:]
            vendors_now = [value for k, value in vendors if k <= d][-1:]
            if not state:
                assert cost_now == vendors_now == []
            else:
                assert vendors_now == [len(live)]
                assert cost_now == [min(live)] if live else np.isnan(cost_now[0])


def test_absent_optional_tables_give_empty_arrays() -> None:
    """Prevents a crash, or an invented event, where a shop has no views or offers."""
    h = history(random_shop(5), vendors=None, offers=None, page_views_daily=None, stock_daily=None)
    for events in (h.arrays.views, h.arrays.offer_cost, h.arrays.offer_vendors):
        assert len(events.day) == 0
        assert events.ptr.tolist() == [0] * (len(h.skus) + 1)
    known = h.until(day(30))
    assert known.offers is None
    assert known.page_views_daily is None


@pytest.mark.parametrize("cutoff", [None, day(33)])
def test_saved_history_opens_as_it_was(tmp_path: Path, cutoff: date | None) -> None:
    """Prevents a history on disk from knowing other days or tables than the one that was saved, also when it was cut."""
    frames = random_shop(6)
    spans = frames["orderable_daily"].with_columns(to_day=pl.col("to_day").clip(upper_bound=day(30)))
    h = history(frames, orderable_daily=spans.filter(pl.col("from_day") <= pl.col("to_day")), page_views_daily=None)
    if cutoff:
        frames = {name: getattr(h, name) for name in ("items", "orderable_daily")}
        h = history(frames | {"sales_daily": h.sales_daily.filter((pl.col("day") <= day(30)) | (pl.col("day") > day(40)))}).until(cutoff)
    h.save(tmp_path / "h")
    assert same(ShopHistory.open(tmp_path / "h"), h)
