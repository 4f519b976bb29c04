"""Every kind of wrong input gets an error that names it, or goes to quarantine and is counted; nothing is lost."""

import json
from datetime import date, datetime
from functools import reduce

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.contracts import CONTRACTS, OPTIONAL_TABLES, QUARANTINE_SCHEMA, Validation, conform, spans_from_days, validate_tables
from invpipe.errors import ContractError

AS_OF = date(2025, 12, 31)
DAY = date(2025, 3, 2)


def shop(**changes: pl.DataFrame | None) -> dict[str, pl.DataFrame | None]:
    """A small right shop of two SKUs and one vendor, with some tables replaced."""
    texts = {name: pl.lit(None, pl.String) for name in ("title", "brand", "genre", "format")}
    return {
        "items": pl.DataFrame({"sku": ["A12", "B7"], "list_price": [10.0, 5.0]}).with_columns(**texts, release_date=pl.lit(None, pl.Date)),
        "vendors": pl.DataFrame({"vendor": ["V"], "lead_time_days_mean": [4.0], "lead_time_days_sd": [1.0], "min_order_value": [0.0]}),
        "sales_daily": sales(),
        "stock_daily": pl.DataFrame({"sku": ["A12"], "day": [DAY], "on_hand_units": [3]}),
        "page_views_daily": pl.DataFrame({"sku": ["A12"], "day": [DAY], "views": [3]}),
        "offers": offers(),
        "orderable_daily": spans(),
    } | changes


def sales(**changes: object) -> pl.DataFrame:
    """Two right rows of sales, columns replaced."""
    columns = {"sku": ["A12", "B7"], "day": [DAY, DAY], "sales_units": [1, 2], "revenue": [9.0, 8.0]} | changes
    return pl.DataFrame(columns, strict=False)


def offers(**changes: object) -> pl.DataFrame:
    """One right offer, columns replaced."""
    row = {"sku": ["A12"], "vendor": ["V"], "observed_at": [datetime(2025, 3, 1, 9)], "unit_cost": [4.0], "in_stock": [True]}
    return pl.DataFrame(row | {"min_order_units": [1], "pack_units": [1]} | changes)


def spans(*rows: tuple[str, date, date]) -> pl.DataFrame:
    """Orderable spans, by default the whole spring for both SKUs."""
    rows = rows or tuple((sku, date(2025, 3, 1), date(2025, 5, 31)) for sku in ("A12", "B7"))
    return pl.DataFrame(rows, schema={"sku": pl.String, "from_day": pl.Date, "to_day": pl.Date}, orient="row")


def validate(**changes: pl.DataFrame | None) -> Validation:
    return validate_tables(shop(**changes), as_of=AS_OF)


def test_right_shop_passes_whole() -> None:
    """Prevents a contract that refuses what the documents call right."""
    outcome = validate()
    outcome.raise_above(0.0)
    assert set(outcome.tables) == set(CONTRACTS)
    assert dict(outcome.quarantine.schema) == QUARANTINE_SCHEMA
    assert len(outcome.quarantine) == 0
    assert len(outcome.counts) == 0
    assert set(outcome.failed_frac.values()) == {0.0}
    for table, frame in outcome.tables.items():
        assert dict(frame.schema) == {name: column.dtype for name, column in CONTRACTS[table].schema.columns().items()}


