r"""Tape: the recorded past of one shop as memory-mapped arrays, one day after the other, ready for replay.

Day-major order (compressed sparse rows by day): the events of day d are the rows ``start[d]:start[d + 1]``, sorted by SKU (offer) index.

- *demand*: units wanted per SKU; the units sold where the true demand is not known: then a replay can never sell what the shop missed;
- *page views* per SKU;
- *offer deltas*: what changed in a vendor's offer, and only that (NaN, -1 and 0 mean unchanged). An offer seen on day d holds from day d
  on; of several events of one day the last one counts.

The opening state - stock on the start day, offers, sales and conversion before it - is built from rows up to the start day only. Opening
stock is valued at the lowest unit cost known before the start, or at `opening_cost_frac` of the list price where no vendor was seen.

On disk a tape is one directory: a ``.npy`` file per array, ``names.json``, and ``meta.json`` with format version, shapes, types and
checksums. It is written under a temporary name and renamed, so that a killed writer leaves no tape instead of a broken one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.atomic import atomic_replace
from invpipe.errors import TapeError

if TYPE_CHECKING:
    from invpipe.arena.tape_stream import DaySpan
    from invpipe.history import ShopHistory

AnyArray = npt.NDArray[Any]
Columns = tuple[npt.ArrayLike, ...]
Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

FORMAT = "invpipe-tape"
FORMAT_VERSION = 1


class TapeArrays(NamedTuple):
    """Arrays of a tape, all read-only; a named tuple so that the kernel takes it as one argument.

    Shapes: n_sku, n_vendor, n_offer as named; ``*_start`` has n_days + 1 rows (``offer_start`` n_sku + 1), events one row each.
    Prior sales are the sales before the start, oldest first, dated by their age in days (1 is the day before the start).
    """

    unit_price: FloatArray
    lead_time_days_mean: FloatArray
    lead_time_days_sd: FloatArray
    min_order_value: FloatArray
    offer_start: Int64Array
    offer_sku: Int32Array
    offer_vendor: Int32Array
    opening_on_hand_units: Int64Array
    opening_unit_cost: FloatArray
    opening_offer_unit_cost: FloatArray
    opening_offer_in_stock: Int8Array
    opening_offer_min_order_units: Int32Array
    opening_offer_pack_units: Int32Array
    prior_sales_age_days: Int32Array
    prior_sales_sku: Int32Array
    prior_sales_units: Int32Array
    prior_conversion_units: Int64Array
    prior_conversion_views: Int64Array
    demand_start: Int64Array
    demand_sku: Int32Array
    demand_units: Int32Array
    views_start: Int64Array
    views_sku: Int32Array
    views: Int32Array
    delta_start: Int64Array
    delta_offer: Int32Array
    delta_unit_cost: FloatArray
    delta_in_stock: Int8Array
    delta_min_order_units: Int32Array
    delta_pack_units: Int32Array


_FLOATS = {
    "unit_price", "lead_time_days_mean", "lead_time_days_sd", "min_order_value", "opening_unit_cost", "opening_offer_unit_cost",
    "delta_unit_cost",
}  # fmt: skip
_INT8 = {"opening_offer_in_stock", "delta_in_stock"}
_INT64 = {"opening_on_hand_units", "prior_conversion_units", "prior_conversion_views"}


def array_dtype(name: str) -> np.dtype[Any]:
    """Return the type of an array of a tape."""
    if name in _FLOATS:
        return np.dtype(np.float64)
    if name in _INT8:
        return np.dtype(np.int8)
    return np.dtype(np.int64) if name in _INT64 or name.endswith("_start") else np.dtype(np.int32)


def _positive(values: AnyArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values > 0)


def _not_negative(values: AnyArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values >= 0)


def _at_least_one(values: AnyArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values >= 1)


def _positive_or_unknown(values: AnyArray) -> npt.NDArray[np.bool_]:
    return np.asarray(~(values <= 0))


#: What the values of an array must satisfy, and what is said of those that do not.
BOUNDS: tuple[tuple[str, Callable[[AnyArray], npt.NDArray[np.bool_]], str], ...] = (
    ("unit_price", _positive, "unit prices are not above 0"),
    ("lead_time_days_mean", _at_least_one, "mean lead times are below 1 day"),
    ("lead_time_days_sd", _not_negative, "lead time deviations are negative"),
    ("min_order_value", _not_negative, "minimum order values are negative"),
    ("opening_on_hand_units", _not_negative, "opening stocks are negative"),
    ("opening_unit_cost", _not_negative, "opening unit costs are negative or NaN"),
    ("demand_units", _positive, "demand events have no units"),
    ("views", _positive, "page view events have no views"),
    ("delta_unit_cost", _positive_or_unknown, "offer deltas have a unit cost <= 0"),
    ("opening_offer_unit_cost", _positive_or_unknown, "opening offers have a unit cost <= 0"),
    ("opening_offer_min_order_units", _at_least_one, "opening offers have min_order_units < 1"),
    ("opening_offer_pack_units", _at_least_one, "opening offers have pack_units < 1"),
    ("delta_min_order_units", _not_negative, "offer deltas have min_order_units < 0"),
    ("delta_pack_units", _not_negative, "offer deltas have pack_units < 0"),
    ("prior_sales_age_days", _at_least_one, "prior sales lie on or after the start"),
)


def _frozen(array: npt.ArrayLike, name: str) -> AnyArray:
    out = np.ascontiguousarray(array, dtype=array_dtype(name))
    if out is array and out.flags.writeable:
        out = out.copy()
    out.flags.writeable = False
    return out


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse(bad: npt.NDArray[np.bool_], what: str, values: AnyArray, advice: str) -> None:
    """Raise TapeError where a row is bad, naming how many, the first and its value."""
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        msg = f"{int(bad.sum())} of {bad.size} {what}, first at row {first}: {values[first]}; {advice}"
        raise TapeError(msg)


def rows_by_day(events: Columns, n_days: int, n_key: int, what: str) -> tuple[Int64Array, list[npt.ArrayLike]]:
    """Sort events by (day, key) unless they are sorted, check them, and return the row pointers and the columns, key first."""
    day, key, columns = np.asarray(events[0], dtype=np.int64), np.asarray(events[1], dtype=np.int64), list(events[2:])
    refuse((day < 0) | (day >= n_days), f"{what} events lie outside the tape's {n_days} days", day, "cut them to the tape's span")
    refuse((key < 0) | (key >= n_key), f"{what} events name an index outside 0 .. {n_key - 1}", key, "use the tape's own SKUs and offers")
    rank = day * n_key + key
    if rank.size and not bool(np.all(rank[1:] > rank[:-1])):
        order = np.argsort(rank, kind="stable")
        rank, key, columns = rank[order], key[order], [np.asarray(c)[order] for c in columns]
        refuse(np.concatenate([[False], rank[1:] == rank[:-1]]), f"{what} events share their day and index", key, "sum or drop the doubles")
    start = np.searchsorted(rank, np.arange(n_days + 1, dtype=np.int64) * n_key)
    return start.astype(np.int64), [key, *columns]


def check_values(arrays: Mapping[str, AnyArray]) -> None:
    """Raise TapeError where a value of the given arrays, all of a tape or those of some of its days, is out of its bounds."""
    for name, within, what in BOUNDS:
        if name in arrays:
            refuse(~within(arrays[name]), what, arrays[name], "correct the tape's input")
    if "opening_offer_in_stock" in arrays:
        cost = arrays["opening_offer_unit_cost"]
        bad = (arrays["opening_offer_in_stock"] == 1) & np.isnan(cost)
        refuse(bad, "opening offers are in stock without a cost", cost, "correct the tape's input")
    if "prior_sales_age_days" in arrays:
        age = arrays["prior_sales_age_days"]
        refuse(np.diff(age, prepend=age[:1]) > 0, "prior sales are not oldest first", age, "correct the tape's input")


@dataclass(frozen=True)
class Tape:
    """Recorded past of one shop.

    Parameters
    ----------
    start
        Day 0 of the tape.
    skus, vendors
        Names behind the indices.
    arrays
        Events and opening state; see :class:`TapeArrays`.
    """

    start: date
    skus: tuple[str, ...]
    vendors: tuple[str, ...]
    arrays: TapeArrays

    def __post_init__(self) -> None:
        # always read-only and of one type, so that the kernel is compiled once
        object.__setattr__(self, "arrays", TapeArrays(**{name: _frozen(array, name) for name, array in self.arrays._asdict().items()}))

    @property
    def n_days(self) -> int:
        """Days of the tape."""
        return len(self.arrays.demand_start) - 1

    @property
    def end(self) -> date:
        """Last day of the tape."""
        return self.start + timedelta(days=self.n_days - 1)

    @property
    def n_events(self) -> int:
        """Demand, view and offer events of all days."""
        a = self.arrays
        return len(a.demand_sku) + len(a.views_sku) + len(a.delta_offer)

    def fingerprint(self) -> str:
        """Return the SHA-256 over names, start and every array byte, computed once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        sha = hashlib.sha256(json.dumps([self.start.isoformat(), self.skus, self.vendors]).encode())
        for name, array in self.arrays._asdict().items():
            sha.update(f"{name}{array.shape}".encode())
            sha.update(memoryview(array).cast("B") if array.size else b"")
        return sha.hexdigest()

    # ------------------------------------------------------------------ build

    @classmethod
    def from_arrays(
        cls,
        *,
        start: date,
        n_days: int,
        skus: Sequence[str],
        unit_price: npt.ArrayLike,
        vendors: Sequence[str] = (),
        lead_time_days_mean: npt.ArrayLike = (),
        lead_time_days_sd: npt.ArrayLike = (),
        min_order_value: npt.ArrayLike = (),
        offer_sku: npt.ArrayLike = (),
        offer_vendor: npt.ArrayLike = (),
        opening_on_hand_units: npt.ArrayLike | None = None,
        opening_unit_cost: npt.ArrayLike | None = None,
        opening_offers: Columns | None = None,
        prior_sales: Columns = ((), (), ()),
        prior_conversion: Columns | None = None,
        demand: Columns = ((), (), ()),
        views: Columns = ((), (), ()),
        deltas: Columns = ((), (), (), (), (), ()),
    ) -> Tape:
        """Return a tape of the given events, sorting them where needed.

        Parameters
        ----------
        start, n_days
            First day and number of days, >= 1.
        skus, unit_price
            Names, and selling price > 0 per SKU.
        vendors, lead_time_days_mean, lead_time_days_sd, min_order_value
            Names, and per vendor days >= 1, days >= 0, money >= 0.
        offer_sku, offer_vendor
            SKU and vendor index per offer, sorted by (SKU, vendor).
        opening_on_hand_units, opening_unit_cost
            Stock at the opening of day 0 and its cost per unit, per SKU; none in stock where absent.
        opening_offers
            (unit_cost, in_stock, min_order_units, pack_units) per offer before day 0; no offer seen yet where absent (NaN, 0, 1, 1).
        prior_sales
            (age_days, sku, units) of sales before day 0, oldest first.
        prior_conversion
            (units, views) per SKU of orderable days before day 0.
        demand, views
            (day, sku, units) and (day, sku, views), values > 0.
        deltas
            (day, offer, unit_cost, in_stock, min_order_units, pack_units); NaN, -1, 0, 0 mean unchanged.

        Raises
        ------
        TapeError
            Where an index lies outside its range, a value is out of its bounds, or shapes do not fit.
        """
        n_sku, n_vendor = len(skus), len(vendors)
        if n_days < 1:
            msg = f"a tape has at least 1 day, not {n_days}; choose end >= start"
            raise TapeError(msg)
        of_sku, of_vendor = np.asarray(offer_sku, dtype=np.int64), np.asarray(offer_vendor, dtype=np.int64)
        n_offer = len(of_sku)
        rank = of_sku * max(n_vendor, 1) + of_vendor
        refuse(np.diff(rank, prepend=-1) <= 0, "offers are not sorted by (SKU, vendor) or not unique", rank, "sort them, one row per pair")
        refuse((of_sku < 0) | (of_sku >= n_sku), f"offers name a SKU outside 0 .. {n_sku - 1}", of_sku, "use the tape's own SKUs")
        refuse((of_vendor < 0) | (of_vendor >= n_vendor), f"offers name a vendor outside 0 .. {n_vendor - 1}", of_vendor, "add the vendor")
        if opening_offers is None:
            ones = np.ones(n_offer, dtype=np.int32)
            opening_offers = (np.full(n_offer, np.nan), np.zeros(n_offer), ones, ones)
        zeros = np.zeros(n_sku)
        prior_units, prior_views = prior_conversion if prior_conversion is not None else (zeros, zeros)
        demand_start, demand_rows = rows_by_day(demand, n_days, n_sku, "demand")
        views_start, views_rows = rows_by_day(views, n_days, n_sku, "page view")
        delta_start, delta_rows = rows_by_day(deltas, n_days, n_offer, "offer delta")
        values: dict[str, Any] = {
            "unit_price": unit_price,
            "lead_time_days_mean": lead_time_days_mean,
            "lead_time_days_sd": lead_time_days_sd,
            "min_order_value": min_order_value,
            "offer_start": np.searchsorted(of_sku, np.arange(n_sku + 1)),
            "offer_sku": of_sku,
            "offer_vendor": of_vendor,
            "opening_on_hand_units": zeros if opening_on_hand_units is None else opening_on_hand_units,
            "opening_unit_cost": zeros if opening_unit_cost is None else opening_unit_cost,
            **dict(zip([n for n in TapeArrays._fields if n.startswith("opening_offer")], opening_offers, strict=True)),
            **dict(zip(("prior_sales_age_days", "prior_sales_sku", "prior_sales_units"), prior_sales, strict=True)),
            "prior_conversion_units": prior_units,
            "prior_conversion_views": prior_views,
            "demand_start": demand_start,
            **dict(zip(("demand_sku", "demand_units"), demand_rows, strict=True)),
            "views_start": views_start,
            **dict(zip(("views_sku", "views"), views_rows, strict=True)),
            "delta_start": delta_start,
            **dict(zip([n for n in TapeArrays._fields if n.startswith("delta_") and n != "delta_start"], delta_rows, strict=True)),
        }
        tape = cls(start, tuple(skus), tuple(vendors), TapeArrays(**values))
        tape._check()
        return tape

    def _check(self) -> None:
        a, n_sku, n_vendor, n_offer = self.arrays, len(self.skus), len(self.vendors), len(self.arrays.offer_sku)
        lengths = {"unit_price": n_sku, "lead_time": n_vendor, "min_order_value": n_vendor, "opening_offer": n_offer, "opening": n_sku}
        lengths |= {"prior_conversion": n_sku}
        for name, array in a._asdict().items():
            want = next((n for prefix, n in lengths.items() if name.startswith(prefix)), len(array))
            if len(array) != want:
                msg = f"{name} has {len(array)} rows; give {want}"
                raise TapeError(msg)
        check_values(a._asdict())

    @classmethod
    def build(
        cls, history: ShopHistory, start: date, end: date, demand: pl.DataFrame | None = None, *, opening_cost_frac: float = 0.6
    ) -> Tape:
        """Record the days start .. end (both inclusive) of a history.

        Parameters
        ----------
        history
            Shop; nothing after `end` is read, and the opening state reads nothing after `start`.
        start, end
            Days within the history.
        demand
            True demand where it is known (contract demand_daily: sku, day, demand_units); the history's sales where None.
        opening_cost_frac
            Cost of opening stock as a share of the list price, for SKUs no vendor offered before the start.

        Raises
        ------
        HistoryError
            Where the span lies outside the history.
        TapeError
            Where an offer or a demand row names something the history does not have.
        """
        from invpipe.arena.tape_build import build_tape

        return build_tape(history, start, end, demand, opening_cost_frac=opening_cost_frac)

    @classmethod
    def stream(
        cls,
        path: str | Path,
        spans: Callable[[date], Iterable[DaySpan]],
        *,
        items: pl.DataFrame,
        orderable_daily: pl.DataFrame,
        start: date,
        end: date,
        first_day: date,
        vendors: pl.DataFrame | None = None,
        true_demand: bool = False,
        opening_cost_frac: float = 0.6,
    ) -> Tape:
        """Record the days start .. end as directory `path` in memory bounded by a span and the state of SKUs and offers, and open it.

        The bytes are those of :meth:`build` and :meth:`save` over the same history. A build that was killed goes on behind its last
        complete span and ends with the same bytes.

        Parameters
        ----------
        path
            Directory of the tape; what is unfinished stands beside it as ``.NAME.build``.
        spans
            Given a day, yields the shop's days from it on, in adjacent spans; called with `first_day`, or with the day a killed build
            goes on from. See :func:`invpipe.arena.tape_stream.history_spans`.
        items, vendors, orderable_daily
            Tables of the whole shop; orderable_daily as spans of days.
        start, end, first_day
            Days of the tape, both inclusive, and the first day of the shop's records: those before `start` make the opening state.
        true_demand
            Replay the spans' demand_daily instead of their sales.
        opening_cost_frac
            As in :meth:`build`.

        Raises
        ------
        TapeError
            Where spans are not adjacent or not of this build, a row names what the shop does not have, a value is out of its bounds, or
            another process builds the same tape.
        """
        from invpipe.arena.tape_stream import ShopStream, stream_tape

        shop = ShopStream(items, vendors, orderable_daily, first_day, start, end, true_demand, opening_cost_frac)
        return stream_tape(path, spans, shop)

    # ------------------------------------------------------------- on disk

    def save(self, path: str | Path) -> Path:
        """Write the tape as directory `path`, replacing a tape that is there, and return the path.

        Raises
        ------
        TapeError
            Where something else than a tape is at `path`.
        """
        path = Path(path)
        refuse_foreign(path)
        with atomic_replace(path) as folder:
            folder.mkdir()
            for name, array in self.arrays._asdict().items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            write_records(folder, self.start, self.n_days, self.skus, self.vendors)
        return path

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Tape:
        """Open a saved tape, its arrays memory-mapped and read-only.

        Parameters
        ----------
        path
            Directory of the tape.
        verify
            Read every file once and compare its checksum; shapes and types are compared in any case.

        Raises
        ------
        TapeError
            Where a file is missing, damaged, foreign or of another format version.
        """
        path = Path(path)
        meta = read_json(path / "meta.json")
        if meta.get("format") != FORMAT or meta.get("version") != FORMAT_VERSION:
            found = f"{meta.get('format')!r} version {meta.get('version')!r}"
            msg = f"{path / 'meta.json'} is of format {found}, this invpipe reads {FORMAT!r} version {FORMAT_VERSION}; build the tape again"
            raise TapeError(msg)
        files = cast("dict[str, dict[str, Any]]", meta.get("files", {}))
        missing = [f for f in ("names.json", *(f"{n}.npy" for n in TapeArrays._fields)) if f not in files or not (path / f).is_file()]
        if missing:
            msg = f"{len(missing)} files of tape {path} are missing, first {missing[0]}; build the tape again"
            raise TapeError(msg)
        if verify:
            for name, record in files.items():
                if _sha256(path / name) != record["sha256"]:
                    msg = f"{path / name} is damaged: its checksum differs from meta.json; build the tape again"
                    raise TapeError(msg)
        names = read_json(path / "names.json")
        arrays = TapeArrays(**{name: _map(path / f"{name}.npy", files[f"{name}.npy"]) for name in TapeArrays._fields})
        return cls(date.fromisoformat(cast("str", meta["start"])), tuple(names["skus"]), tuple(names["vendors"]), arrays)


