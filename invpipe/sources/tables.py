"""The tables of one shop as a source hands them over, with the mark of which of them are simulated.

All frames are sorted by their key. Units are Int32, money is Float64 in the shop's currency, times are naive shop time.

- ``stock_daily`` is stored by change: a (SKU, day) without a row has the on-hand units of the SKU's last row before it. Every SKU has a
  row on the first day; a row of 0 marks the start of a stock-out.
- ``orderable_daily`` holds spans: maximal runs of days, both ends included, whose opening stock is above 0. A day that opens empty
  cannot show demand: it is censored.
- ``offers`` holds one event per change; the first event of every offer lies at 00:00 of the first day.
- ``demand_daily`` is the true demand before censoring. Evaluation alone may read it; :meth:`ShopTables.as_history_kwargs` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import polars as pl

from invpipe.errors import SourceError

#: Key of every table that is recorded day by day, thus split when a shop is streamed.
DAY_TABLE_KEYS = {
    "sales_daily": ("sku", "day"),
    "stock_daily": ("sku", "day"),
    "page_views_daily": ("sku", "day"),
    "offers": ("sku", "vendor", "observed_at"),
    "orderable_daily": ("sku", "from_day"),
    "demand_daily": ("sku", "day"),
}


@dataclass(frozen=True)
class ShopTables:
    """The tables of one shop from its first to its last day, or of a range of days out of it.

    Attributes
    ----------
    items, vendors, sales_daily, stock_daily, page_views_daily, offers, orderable_daily, demand_daily
        The tables, see the module docstring.
    first_day, last_day
        Days covered, both included.
    simulated
        Names of the tables that are simulated; the others are real records.
    """

    items: pl.DataFrame
    vendors: pl.DataFrame
    sales_daily: pl.DataFrame
    stock_daily: pl.DataFrame
    page_views_daily: pl.DataFrame
    offers: pl.DataFrame
    orderable_daily: pl.DataFrame
    demand_daily: pl.DataFrame
    first_day: date
    last_day: date
    simulated: frozenset[str]

    def as_history_kwargs(self) -> dict[str, pl.DataFrame]:
        """Give the seven tables a shop would know, without the true demand, by name."""
        return {
            "items": self.items,
            "vendors": self.vendors,
            **{name: getattr(self, name) for name in DAY_TABLE_KEYS if name != "demand_daily"},
        }


def concat_tables(chunks: Iterable[ShopTables]) -> ShopTables:
    """Join consecutive ranges of days of one shop.

    Parameters
    ----------
    chunks
        Tables of adjacent day ranges, oldest first.

    Returns
    -------
    ShopTables
        The tables of all days, sorted by key.

    Raises
    ------
    SourceError
        There is no chunk, or a chunk does not start on the day after the one before it.
    """
    parts = list(chunks)
    if not parts:
        msg = "0 chunks of a shop to join; give at least one"
        raise SourceError(msg)
    for before, after in pairwise(parts):
        if (after.first_day - before.last_day).days != 1:
            msg = f"chunk starting {after.first_day} follows a chunk ending {before.last_day}; give adjacent chunks, oldest first"
            raise SourceError(msg)
    if len(parts) == 1:
        return parts[0]
    days = {name: pl.concat([getattr(part, name) for part in parts], rechunk=True).sort(key) for name, key in DAY_TABLE_KEYS.items()}
    first = parts[0]
    return ShopTables(
        items=first.items,
        vendors=first.vendors,
        first_day=first.first_day,
        last_day=parts[-1].last_day,
        simulated=first.simulated,
        **days,
    )
