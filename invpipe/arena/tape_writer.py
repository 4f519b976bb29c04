"""Writer of tapes day by day: arrays grow at their end on disk, a killed build goes on behind its last complete chunk.

What is unfinished stands beside the tape, as ``.NAME.build``: ``tape/`` with the files of the tape, ``raw/`` with deltas whose offers are
not numbered for good yet, ``state-N.npz`` with what the builder carries from chunk to chunk, and ``progress.json``. A chunk is complete
once ``progress.json`` names its rows, checksums (CRC-32, which can go on where it stopped) and state; it is replaced in one step, after all
else is on disk. On resumption rows behind it are cut off and the rest is checked.

The end writes the headers, numbers the offers, sums up SHA-256 and renames ``tape/``: a reader sees the old tape or the whole new one.
Every array file has the header that `numpy.save` would write. One writer at a time: it holds a lock (POSIX). Memory is bounded by a chunk.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from invpipe.arena.tape import Columns, TapeArrays, array_dtype, check_values, read_json, refuse_foreign, rows_by_day, write_records
from invpipe.atomic import atomic_replace
from invpipe.errors import TapeError

AnyArray = npt.NDArray[Any]
Json = dict[str, Any]

BUILD_FORMAT = "invpipe-tape-build"
BUILD_VERSION = 1
#: Length of the header of a one-dimensional .npy file, which leaves room for any number of rows.
HEADER_BYTES = 128
#: Bytes and days that are read at once where a file is gone through again.
BLOCK_BYTES = 1 << 24
BLOCK_DAYS = 64

_EVENTS = {
    "demand": ("demand_sku", "demand_units"),
    "views": ("views_sku", "views"),
    "delta": ("delta_offer", "delta_unit_cost", "delta_in_stock", "delta_min_order_units", "delta_pack_units"),
}
_PRIOR = ("prior_sales_age_days", "prior_sales_sku", "prior_sales_units")
#: Arrays that grow with the days; all others are given at the end.
GROWING = frozenset((*_PRIOR, *(f"{kind}_start" for kind in _EVENTS), *(name for names in _EVENTS.values() for name in names)))


@dataclass(frozen=True)
class TapeDays:
    """Events of the next days; days count from 0 within the chunk, and rows of one kind come in any order.

    Parameters
    ----------
    n_days
        Days of the tape, 0 where the chunk lies before its start.
    demand, views
        (day, sku, units) and (day, sku, views), values > 0.
    deltas
        (day, offer, unit_cost, in_stock, min_order_units, pack_units); NaN, -1, 0, 0 mean unchanged.
    prior_sales
        (age_days, sku, units) of sales before the start, oldest first.
    """

    n_days: int
    demand: Columns = ((), (), ())
    views: Columns = ((), (), ())
    deltas: Columns = ((), (), (), (), (), ())
    prior_sales: Columns = ((), (), ())


def npy_header(dtype: np.dtype[Any], rows: int) -> bytes:
    """Return the header `numpy.save` writes before an array of shape (rows,)."""
    buffer = io.BytesIO()
    record = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(buffer, record)
    if buffer.tell() != HEADER_BYTES:
        msg = f"this numpy writes {buffer.tell()} bytes before an array, not {HEADER_BYTES}; use the numpy the project pins"
        raise TapeError(msg)
    return buffer.getvalue()


class _Column:
    """One array on disk that grows at its end."""

    def __init__(self, path: Path, rows: int = 0, crc: int = 0) -> None:
        self.path, self.dtype, self.rows, self.crc = path, array_dtype(path.stem), rows, crc
        if rows == 0:
            path.write_bytes(npy_header(self.dtype, 0))
        self.file: BinaryIO = path.open("r+b")

    @property
    def end(self) -> int:
        return HEADER_BYTES + self.rows * self.dtype.itemsize

    def cut(self) -> None:
        """Cut off what came after the last complete chunk and compare the rest with its checksum."""
        size = self.path.stat().st_size
        if size < self.end:
            self._refuse(f"it has {size:,} bytes, its complete chunks have {self.end:,}")
        self.file.truncate(self.end)
        self.file.seek(HEADER_BYTES)
        crc = 0
        while block := self.file.read(BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
        if crc != self.crc:
            self._refuse("its checksum differs from progress.json")

    def _refuse(self, why: str) -> None:
        msg = f"{self.path} of an unfinished build is damaged: {why}; remove {self.path.parents[1]} to build the tape anew"
        raise TapeError(msg)

    def append(self, values: npt.ArrayLike) -> None:
        data = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
        self.file.seek(self.end)
        self.file.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.rows += np.size(values)

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self) -> None:
        self.file.seek(0)
        self.file.write(npy_header(self.dtype, self.rows))
        self.sync()

    def close(self) -> None:
        self.file.close()


class TapeWriter:
    """Writes a tape chunk by chunk; a context manager. Left by an error, it keeps what is complete for the next one.

    Parameters
    ----------
    path
        Directory of the tape.
    identity
        What is built, as JSON: a build is only gone on with by a writer of the same identity.
    n_sku
        SKUs of the tape.
    renumber
        Offers get their numbers at the end; see :meth:`finish`.

    Attributes
    ----------
    n_days
        Days of the tape that are complete.
    state
        What the builder gave along with the last complete chunk, empty before the first.

    Raises
    ------
    TapeError
        Where another process builds the tape, an unfinished build is of another identity or damaged, or no tape is at `path`.
    """

    def __init__(self, path: str | Path, identity: Json, n_sku: int, *, renumber: bool = False) -> None:
        self.path = Path(path)
        self.n_days = 0
        self.state: dict[str, AnyArray] = {}
        self._identity: Json = json.loads(json.dumps({**identity, "n_sku": n_sku, "renumber": renumber}))
        self._n_sku, self._renumber, self._chunks = n_sku, renumber, 0
        self._columns: dict[str, _Column] = {}
        refuse_foreign(self.path)
        self.folder = self.path.with_name(f".{self.path.name}.build")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"{self.folder} is being written by another process; wait for it, or choose another path"
                raise TapeError(msg) from None
            if (self.folder / "progress.json").is_file() and (self.folder / "tape").is_dir():
                self._go_on()
            else:
                self._begin()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for column in self._columns.values():
            column.close()
        self._lock.close()

    def _where(self, name: str) -> str:
        return f"{'raw' if self._renumber and name in _EVENTS['delta'] else 'tape'}/{name}"

    def _begin(self) -> None:
        for part in ("tape", "raw"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / part).mkdir()
        self._columns = {name: _Column(self.folder / f"{self._where(name)}.npy") for name in sorted(GROWING)}
        for kind in _EVENTS:
            self._columns[f"{kind}_start"].append(np.zeros(1, dtype=np.int64))
        self._commit({})

    def _go_on(self) -> None:
        progress = read_json(self.folder / "progress.json")
        found = (progress.get("format"), progress.get("version"))
        if found != (BUILD_FORMAT, BUILD_VERSION):
            msg = f"{self.folder} is of format {found[0]!r} version {found[1]!r}, not {BUILD_FORMAT!r} version {BUILD_VERSION}; remove it"
            raise TapeError(msg)
        if progress["identity"] != self._identity:
            known = progress["identity"]
            other = sorted(key for key in {*known, *self._identity} if known.get(key) != self._identity.get(key))
            msg = (
                f"{self.folder} holds an unfinished build of another tape: {len(other)} parts differ, first {other[0]} "
                f"{known.get(other[0])!r}, not {self._identity.get(other[0])!r}; end that build, or remove the directory"
            )
            raise TapeError(msg)
        self.n_days, self._chunks = progress["n_days"], progress["chunks"]
        for name, (rows, crc) in progress["columns"].items():
            file = self.folder / f"{self._where(name)}.npy"
            if not file.is_file():
                msg = f"{file} of an unfinished build is missing; remove {self.folder} to build the tape anew"
                raise TapeError(msg)
            self._columns[name] = _Column(file, rows, crc)
            self._columns[name].cut()
        with np.load(self.folder / progress["state"], allow_pickle=False) as state:
            self.state = dict(state)

    def _commit(self, state: Mapping[str, AnyArray]) -> None:
        for column in self._columns.values():
            column.sync()
        name = f"state-{self._chunks}.npz"
        with (self.folder / name).open("wb") as file:
            np.savez(file, allow_pickle=False, **state)
            file.flush()
            os.fsync(file.fileno())
        progress = {
            "format": BUILD_FORMAT, "version": BUILD_VERSION, "identity": self._identity, "n_days": self.n_days, "chunks": self._chunks,
            "state": name, "columns": {name: [column.rows, column.crc] for name, column in self._columns.items()},
        }  # fmt: skip
        with atomic_replace(self.folder / "progress.json") as file_name:
            file_name.write_text(json.dumps(progress), encoding="utf-8")
        for old in self.folder.glob("state-*.npz"):
            if old.name != name:
                old.unlink()
        self.state = dict(state)

    def append(self, days: TapeDays, n_offer: int, state: Mapping[str, AnyArray] | None = None) -> None:
        """Write the next days and make them complete.

        Parameters
        ----------
        days
            Events of the days behind `n_days`.
        n_offer
            Offers numbered so far.
        state
            What the builder needs to go on from here.

        Raises
        ------
        TapeError
            Where an index lies outside its range, a value is out of its bounds, or two events share their day and index.
        """
        kinds = (("demand", days.demand, self._n_sku, "demand"), ("views", days.views, self._n_sku, "page view"))
        rows: dict[str, AnyArray] = {}
        for kind, events, n_key, what in (*kinds, ("delta", days.deltas, n_offer, "offer delta")):
            start, columns = rows_by_day(events, days.n_days, n_key, what)
            first = self._columns[_EVENTS[kind][0]].rows
            rows[f"{kind}_start"] = start[1:] + first
            rows |= {name: np.asarray(column) for name, column in zip(_EVENTS[kind], columns, strict=True)}
        rows |= {name: np.asarray(column) for name, column in zip(_PRIOR, days.prior_sales, strict=True)}
        check_values(rows)
        for name, values in rows.items():
            self._columns[name].append(values)
        self.n_days += days.n_days
        self._chunks += 1
        self._commit(state or {})

    def finish(
        self,
        start: date,
        skus: Sequence[str],
        vendors: Sequence[str],
        fixed: Mapping[str, npt.ArrayLike],
        offer_number: AnyArray | None = None,
    ) -> Path:
        """Write what does not grow with the days, make the tape appear at its path, and return the path.

        Parameters
        ----------
        start, skus, vendors
            As in :class:`~invpipe.arena.tape.Tape`.
        fixed
            Every array of :class:`~invpipe.arena.tape.TapeArrays` that is not in `GROWING`.
        offer_number
            Final number of each offer, by the number under which its deltas were appended; only for a renumbering writer.
        """
        tape = self.folder / "tape"
        check_values({name: np.asarray(values) for name, values in fixed.items()})
        for name in set(TapeArrays._fields) - GROWING:
            np.save(tape / f"{name}.npy", np.ascontiguousarray(fixed[name], dtype=array_dtype(name)), allow_pickle=False)
        for column in self._columns.values():
            column.finish()
        if offer_number is not None:
            self._number_offers(offer_number)
        write_records(tape, start, self.n_days, skus, vendors)
        with atomic_replace(self.path) as folder:
            tape.rename(folder)
        shutil.rmtree(self.folder)
        return self.path

    def _number_offers(self, offer_number: AnyArray) -> None:
        """Write the deltas under the final numbers of their offers, sorted anew within each day."""
        start = np.load(self.folder / "tape" / "delta_start.npy", mmap_mode="r")
        raw = [np.load(self.folder / "raw" / f"{name}.npy", mmap_mode="r") for name in _EVENTS["delta"]]
        final = [_Column(self.folder / "tape" / f"{name}.npy") for name in _EVENTS["delta"]]
        for first in range(0, self.n_days, BLOCK_DAYS):
            bounds = np.asarray(start[first : first + BLOCK_DAYS + 1])
            rows = slice(int(bounds[0]), int(bounds[-1]))
            day, number = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)), offer_number[raw[0][rows]]
            order = np.lexsort((number, day))
            final[0].append(number[order])
            for source, column in zip(raw[1:], final[1:], strict=True):
                column.append(source[rows][order])
        for column in final:
            column.finish()
            column.close()
