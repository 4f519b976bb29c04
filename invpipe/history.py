"""ShopHistory: the validated tables of one shop, the input of everything downstream.

A history is a value: it cannot be changed, and :meth:`ShopHistory.until` gives the history as it was known at the end of a day. Whatever
is fitted on `history.until(cutoff)` cannot read past the cutoff, because nothing past it is there.

Kernels read :class:`HistoryArrays`: the same events per SKU in compressed sparse rows, days counted from `first_day`. Sales on days that
were not orderable are left out of the arrays (their number is `sales_units_not_orderable`): a cell counts only where demand could be seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from invpipe.contracts import CONTRACTS, validate_tables
from invpipe.errors import HistoryError

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """Dated values per SKU in compressed sparse rows: events of SKU i are rows ptr[i]:ptr[i+1], sorted by day."""

    ptr: Int64Array
    day: Int32Array
    value: FloatArray

    @cached_property
    def cumulative(self) -> FloatArray:
        """Running sum of value over all rows with a leading 0, so that sums over rows a:b are cumulative[b] - cumulative[a]."""
        return np.concatenate([[0.0], np.cumsum(self.value)])

    @cached_property
    def cumulative_squares(self) -> FloatArray:
        """Running sum of value squared, as `cumulative`."""
        return np.concatenate([[0.0], np.cumsum(self.value**2)])


@dataclass(frozen=True)
class HistoryArrays:
    """Event arrays of a shop, SKUs in the order of `ShopHistory.skus`, days counted from `ShopHistory.first_day`.

    Parameters
    ----------
    n_days
        Days of the history; valid day indices are 0 .. n_days - 1.
    sales
        Units sold on orderable days.
    views
        Page views, empty where the table is absent.
    span_ptr, span_from, span_to
        Orderable spans per SKU, inclusive, sorted.
    offer_cost, offer_vendors
        Step functions per SKU: cheapest unit cost in stock (NaN where none), and number of vendors with stock, from each day on.
    release_day
        Day index of the release date, NaN where unknown.
    """

    n_days: int
    sales: Events
    views: Events
    span_ptr: Int64Array
    span_from: Int32Array
    span_to: Int32Array
    offer_cost: Events
    offer_vendors: Events
    release_day: FloatArray

    @property
    def n_skus(self) -> int:
        """Number of SKUs."""
        return len(self.sales.ptr) - 1


def _index(names: pl.Series, known: tuple[str, ...]) -> Int64Array:
    """Return the row of each name among those known."""
    lookup = pl.DataFrame({"name": known}, schema={"name": pl.String}).with_row_index("i")
    return pl.DataFrame({"name": names}).join(lookup, on="name", how="left", maintain_order="left")["i"].to_numpy().astype(np.int64)


def _pointers(index: Int64Array, n: int) -> Int64Array:
    return np.concatenate([[0], np.cumsum(np.bincount(index, minlength=n))]).astype(np.int64)


@njit(cache=True, nogil=True)
def _state_of_days(
    sku: Int64Array, day: Int32Array, vendor: Int64Array, cost: FloatArray, n_vendors: int
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return per offer, sorted by SKU and day, the cheapest cost and the vendors with stock after it, valid where it ends its day.

    A cost is NaN where the vendor has no stock.
    """
    n = len(sku)
    cheapest, in_stock, ends = np.full(n, np.nan), np.zeros(n), np.zeros(n, dtype=np.bool_)
    now = np.full(n_vendors, np.nan)
    for j in range(n):
        if j > 0 and sku[j] != sku[j - 1]:
            now[:] = np.nan
        now[vendor[j]] = cost[j]
        ends[j] = j + 1 == n or sku[j + 1] != sku[j] or day[j + 1] != day[j]
        if ends[j]:
            for known in now:
                if not np.isnan(known):
                    in_stock[j] += 1
                    cheapest[j] = known if np.isnan(cheapest[j]) else min(cheapest[j], known)
    return cheapest, in_stock, ends