def refuse_foreign(path: Path) -> None:
    """Raise TapeError where something else than a tape is at `path`."""
    if path.exists() and not (path / "meta.json").is_file():
        msg = f"{path} exists and is not a tape (no meta.json); choose another path or remove it"
        raise TapeError(msg)


def write_records(folder: Path, start: date, n_days: int, skus: Sequence[str], vendors: Sequence[str]) -> None:
    """Write names.json and meta.json, which makes the array files of a directory a tape."""
    (folder / "names.json").write_text(json.dumps({"skus": skus, "vendors": vendors}), encoding="utf-8")
    files: dict[str, dict[str, Any]] = {"names.json": {"sha256": _sha256(folder / "names.json")}}
    for name in TapeArrays._fields:
        file = folder / f"{name}.npy"
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        files[file.name] = {"sha256": _sha256(file), "shape": list(array.shape), "dtype": array.dtype.str}
    end = start + timedelta(days=n_days - 1)
    meta = {"format": FORMAT, "version": FORMAT_VERSION, "start": start.isoformat(), "end": end.isoformat(), "files": files}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a tape, or raise TapeError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path} is missing: {path.parent} is not a tape; give the directory Tape.save returned, or build the tape"
        raise TapeError(msg) from None
    except ValueError as error:
        msg = f"{path} is damaged: {error}; build the tape again"
        raise TapeError(msg) from None
    if not isinstance(value, dict):
        msg = f"{path} is damaged: it holds a {type(value).__name__}, not an object; build the tape again"
        raise TapeError(msg)
    return value


def _map(path: Path, record: dict[str, Any]) -> AnyArray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        msg = f"{path} is damaged: {error}; build the tape again"
        raise TapeError(msg) from None
    if list(array.shape) != record.get("shape") or array.dtype.str != record.get("dtype") or array.dtype != array_dtype(path.stem):
        found = f"{array.dtype.str}{list(array.shape)}"
        msg = f"{path} holds {found}, meta.json says {record.get('dtype')}{record.get('shape')}; build the tape again"
        raise TapeError(msg)
    return array