WRONG_STRUCTURE = {
    "missing column": (
        {"sales_daily": sales().drop("revenue")},
        r"^frame: table sales_daily lacks column 'revenue' \(1 missing: \['revenue'\]\); "
        r"found \['sku', 'day', 'sales_units'\]; add it or map it$",
    ),
    "two missing columns": (
        {"offers": offers().drop("unit_cost", "in_stock")},
        r"table offers lacks column 'unit_cost' \(2 missing: \['unit_cost', 'in_stock'\]\)",
    ),
    "day as text": (
        {"sales_daily": sales(day=["2025-03-02", "2025-03-02"])},
        r"table sales_daily, column 'day': found String, wanted Date; cast it where the table is read, to Date$",
    ),
    "day as point in time": (
        {"sales_daily": sales(day=[datetime(2025, 3, 2, 23, 30)] * 2)},
        r"column 'day': found Datetime\(.*\), wanted Date; give the shop's local day: \.dt\.date\(\)$",
    ),
    "day with a time zone": (
        {"sales_daily": sales().with_columns(pl.col("day").cast(pl.Datetime("us", "Europe/Berlin")))},
        r"column 'day': found .*Europe/Berlin.*, wanted Date; convert from Europe/Berlin to the shop's local time and drop the zone: "
        r"\.dt\.convert_time_zone\(zone\)\.dt\.replace_time_zone\(None\)$",
    ),
    "offer with a time zone": (
        {"offers": offers().with_columns(pl.col("observed_at").dt.replace_time_zone("UTC"))},
        r"table offers, column 'observed_at': found .*UTC.*; convert from UTC to the shop's local time and drop the zone",
    ),
    "units as floats": (
        {"sales_daily": sales(sales_units=[1.0, 2.5])},
        r"column 'sales_units': found Float64, wanted Int32; cast it where the table is read, to Int32$",
    ),
    "units as text": ({"sales_daily": sales(sales_units=["1", "2"])}, r"column 'sales_units': found String, wanted Int32"),
    "sku as number": ({"sales_daily": sales(sku=[12, 7])}, r"column 'sku': found Int64, wanted String"),
    "money as text": ({"sales_daily": sales(revenue=["1,5", "2"])}, r"column 'revenue': found String, wanted Float64"),
    "money as decimal": (
        {"sales_daily": sales().with_columns(pl.col("revenue").cast(pl.Decimal(12, 2)))},
        r"column 'revenue': found Decimal\(.*\), wanted Float64; cast it where the table is read",
    ),
    "flag as number": ({"offers": offers(in_stock=[1])}, r"column 'in_stock': found Int64, wanted Boolean"),
    "too large for Int32": (
        {"sales_daily": sales(sales_units=[2**31, 1])},
        r"table sales_daily, column 'sales_units': 1 values do not fit Int32, first 2147483648; correct them at the source$",
    ),
    "too small for Int32": (
        {"stock_daily": pl.DataFrame({"sku": ["A12"], "day": [DAY], "on_hand_units": [-(2**31) - 1]})},
        r"1 values do not fit Int32, first -2147483649",
    ),
    "unsigned too large for Int32": (
        {"sales_daily": sales().with_columns(sales_units=pl.lit(2**63, pl.UInt64))},
        r"2 values do not fit Int32, first 9223372036854775808",
    ),
    "money that a float cannot hold": (
        {"sales_daily": sales(revenue=[2**53 + 1, 1])},
        r"column 'revenue': 1 values do not fit Float64, first 9007199254740993; correct them at the source$",
    ),
    "nanoseconds": (
        {"offers": offers().with_columns(observed_at=pl.lit(1_740_819_600_000_000_123).cast(pl.Datetime("ns")))},
        r"column 'observed_at': 1 values do not fit Datetime\(.*\), first 2025-03-01 .*; truncate them to microseconds$",
    ),
    "empty items": (
        {"items": pl.DataFrame()},
        r"^frame: table items is empty; there is nothing to plan\. Check the query and its date range$",
    ),
    "empty sales": ({"sales_daily": sales().clear()}, r"^frame: table sales_daily is empty; there is nothing to plan"),
    "empty spans": ({"orderable_daily": spans().clear()}, r"^frame: table orderable_daily is empty"),
    "no items": ({"items": None}, r"^frame: table items is absent; it is required \(only \['offers', 'page_views_daily', .*\] may be\)$"),
    "no sales": ({"sales_daily": None}, r"table sales_daily is absent"),
    "no spans": ({"orderable_daily": None}, r"table orderable_daily is absent"),
    "unknown table": (
        {"sales": sales()},
        r"^frame: no contract for table 'sales'; tables are \['items', 'offers', 'orderable_daily', .*\]$",
    ),
}