@dataclass(frozen=True)
class ShopHistory:
    """Validated tables of one shop; build it with :meth:`from_frames`.

    Attributes are the tables of the contracts, sorted by key, `orderable_daily` as spans (sku, from_day, to_day); absent optional tables
    are None. `first_day` and `last_day` bound the days the history speaks of, both inclusive.
    """

    items: pl.DataFrame
    sales_daily: pl.DataFrame
    orderable_daily: pl.DataFrame
    vendors: pl.DataFrame | None
    offers: pl.DataFrame | None
    stock_daily: pl.DataFrame | None
    page_views_daily: pl.DataFrame | None
    first_day: date
    last_day: date
    quarantine: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)

    @classmethod
    def from_frames(
        cls,
        *,
        items: pl.DataFrame | pl.LazyFrame,
        sales_daily: pl.DataFrame | pl.LazyFrame,
        orderable_daily: pl.DataFrame | pl.LazyFrame,
        vendors: pl.DataFrame | pl.LazyFrame | None = None,
        offers: pl.DataFrame | pl.LazyFrame | None = None,
        stock_daily: pl.DataFrame | pl.LazyFrame | None = None,
        page_views_daily: pl.DataFrame | pl.LazyFrame | None = None,
        as_of: date | None = None,
        quarantine_threshold_frac: float = 0.0,
    ) -> ShopHistory:
        """Validate the tables and return the history.

        Parameters
        ----------
        items, sales_daily, orderable_daily, vendors, offers, stock_daily, page_views_daily
            Tables of the contracts, eager or lazy.
        as_of
            Last day the tables may speak of; today where None.
        quarantine_threshold_frac
            Share of a table's rows, 0-1, that may break a rule: they are taken out and kept in `quarantine`. 0: every bad row is an error.

        Raises
        ------
        ContractError
            Where a column is missing, a type is wrong, a required table is empty, or more rows break a rule than the threshold allows.
        """
        validation = validate_tables(
            {
                "items": items,
                "vendors": vendors,
                "sales_daily": sales_daily,
                "stock_daily": stock_daily,
                "page_views_daily": page_views_daily,
                "offers": offers,
                "orderable_daily": orderable_daily,
            },
            as_of=as_of or date.today(),
        )
        validation.raise_above(quarantine_threshold_frac)
        return cls.from_valid(validation.tables, validation.quarantine)

    @classmethod
    def from_valid(cls, tables: dict[str, pl.DataFrame], quarantine: pl.DataFrame | None = None) -> ShopHistory:
        """Return the history of tables that hold their contracts already (`Validation.tables`)."""
        sales, spans = tables["sales_daily"], tables["orderable_daily"]
        if len(sales) == 0 or len(spans) == 0:
            empty = "sales_daily" if len(sales) == 0 else "orderable_daily"
            msg = f"table {empty} has no good rows left; see the quarantine counts for the rule they broke"
            raise HistoryError(msg)
        first: date = min(sales["day"].min(), spans["from_day"].min())  # type: ignore[type-var,assignment]
        last: date = max(sales["day"].max(), spans["to_day"].max())  # type: ignore[type-var,assignment]
        return cls(
            items=tables["items"],
            sales_daily=sales,
            orderable_daily=spans,
            vendors=tables.get("vendors"),
            offers=tables.get("offers"),
            stock_daily=tables.get("stock_daily"),
            page_views_daily=tables.get("page_views_daily"),
            first_day=first,
            last_day=last,
            quarantine=quarantine if quarantine is not None else pl.DataFrame(),
        )

    def save(self, directory: Path) -> None:
        """Write the tables, without the quarantine, into a new directory: one Parquet file each, and the days the history speaks of."""
        directory.mkdir()
        (directory / "days.json").write_text(json.dumps({"first_day": self.first_day.isoformat(), "last_day": self.last_day.isoformat()}))
        for name in CONTRACTS:
            frame: pl.DataFrame | None = getattr(self, name)
            if frame is not None:
                frame.write_parquet(directory / f"{name}.parquet")

    @classmethod
    def open(cls, directory: Path) -> ShopHistory:
        """Read a history written by :meth:`save`."""
        tables = {path.stem: pl.read_parquet(path) for path in sorted(directory.glob("*.parquet"))}
        first, last = cls.stored_days(directory)
        return replace(cls.from_valid(tables), first_day=first, last_day=last)

    @staticmethod
    def stored_days(directory: Path) -> tuple[date, date]:
        """Return first and last day of a history written by :meth:`save`, without reading it."""
        days = json.loads((directory / "days.json").read_text())
        return date.fromisoformat(days["first_day"]), date.fromisoformat(days["last_day"])

    @cached_property
    def skus(self) -> tuple[str, ...]:
        """All SKUs of the catalogue, sorted."""
        return tuple(self.items["sku"])

    @property
    def n_days(self) -> int:
        """Days from first_day to last_day, both counted."""
        return (self.last_day - self.first_day).days + 1

    def day_index(self, day: date) -> int:
        """Return the day counted from first_day (which is 0)."""
        return (day - self.first_day).days

    def until(self, cutoff: date) -> ShopHistory:
        """Return the history as known at the end of `cutoff`: no later row, spans clipped; itself, arrays and all, where nothing is later.

        Raises
        ------
        HistoryError
            Where the cutoff lies outside first_day .. last_day, or nothing was sold or orderable up to it.
        """
        if not self.first_day <= cutoff <= self.last_day:
            msg = f"cutoff {cutoff} lies outside the history, {self.first_day} .. {self.last_day}; choose a day within it"
            raise HistoryError(msg)
        before = pl.col("day") <= cutoff

        def cut(frame: pl.DataFrame | None, keep: pl.Expr) -> pl.DataFrame | None:
            return None if frame is None else frame.filter(keep)

        sales = self.sales_daily.filter(before)
        spans = self.orderable_daily.filter(pl.col("from_day") <= cutoff).with_columns(pl.col("to_day").clip(upper_bound=cutoff))
        if len(sales) == 0 or len(spans) == 0:
            first_sale = str(self.sales_daily["day"].min())
            msg = f"no sale or no orderable day up to cutoff {cutoff}; the first sale is on {first_sale}; choose a later day"
            raise HistoryError(msg)
        known = ShopHistory(
            items=self.items,
            sales_daily=sales,
            orderable_daily=spans,
            vendors=self.vendors,
            offers=cut(self.offers, pl.col("observed_at").cast(pl.Date) <= cutoff),
            stock_daily=cut(self.stock_daily, before),
            page_views_daily=cut(self.page_views_daily, before),
            first_day=self.first_day,
            last_day=cutoff,
        )
        return self if cutoff == self.last_day and known._rows() == self._rows() else known

    def _rows(self) -> list[int]:
        """Return the number of rows of each table."""
        return [0 if frame is None else len(frame) for frame in (getattr(self, name) for name in CONTRACTS)]

    @property
    def sales_units_not_orderable(self) -> int:
        """Units sold on days that were not orderable: they count nowhere."""
        return int(self.sales_daily["sales_units"].sum() - self.arrays.sales.value.sum())

    @cached_property
    def arrays(self) -> HistoryArrays:
        """Event arrays for the kernels, built once."""
        n = len(self.skus)
        spans = self.orderable_daily
        span_index = _index(spans["sku"], self.skus)
        sales = self.sales_daily.sort("sku", "day").join_asof(
            spans.rename({"from_day": "day"}).sort("sku", "day"), on="day", by="sku", strategy="backward", check_sortedness=False
        )
        sales = sales.filter(pl.col("day") <= pl.col("to_day"))
        empty = pl.DataFrame(schema={"sku": pl.String, "day": pl.Date, "views": pl.Int32})
        cost, vendors = self._offer_steps()
        release = (self.items["release_date"].cast(pl.Int32) - (self.first_day - date(1970, 1, 1)).days).cast(pl.Float64)
        return HistoryArrays(
            n_days=self.n_days,
            sales=self._events(sales, "sales_units"),
            views=self._events(empty if self.page_views_daily is None else self.page_views_daily, "views"),
            span_ptr=_pointers(span_index, n),
            span_from=self._days(spans["from_day"]),
            span_to=self._days(spans["to_day"]),
            offer_cost=cost,
            offer_vendors=vendors,
            release_day=release.fill_null(float("nan")).to_numpy(),
        )

    def _days(self, days: pl.Series) -> Int32Array:
        return days.cast(pl.Int32).to_numpy() - np.int32((self.first_day - date(1970, 1, 1)).days)

    def _events(self, frame: pl.DataFrame, value: str) -> Events:
        frame = frame.sort("sku", "day")
        index = _index(frame["sku"], self.skus)
        return Events(_pointers(index, len(self.skus)), self._days(frame["day"]), frame[value].cast(pl.Float64).to_numpy())

    def _offer_steps(self) -> tuple[Events, Events]:
        """Return cheapest cost in stock and vendors with stock per SKU, as step functions of the day (state at the end of the day)."""
        if self.offers is None:
            none = pl.DataFrame(schema={"sku": pl.String, "day": pl.Date, "cost": pl.Float64, "vendors": pl.Float64})
            return self._events(none, "cost"), self._events(none, "vendors")
        sku, day = _index(self.offers["sku"], self.skus), self._days(self.offers["observed_at"].cast(pl.Date))
        vendors = tuple(self.offers["vendor"].unique().sort())
        order = np.argsort(sku * self.n_days + day, kind="stable")  # the offers of a vendor stay in the order of time
        cost = np.where(self.offers["in_stock"].to_numpy(), self.offers["unit_cost"].to_numpy(), np.nan)
        sku, day, vendor = sku[order], day[order], _index(self.offers["vendor"], vendors)[order]
        cheapest, in_stock, ends = _state_of_days(sku, day, vendor, cost[order], len(vendors))
        ptr = _pointers(sku[ends], len(self.skus))
        return Events(ptr, day[ends], cheapest[ends]), Events(ptr, day[ends], in_stock[ends])
