"""Tape: what is recorded from a history, and what happens to a damaged directory."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from invpipe.arena import BacktestParams, Tape, run_backtest
from invpipe.errors import HistoryError, StorageError, TapeError
from invpipe.history import ShopHistory
from invpipe_tests.unit.arena.worlds import MixedPolicy, random_tape

FIRST, START, END = date(2017, 1, 1), date(2017, 1, 10), date(2017, 1, 14)


def _day(n: int) -> date:
    return date(2017, 1, n)


def _history(**changes) -> ShopHistory:
    """Two SKUs, two vendors, two weeks; `changes` replaces tables."""
    offers = [
        ("a", "v", datetime(2017, 1, 2, 8), 3.0, True, 2, 2),
        ("a", "v", datetime(2017, 1, 9, 8), 4.0, True, 2, 2),
        ("a", "w", datetime(2017, 1, 5, 8), 2.0, True, 1, 1),
        ("a", "w", datetime(2017, 1, 6, 8), 2.5, False, 1, 1),
        ("a", "v", datetime(2017, 1, 11, 8), 9.0, True, 2, 2),
        ("a", "v", datetime(2017, 1, 11, 20), 5.0, True, 2, 4),
        ("a", "v", datetime(2017, 1, 12, 20), 5.0, True, 2, 4),
        ("b", "w", datetime(2017, 1, 13, 1), 6.0, True, 3, 1),
        ("b", "w", datetime(2017, 1, 15, 1), 1.0, True, 3, 1),
    ]
    schema = {
        "sku": pl.String, "vendor": pl.String, "observed_at": pl.Datetime("us"), "unit_cost": pl.Float64, "in_stock": pl.Boolean,
        "min_order_units": pl.Int32, "pack_units": pl.Int32,
    }  # fmt: skip
    tables = {
        "items": pl.DataFrame(
            {
                "sku": ["a", "b"],
                "title": ["A", "B"],
                "brand": None,
                "genre": None,
                "format": None,
                "release_date": None,
                "list_price": [10.0, 20.0],
            },
            schema={
                "sku": pl.String, "title": pl.String, "brand": pl.String, "genre": pl.String, "format": pl.String,
                "release_date": pl.Date, "list_price": pl.Float64,
            },
        ),
        "vendors": pl.DataFrame(
            {"vendor": ["v", "w"], "lead_time_days_mean": [2.0, 3.0], "lead_time_days_sd": [0.0, 1.0], "min_order_value": [0.0, 5.0]}
        ),
        "offers": pl.DataFrame(offers, schema=schema, orient="row"),
        "sales_daily": pl.DataFrame(
            {
                "sku": ["a", "a", "a", "b", "a"],
                "day": [_day(3), _day(4), _day(9), _day(10), _day(14)],
                "sales_units": [5, 1, 2, 3, 4],
                "revenue": 1.0,
            },
            schema_overrides={"sales_units": pl.Int32},
        ),
        "orderable_daily": pl.DataFrame(
            {"sku": ["a", "a", "b"], "from_day": [FIRST, _day(8), FIRST], "to_day": [_day(5), _day(15), _day(15)]}
        ),
        "page_views_daily": pl.DataFrame(
            {"sku": ["a", "a", "a", "b"], "day": [_day(4), _day(6), _day(9), _day(12)], "views": [10, 100, 20, 7]},
            schema_overrides={"views": pl.Int32},
        ),
        "stock_daily": pl.DataFrame(
            {"sku": ["a", "a", "a", "b"], "day": [_day(1), _day(8), _day(11), _day(12)], "on_hand_units": [9, 4, 77, 5]},
            schema_overrides={"on_hand_units": pl.Int32},
        ),
    }  # fmt: skip
    return ShopHistory.from_frames(**(tables | changes))


def test_build_records_the_state_before_the_start():
    """Prevents an opening state that reads the future, ignores out-of-stock days in the conversion, or forgets a table."""
    a = Tape.build(_history(), START, END).arrays
    assert a.opening_on_hand_units.tolist() == [4, 0]
    assert a.opening_unit_cost.tolist() == [2.5, 12.0]  # lowest known offer of a; 60 % of the list price of b
    np.testing.assert_array_equal(a.opening_offer_unit_cost, [4.0, 2.5, np.nan])
    assert a.opening_offer_in_stock.tolist() == [1, 0, 0]
    assert a.opening_offer_pack_units.tolist() == [2, 1, 1]
    assert list(zip(a.prior_sales_age_days, a.prior_sales_sku, a.prior_sales_units, strict=True)) == [(7, 0, 5), (6, 0, 1), (1, 0, 2)]
    assert a.prior_conversion_units.tolist() == [3, 0]  # the 5 units of day 3 came before page views were recorded
    assert a.prior_conversion_views.tolist() == [30, 0]  # the 100 views of day 6 met an empty shelf


def test_build_records_the_days():
    """Prevents events on the wrong day, offers that are not differential, and an earlier event of the same day winning."""
    tape = Tape.build(_history(), START, END)
    a = tape.arrays
    assert (tape.n_days, tape.end) == (5, END)
    assert a.demand_start.tolist() == [0, 1, 1, 1, 1, 2]
    assert a.demand_units.tolist() == [3, 4]
    assert (a.views_start.tolist(), a.views.tolist()) == ([0, 0, 0, 1, 1, 1], [7])
    assert a.delta_start.tolist() == [0, 0, 1, 1, 2, 2]  # day 12 repeats day 11, day 15 lies after the end
    np.testing.assert_array_equal(a.delta_unit_cost, [5.0, 6.0])
    assert a.delta_in_stock.tolist() == [-1, 1]
    assert a.delta_min_order_units.tolist() == [0, 3]
    assert a.delta_pack_units.tolist() == [4, 1]


def test_build_takes_the_true_demand_where_it_is_known():
    """Prevents a replay against censored sales when the demand table is given."""
    demand = pl.DataFrame(
        {"sku": ["b", "a"], "day": [_day(12), _day(1)], "demand_units": [8, 1]}, schema_overrides={"demand_units": pl.Int32}
    )
    assert Tape.build(_history(), START, END, demand).arrays.demand_units.tolist() == [8]
    unknown = demand.with_columns(pl.lit("zz").alias("sku"))
    with pytest.raises(TapeError, match="1 of 1 rows of demand name a SKU that is not in items, first 'zz' on 2017-01-12"):
        Tape.build(_history(), START, END, unknown)


def test_build_without_optional_tables():
    """Prevents optional tables from being required: no vendor, no offer, no views, no stock still makes a tape that runs."""
    tape = Tape.build(_history(vendors=None, offers=None, page_views_daily=None, stock_daily=None), START, END)
    result = run_backtest(tape, MixedPolicy(0), BacktestParams(100.0))
    assert result.summary["lost_sales_units"] == 7


def test_build_refuses_a_span_outside_the_history():
    """Prevents a tape whose last days look like days without demand."""
    with pytest.raises(HistoryError, match=r"span 2017-01-10 .. 2017-03-01 is not within the history 2017-01-01 .. 2017-01-15"):
        Tape.build(_history(), START, date(2017, 3, 1))


def test_build_ignores_what_comes_after(tmp_path):
    """Prevents look-ahead in the tape itself: rewriting every row after a day leaves the tape up to that day as it was."""
    base, cut = _history(), _day(11)
    poisoned = _history(
        sales_daily=base.sales_daily.with_columns(
            pl.when(pl.col("day") > cut).then(99).otherwise("sales_units").cast(pl.Int32).alias("sales_units")
        ),
        offers=base.offers.with_columns(
            pl.when(pl.col("observed_at").dt.date() > cut).then(0.01).otherwise("unit_cost").alias("unit_cost")
        ),
        stock_daily=base.stock_daily.with_columns(
            pl.when(pl.col("day") > cut).then(99).otherwise("on_hand_units").cast(pl.Int32).alias("on_hand_units")
        ),
        page_views_daily=base.page_views_daily.with_columns(
            pl.when(pl.col("day") > cut).then(9).otherwise("views").cast(pl.Int32).alias("views")
        ),
    )
    assert Tape.build(base, START, cut).fingerprint() == Tape.build(poisoned, START, cut).fingerprint()


def test_save_and_open_are_the_same_tape(tmp_path):
    """Prevents a byte lost on disk, and saved arrays that are writeable."""
    tape = random_tape(7)
    opened = Tape.open(tape.save(tmp_path / "tape"))
    assert opened.fingerprint() == tape.fingerprint()
    assert not any(array.flags.writeable for array in opened.arrays)
    assert not any(array.flags.writeable for array in tape.arrays)
    other = random_tape(8)
    assert Tape.open(other.save(tmp_path / "tape")).fingerprint() == other.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["tape"]


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


def _meta(path, **changes):
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: _flip(p / "demand_units.npy"), "demand_units.npy is damaged: its checksum differs"),
        (lambda p: (p / "views.npy").unlink(), "1 files of tape .* are missing, first views.npy"),
        (lambda p: (p / "meta.json").unlink(), "meta.json is missing: .* is not a tape"),
        (lambda p: (p / "meta.json").write_text("{"), "meta.json is damaged"),
        (lambda p: (p / "meta.json").write_text("[]"), "it holds a list, not an object"),
        (lambda p: _meta(p, version=2), "version 2, this invpipe reads 'invpipe-tape' version 1; build the tape again"),
        (lambda p: _meta(p, format="other"), "is of format 'other' version 1"),
    ],
)
def test_open_refuses_damage(tmp_path, damage, message):
    """Prevents a replay of a damaged, foreign or newer tape; the message names the file and the cure."""
    path = random_tape(7).save(tmp_path / "tape")
    damage(path)
    with pytest.raises(TapeError, match=message):
        Tape.open(path)


def test_open_without_checksums_still_compares_shapes(tmp_path):
    """Prevents reads past the end of a truncated or replaced array when the checksums are skipped."""
    path = random_tape(7).save(tmp_path / "tape")
    np.save(path / "unit_price.npy", np.ones(3))
    with pytest.raises(TapeError, match=r"unit_price.npy holds <f8\[3\], meta.json says <f8\[5\]"):
        Tape.open(path, verify=False)
    (path / "unit_price.npy").write_bytes(b"")
    with pytest.raises(TapeError, match="unit_price.npy is damaged"):
        Tape.open(path, verify=False)


def test_save_refuses_to_replace_something_else(tmp_path):
    """Prevents a wrong path from deleting a directory that is no tape."""
    (tmp_path / "mine").mkdir()
    with pytest.raises(TapeError, match="exists and is not a tape"):
        random_tape(7).save(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_killed_writer_leaves_the_old_tape(tmp_path, monkeypatch):
    """Prevents a half-written tape: a failure in the middle leaves the old one and no rubbish."""
    path = random_tape(7).save(tmp_path / "tape")
    monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StorageError, match="disk full"):
        random_tape(8).save(path)
    assert Tape.open(path).fingerprint() == random_tape(7).fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["tape"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_days": 0}, "at least 1 day, not 0"),
        ({"unit_price": np.array([1.0, 0.0])}, "1 of 2 unit prices are not above 0, first at row 1: 0.0"),
        ({"unit_price": np.ones(3)}, "unit_price has 3 rows; give 2"),
        ({"demand": (np.array([5]), np.array([0]), np.array([1]))}, "demand events lie outside the tape's 5 days, first at row 0: 5"),
        ({"demand": (np.array([0]), np.array([2]), np.array([1]))}, r"demand events name an index outside 0 .. 1, first at row 0: 2"),
        ({"demand": (np.array([0, 0]), np.array([1, 1]), np.array([1, 1]))}, "share their day and index"),
        ({"demand": (np.array([0]), np.array([1]), np.array([-3]))}, "demand events have no units, first at row 0: -3"),
        ({"offer_sku": np.array([0]), "offer_vendor": np.array([0])}, "offers name a vendor outside"),
        ({"opening_on_hand_units": np.array([-1, 0])}, "opening stocks are negative, first at row 0: -1"),
        ({"prior_sales": (np.array([1, 2]), np.array([0, 0]), np.array([1, 1]))}, "prior sales are not oldest first"),
    ],
)
def test_from_arrays_refuses_wrong_input(change, message):
    """Prevents an index out of range from reaching the kernel, which does not check."""
    good = {"start": START, "n_days": 5, "skus": ["a", "b"], "unit_price": np.ones(2)}
    with pytest.raises(TapeError, match=message):
        Tape.from_arrays(**(good | change))


def test_unsorted_events_are_sorted():
    """Prevents a tape that depends on the order of the rows it was given."""
    day, sku, units = np.array([2, 0, 2]), np.array([1, 1, 0]), np.array([3, 1, 2])
    tape = Tape.from_arrays(start=START, n_days=3, skus=["a", "b"], unit_price=np.ones(2), demand=(day, sku, units))
    assert tape.arrays.demand_start.tolist() == [0, 1, 1, 3]
    assert tape.arrays.demand_units.tolist() == [1, 2, 3]
    assert tape.end == START + timedelta(days=2)