@pytest.mark.parametrize("case", WRONG_STRUCTURE)
def test_wrong_structure_is_an_error_that_names_it(case: str) -> None:
    """Prevents a wrong table from being read as something else, and an error nobody can act on."""
    changes, message = WRONG_STRUCTURE[case]
    with pytest.raises(ContractError, match=message):
        validate(**changes)


def test_error_names_the_source() -> None:
    """Prevents a message that does not say which of several databases is meant."""
    with pytest.raises(ContractError, match=r"^mysql shop_eu: table items is absent"):
        validate_tables({}, as_of=AS_OF, source="mysql shop_eu")


NO_BOOL = pl.Series([None], dtype=pl.Boolean)
SPRING = (date(2025, 3, 1), date(2025, 5, 31))
BAD_ROWS = {
    "duplicate key": (
        {"sales_daily": sales(sku=["A12", "A12"])},
        r"^2 of 2 rows of sales_daily break \[the key is unique\], first \(sku=A12, day=2025-03-02\)\. Correct the rows at their source\. "
        r"\(at most 0\.00% of rows may be quarantined\)$",
    ),
    "duplicate item": (
        {"items": pl.concat([shop()["items"]] * 2)},
        r"^4 of 4 rows of items break \[the key is unique\], first \(sku=A12\)",
    ),
    "null key": ({"sales_daily": sales(sku=["A12", None])}, r"^1 of 2 rows of sales_daily break \[sku is not null\], first \(sku=None, "),
    "empty key": ({"sales_daily": sales(sku=["A12", ""])}, r"^1 of 2 rows of sales_daily break \[sku of a length >= 1\]"),
    "null units": (
        {"sales_daily": sales(sales_units=[1, None])},
        r"^1 of 2 rows of sales_daily break \[sales_units is not null\], first \(sku=B7, day=2025-03-02\): None\. Book returns",
    ),
    "column of nulls": ({"sales_daily": sales(revenue=[None, None])}, r"^2 of 2 rows of sales_daily break \[revenue is not null\]"),
    "null flag": ({"offers": offers(in_stock=NO_BOOL)}, r"^1 of 1 rows of offers break \[in_stock is not null\]"),
    "null price": (
        {"items": pl.DataFrame(shop()["items"]).with_columns(list_price=pl.lit(None, pl.Float64))},
        r"^2 of 2 rows of items break \[list_price is not null\], first \(sku=A12\): None\. Give every item its selling price",
    ),
    "negative units": (
        {"sales_daily": sales(sales_units=[-4, 1])},
        r"^1 of 2 rows of sales_daily break \[sales_units > 0\], first \(sku=A12, day=2025-03-02\): -4\. Book returns in their own table\.",
    ),
    "zero units": ({"sales_daily": sales(sales_units=[0, 1])}, r"break \[sales_units > 0\], first \(sku=A12, day=2025-03-02\): 0"),
    "zero views": (
        {"page_views_daily": pl.DataFrame({"sku": ["A12"], "day": [DAY], "views": [0]})},
        r"break \[views > 0\], .*Leave days without views out",
    ),
    "negative stock": (
        {"stock_daily": pl.DataFrame({"sku": ["A12"], "day": [DAY], "on_hand_units": [-1]})},
        r"break \[on_hand_units >= 0\], first .*: -1\. Count reservations as on hand, or clip at 0",
    ),
    "negative revenue": ({"sales_daily": sales(revenue=[-1.0, 1.0])}, r"break \[revenue >= 0\], first .*: -1\.0\. Net discounts"),
    "infinite revenue": ({"sales_daily": sales(revenue=[float("inf"), 1.0])}, r"break \[revenue is finite\], first .*: inf\."),
    "NaN revenue": ({"sales_daily": sales(revenue=[float("nan"), 1.0])}, r"break \[revenue is a number\], first .*: nan\."),
    "zero cost": (
        {"offers": offers(unit_cost=[0.0])},
        r"break \[unit_cost > 0\], first .*: 0\.0\. Write a withdrawn offer as in_stock = false",
    ),
    "no minimum": ({"offers": offers(min_order_units=[0])}, r"break \[min_order_units >= 1\]"),
    "lead time below a day": (
        {"vendors": pl.DataFrame(shop()["vendors"]).with_columns(lead_time_days_mean=pl.lit(0.5))},
        r"break \[lead_time_days_mean >= 1(\.0)?\], first \(vendor=V\): 0\.5\. Give whole days from order to shelf, at least 1",
    ),
    "lead time beyond a year": (
        {"vendors": pl.DataFrame(shop()["vendors"]).with_columns(lead_time_days_mean=pl.lit(400.0))},
        r"break \[lead_time_days_mean <= 365(\.0)?\], first \(vendor=V\): 400\.0",
    ),
    "unknown SKU": (
        {"sales_daily": sales(sku=["A12", "Z9"])},
        r"^1 of 2 rows of sales_daily break \[sku stands in items\], first \(sku=Z9, day=2025-03-02\)\. Correct",
    ),
    "unknown vendor": (
        {"offers": offers(vendor=["W"])},
        r"^1 of 1 rows of offers break \[vendor stands in vendors\], first \(sku=A12, vendor=W, observed_at=2025-03-01 09:00:00\)",
    ),
    "future sale": (
        {"sales_daily": sales(day=[DAY, date(2026, 1, 1)])},
        r"^1 of 2 rows of sales_daily break \[day is not in the future\], first \(sku=B7, day=2026-01-01\)",
    ),
    "future offer": (
        {"offers": offers(observed_at=[datetime(2026, 1, 1)])},
        r"^1 of 1 rows of offers break \[observed_at is not in the future\]",
    ),
    "future end of a span": (
        {"orderable_daily": spans(("A12", DAY, date(2026, 1, 1)))},
        r"break \[to_day is not in the future\], first .*: 2026-01-01\. End a running span on the last day seen",
    ),
    "span that ends before it starts": (
        {"orderable_daily": spans(("A12", DAY, date(2025, 3, 1)))},
        r"^1 of 1 rows of orderable_daily break \[to_day >= from_day\], first \(sku=A12, from_day=2025-03-02\): 2025-03-01",
    ),
    "overlapping spans": (
        {"orderable_daily": spans(("A12", *SPRING), ("A12", SPRING[1], date(2025, 6, 2)), ("B7", *SPRING))},
        r"^1 of 3 rows of orderable_daily break \[spans of a SKU do not overlap\], first \(sku=A12, from_day=2025-05-31\)",
    ),
    "span within a span": (
        {
            "orderable_daily": spans(
                ("A12", *SPRING), ("A12", date(2025, 3, 3), date(2025, 3, 4)), ("A12", date(2025, 5, 1), date(2025, 5, 2))
            )
        },
        r"^2 of 3 rows of orderable_daily break \[spans of a SKU do not overlap\], first \(sku=A12, from_day=2025-03-03\)",
    ),
    "flag of an orderable day twice": (
        {"orderable_daily": pl.DataFrame({"sku": ["A12", "A12"], "day": [DAY, DAY], "orderable": [True, False]})},
        r"^2 of 2 rows of orderable_daily break \[the key is unique\], first \(sku=A12, day=2025-03-02\)",
    ),
    "orderable day in the future": (
        {"orderable_daily": pl.DataFrame({"sku": ["A12", "B7"], "day": [DAY, date(2026, 1, 1)], "orderable": [True, True]})},
        r"^1 of 2 rows of orderable_daily break \[day is not in the future\], first \(sku=B7, day=2026-01-01\)",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_quarantined_and_the_error_names_it(case: str) -> None:
    """Prevents a bad row from being used, dropped without a count, or reported without its key."""
    changes, message = BAD_ROWS[case]
    outcome = validate(**changes)
    (table,) = changes
    assert table in set(outcome.quarantine["table"])
    assert len(outcome.tables[table]) < len(changes[table])
    with pytest.raises(ContractError, match=message):
        outcome.raise_above(0.0)


def test_quarantine_and_counts_are_exact() -> None:
    """Prevents rows counted twice, rules left unnamed, and values an operator cannot read (JSON has no word for nan and inf)."""
    wrong = sales(
        sku=["A12", "A12", "A12", "B7", "Z", "B7"],
        day=[date(2025, 3, d) for d in (1, 2, 2, 3, 4, 5)],
        sales_units=[1, 2, 3, -4, None, 6],
        revenue=[1.0, 2.0, float("nan"), float("inf"), 5.0, 6.0],
    )
    outcome = validate(sales_daily=wrong)
    assert outcome.tables["sales_daily"]["revenue"].to_list() == [1.0, 6.0]
    assert outcome.failed_frac["sales_daily"] == 4 / 6
    rows = {json.loads(text)["sales_units"]: (rules, json.loads(text)) for _, rules, text in outcome.quarantine.rows()}
    assert len(outcome.quarantine) == len(rows) == 4
    assert rows[2] == ("primary_key", {"sku": "A12", "day": "2025-03-02", "sales_units": 2, "revenue": "2.0"})
    assert rows[3][0] == "primary_key; revenue|nan"
    assert rows[3][1]["revenue"] == "NaN"
    assert rows[-4][0] == "sales_units|min_exclusive; revenue|inf"
    assert rows[-4][1]["revenue"] == "inf"
    assert rows[None][0] == "sales_units|nullability"
    counts = {rule: (failed, total) for rule, failed, total in outcome.counts.select("rule", "failed_rows", "total_rows").rows()}
    assert counts == {
        "primary_key": (2, 6),
        "revenue|nan": (1, 6),
        "revenue|inf": (1, 6),
        "sales_units|min_exclusive": (1, 6),
        "sales_units|nullability": (1, 6),
    }


def test_threshold_is_a_share_of_rows() -> None:
    """Prevents a threshold that stops on the share it allows, or lets a larger one pass."""
    outcome = validate(sales_daily=sales(sales_units=[-1, 2]))
    outcome.raise_above(0.5)
    with pytest.raises(ContractError, match=r"at most 49\.00% of rows may be quarantined"):
        outcome.raise_above(0.49)


def test_rows_of_a_quarantined_item_are_unknown() -> None:
    """Prevents sales of an item that was refused from reaching the forecast."""
    items = pl.DataFrame(shop()["items"]).with_columns(list_price=pl.Series([10.0, -5.0]))
    outcome = validate(items=items)
    assert outcome.tables["items"]["sku"].to_list() == ["A12"]
    assert outcome.tables["sales_daily"]["sku"].to_list() == ["A12"]
    assert outcome.counts.filter(table="sales_daily")["rule"].to_list() == ["sku|unknown_sku"]


def test_optional_tables_may_be_empty_or_absent() -> None:
    """Prevents a shop without page views or offers from being refused."""
    absent = validate(**dict.fromkeys(OPTIONAL_TABLES))
    assert set(absent.tables) == set(CONTRACTS) - OPTIONAL_TABLES
    empty = validate(**{name: frame.clear() for name, frame in shop().items() if name in OPTIONAL_TABLES and frame is not None})
    assert {name: len(empty.tables[name]) for name in OPTIONAL_TABLES} == dict.fromkeys(OPTIONAL_TABLES, 0)
    assert empty.failed_frac["offers"] == 0.0


def test_types_that_lose_nothing_are_taken() -> None:
    """Prevents refusing what a database hands over for the same numbers: wide integers, categories, whole money, extra columns."""
    frame = sales(note=["x", "y"]).with_columns(
        pl.col("sku").cast(pl.Categorical), pl.col("sales_units").cast(pl.UInt64), revenue=pl.lit(9, pl.Int64)
    )
    good = conform(frame, CONTRACTS["sales_daily"].schema, "sales_daily")
    assert good.rows() == [("A12", DAY, 1, 9.0), ("B7", DAY, 2, 9.0)]
    assert good.dtypes == [pl.String, pl.Date, pl.Int32, pl.Float64]
    nanoseconds = offers().with_columns(pl.col("observed_at").cast(pl.Datetime("ns")))
    assert conform(nanoseconds, CONTRACTS["offers"].schema, "offers").equals(conform(offers(), CONTRACTS["offers"].schema, "offers"))


def test_lazy_and_eager_give_the_same() -> None:
    """Prevents a second, different path for lazy frames."""
    eager = shop(sales_daily=sales(sales_units=[-1, 1]))
    lazy = {name: None if frame is None else frame.lazy() for name, frame in eager.items()}
    a, b = validate_tables(eager, as_of=AS_OF), validate_tables(lazy, as_of=AS_OF)
    assert a.quarantine.equals(b.quarantine)
    assert all(a.tables[name].equals(b.tables[name]) for name in CONTRACTS)


ROWS = st.tuples(
    st.sampled_from(["A12", "B7", "Z9", "", None]),
    st.one_of(st.none(), st.dates(date(2025, 3, 1), date(2025, 3, 4)), st.just(date(2026, 6, 1))),
    st.one_of(st.none(), st.integers(-2, 5)),
    st.one_of(st.none(), st.sampled_from([0.0, 1.5, -1.0, float("nan"), float("inf"), float("-inf")])),
)


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=12))
def test_nothing_is_lost_and_only_right_rows_pass(rows: list[tuple[str | None, date | None, int | None, float | None]]) -> None:
    """Prevents rows from vanishing between the good ones and the quarantine, and any wrong row from passing (checked by the definition)."""
    schema = {"sku": pl.String, "day": pl.Date, "sales_units": pl.Int32, "revenue": pl.Float64}
    outcome = validate(sales_daily=pl.DataFrame(rows, schema=schema, orient="row"))
    keys = [(sku, day) for sku, day, _, _ in rows]
    right = [
        (sku, day, units, money)
        for sku, day, units, money in rows
        if sku in ("A12", "B7") and day is not None and day <= AS_OF and keys.count((sku, day)) == 1
        if units is not None and units > 0 and money is not None and 0 <= money < float("inf")
    ]
    assert outcome.tables["sales_daily"].rows() == sorted(right)
    assert len(outcome.quarantine) == len(rows) - len(right)
    assert outcome.failed_frac["sales_daily"] == (len(rows) - len(right)) / len(rows)
    assert outcome.quarantine["rules"].str.len_chars().min() != 0


