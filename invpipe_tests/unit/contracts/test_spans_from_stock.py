"""Orderable spans out of stock: against a walk over every day."""

from datetime import date, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from invpipe.contracts import spans_from_stock

FIRST = date(2024, 1, 1)
LAST = FIRST + timedelta(days=19)


@given(st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 19)), st.sampled_from([None, -1, 0, 1, 5])))
def test_spans_are_the_days_that_opened_with_stock(levels: dict[tuple[str, int], int | None]) -> None:
    """Prevents a span that runs over a stock-out, ends early, or stands twice."""
    rows = [(sku, FIRST + timedelta(days=day), units) for (sku, day), units in levels.items()]
    stock = pl.DataFrame(rows, schema={"sku": pl.String, "day": pl.Date, "on_hand_units": pl.Int32}, orient="row")
    expected = set()
    for sku in "ab":
        units: int | None = 0
        for day in range(20):
            units = levels.get((sku, day), units)
            if units is not None and units > 0:
                expected.add((sku, FIRST + timedelta(days=day)))
    spans = spans_from_stock(stock, LAST).sort("sku", "from_day")
    found = [(sku, low + timedelta(days=k)) for sku, low, high in spans.rows() for k in range((high - low).days + 1)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    gaps = spans.select(((pl.col("from_day") - pl.col("to_day").shift(1).over("sku")).dt.total_days() > 1).fill_null(value=True).all())
    assert len(spans) == 0 or gaps.item()  # maximal