@settings(max_examples=60)
@given(st.sets(st.tuples(st.sampled_from(["A12", "B7"]), st.integers(0, 25)), min_size=1))
def test_days_and_spans_say_the_same(days: set[tuple[str, int]]) -> None:
    """Prevents the two forms of orderable_daily from meaning different shops."""
    every = [(sku, date(2025, 3, 1 + k), (sku, k) in days) for sku in ("A12", "B7") for k in range(26)]
    flags = pl.DataFrame(every, schema={"sku": pl.String, "day": pl.Date, "orderable": pl.Boolean}, orient="row")
    found = validate(orderable_daily=flags).tables["orderable_daily"]
    listed = [(sku, from_day.day - 1 + k) for sku, from_day, to_day in found.rows() for k in range((to_day - from_day).days + 1)]
    assert sorted(listed) == sorted(days)
    ends = {(sku, day) for sku, _, day in found.rows()}
    assert not any((sku, from_day.replace(day=from_day.day - 1)) in ends for sku, from_day, _ in found.rows() if from_day.day > 1)
    assert validate(orderable_daily=found).tables["orderable_daily"].equals(found)
    only_true = flags.filter("orderable").sample(fraction=1.0, shuffle=True, seed=len(days))
    assert spans_from_days(only_true).equals(found)


def test_every_rule_has_words() -> None:
    """Prevents a message with the library's name of a rule instead of the bound that was broken."""
    rows = reduce(lambda left, right: left | right, (changes for changes, _ in BAD_ROWS.values()))
    outcome = validate(**rows)
    for table, frac in outcome.failed_frac.items():
        if frac > 0:
            with pytest.raises(ContractError, match=r"break \[.*( > | >= | <= | is | in | do ).*\], first \("):
                Validation({}, outcome.quarantine, outcome.counts, {table: frac}).raise_above(0.0)
