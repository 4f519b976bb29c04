"""Rows of a MariaDB result, split out of large blocks of the server's bytes instead of packet by packet.

Order of events: the client has sent its query and has read the column definitions; from then on the socket belongs to a `RowStream`. It
reads what the socket holds into one block, splits complete packets into cells (start, length), and when the block is full or the result
ends, copies the cells of each column into Arrow buffers: offsets, bytes, validity. An incomplete packet moves to the front of the block.

A row packet, text protocol without CLIENT_DEPRECATE_EOF, little-endian::

    length (3 bytes)  sequence (1)  cell  cell  ...
    cell: 0xfb = NULL | length-encoded integer (1, 3, 4 or 9 bytes), then that many bytes

    first byte 0xff                     = error packet, ends the result
    first byte 0xfe, fewer than 9 bytes = end of the result
    length 0xffffff                     = the row goes on in the next packet

Assumes protocol 4.1 without compression. Limits: a cell has at most 1 GiB (``max_allowed_packet`` of the server); one row at a time must
fit into memory. A packet that does not follow the grammar above is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from invpipe.errors import SourceError

#: Bytes asked of the socket at once; a longer row makes the block grow.
BLOCK_BYTES = 4 * 2**20
#: Cells found before they are copied; a bound on scratch memory (16 bytes a cell).
BLOCK_CELLS = 2**20
#: A packet of this length is continued in the next one.
PACKET_LIMIT = 0xFFFFFF
#: No block grows beyond this: a row of 1 GiB, the most a server sends, fits.
LARGEST_BLOCK_BYTES = 2**31

ERROR_BYTE = 0xFF

#: More bytes are needed; one row is complete; scratch memory is full; the result has ended, well or not; a packet is wrong.
_MORE, _ROW, _FULL, _END, _ERROR, _OUT_OF_SEQUENCE, _MALFORMED = range(7)

#: In a kernel ``int`` of a byte is unsigned, and mixing it with signed numbers gives floats.
_signed: Any = np.int64

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _uint(block: Bytes, at: int, width: int) -> int:
    """Little-endian unsigned integer; one beyond int64 comes out negative."""
    value = _signed(0)
    for i in range(width):
        value |= _signed(block[at + i]) << _signed(8 * i)
    return value  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _packet_end(block: Bytes, at: int, end: int, sequence: int) -> tuple[int, int, int]:
    """Follow a row over its continuation packets: (first byte after it, next sequence, status)."""
    while True:
        if end - at < 4:
            return at, sequence, _MORE
        length = _uint(block, at, 3)
        if block[at + 3] != sequence:
            return at, sequence, _OUT_OF_SEQUENCE
        if end - at - 4 < length:
            return at, sequence, _MORE
        at += 4 + length
        sequence = (sequence + 1) & 0xFF
        if length < PACKET_LIMIT:
            return at, sequence, _ROW


@njit(cache=True, nogil=True)
def _join_parts(block: Bytes, begin: int) -> int:
    """Close the gaps that the headers of continuation packets leave in a row; return the length of the row, in place."""
    target = begin + 4
    part = begin
    while True:
        length = _uint(block, part, 3)
        if part != begin:
            for i in range(length):  # leftwards, so rising order never reads what it has overwritten
                block[target + i] = block[part + 4 + i]
        target += length
        part += 4 + length
        if length < PACKET_LIMIT:
            return target - begin - 4


@njit(cache=True, nogil=True)
def _split_row(block: Bytes, at: int, stop: int, row: int, starts: Longs, lengths: Longs) -> bool:
    """Note start and length (-1 for NULL) of each cell of one row; return whether the row keeps to the grammar."""
    for column in range(starts.shape[0]):
        if at >= stop:
            return False
        head = block[at]
        width = 0
        if head == 252:
            width = 2
        elif head == 253:
            width = 3
        elif head == 254:
            width = 8
        elif head == 255:
            return False
        at += 1
        if stop - at < width:
            return False
        length = _signed(head)
        if head == 251:
            length = _signed(-1)
        elif width > 0:
            length = _uint(block, at, width)
            at += width
            if length < 0:
                return False
        if length > stop - at:
            return False
        starts[column, row] = at
        lengths[column, row] = length
        if length > 0:
            at += length
    return at == stop


@njit(cache=True, nogil=True)
def split_rows(
    block: Bytes, begin: int, end: int, sequence: int, n_rows: int, starts: Longs, lengths: Longs
) -> tuple[int, int, int, int, int]:
    """Split the complete packets of a block into cells.

    Parameters
    ----------
    block
        Bytes as received; rows of more than one packet are joined in place.
    begin, end
        Where the next packet begins, and the first byte not received yet.
    sequence
        Sequence number of the next packet.
    n_rows
        Rows already noted in `starts` and `lengths`.
    starts, lengths
        Shape (columns, rows); filled from row `n_rows` on, length -1 for NULL.

    Returns
    -------
    tuple
        (begin of the first packet that is no row of these, its end, next sequence, rows, status).
    """
    while n_rows < starts.shape[1]:
        after, after_sequence, status = _packet_end(block, begin, end, sequence)
        if status != _ROW:
            return begin, begin, sequence, n_rows, status
        size = after - begin - 4
        if size >= PACKET_LIMIT:
            size = _join_parts(block, begin)
        if size == 0:
            return begin, after, sequence, n_rows, _MALFORMED
        head = block[begin + 4]
        if head == 0xFF:
            return begin, after, after_sequence, n_rows, _ERROR
        if head == 0xFE and size < 9:
            return begin, after, after_sequence, n_rows, _END
        if not _split_row(block, begin + 4, begin + 4 + size, n_rows, starts, lengths):
            return begin, after, sequence, n_rows, _MALFORMED
        n_rows += 1
        begin, sequence = after, after_sequence
    return begin, begin, sequence, n_rows, _FULL


@njit(cache=True, nogil=True)
def copy_column(block: Bytes, starts: Longs, lengths: Longs) -> tuple[Longs, Bytes, Bytes, int, bool]:
    """Copy the cells of one column into Arrow's layout: (offsets, bytes, validity bits, number of NULLs, whether all is ASCII)."""
    n_rows = len(starts)
    offsets = np.empty(n_rows + 1, dtype=np.int64)
    validity = np.zeros((n_rows + 7) // 8, dtype=np.uint8)
    n_nulls = 0
    offsets[0] = 0
    for row in range(n_rows):
        if lengths[row] < 0:
            n_nulls += 1
            offsets[row + 1] = offsets[row]
        else:
            offsets[row + 1] = offsets[row] + lengths[row]
            validity[row >> 3] |= np.uint8(1 << (row & 7))
    data = np.empty(offsets[n_rows], dtype=np.uint8)
    seen = np.uint8(0)
    for row in range(n_rows):
        start, target = starts[row], offsets[row]
        for i in range(lengths[row]):
            byte = block[start + i]
            seen |= byte
            data[target + i] = byte
    return offsets, data, validity, n_nulls, bool(seen < 0x80)


@njit(cache=True, nogil=True)
def bit_numbers(block: Bytes, starts: Longs, lengths: Longs) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], int]:
    """Read the cells of a BIT column as unsigned integers, big-endian: (numbers, validity, first row too long or -1)."""
    numbers = np.zeros(len(starts), dtype=np.uint64)
    valid = np.zeros(len(starts), dtype=np.bool_)
    for row in range(len(starts)):
        if lengths[row] > 8:
            return numbers, valid, row
        valid[row] = lengths[row] >= 0
        for i in range(lengths[row]):
            numbers[row] = (numbers[row] << np.uint64(8)) | np.uint64(block[starts[row] + i])
    return numbers, valid, -1


@dataclass(frozen=True)
class Column:
    """Name of a result's column, and whether its cells are bits (BIT) rather than text."""

    name: str
    bits: bool = False


class RowStream:
    """The rows of one result, block by block.

    Parameters
    ----------
    readinto
        Fills a buffer with at least one byte and returns how many, 0 where the connection has ended (`io.RawIOBase.readinto`). It is not
        called before the packets in hand are split, for a short result may lie there whole and the next byte may never come.
    columns
        Columns of the result, in order, names unique.
    sequence
        Sequence number of the next packet.
    received
        First bytes of the rows, where some have been received already.
    block_bytes, block_cells
        Size of a block; a test makes them small.

    Attributes
    ----------
    sequence
        Sequence number of the packet after the last one read.
    last_packet
        Payload of the packet that ended the result: an end or, where its first byte is `ERROR_BYTE`, an error; empty before the end.
    surplus_bytes
        Bytes received after the end of the result; there are none unless the query gave more than one result.
    """

    def __init__(
        self,
        readinto: Callable[[memoryview], int],
        columns: list[Column],
        sequence: int,
        *,
        received: bytes = b"",
        block_bytes: int = BLOCK_BYTES,
        block_cells: int = BLOCK_CELLS,
    ) -> None:
        self._readinto = readinto
        self._columns = columns
        self.sequence = sequence
        self.last_packet = b""
        self.surplus_bytes = 0
        self._block: Bytes = np.empty(max(block_bytes, len(received)), dtype=np.uint8)
        self._begin, self._end = 0, len(received)
        self._block[: self._end] = np.frombuffer(received, dtype=np.uint8)
        shape = (len(columns), max(block_cells // len(columns), 1))
        self._starts: Longs = np.empty(shape, dtype=np.int64)
        self._lengths: Longs = np.empty(shape, dtype=np.int64)
        self._n_rows = 0
        self._n_rows_done = 0

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Yield the rows as frames of text, in order; an empty result yields none. Then `last_packet` says how the result ended.

        Raises
        ------
        ConnectionResetError
            When the connection ends before the result does.
        SourceError
            When a cell is no UTF-8 text, or a packet breaks the protocol.
        OSError
            As raised by `readinto`.
        """
        status = _MORE
        while status not in (_END, _ERROR):
            begin, after, self.sequence, self._n_rows, status = split_rows(
                self._block, self._begin, self._end, self.sequence, self._n_rows, self._starts, self._lengths
            )
            self._begin = begin
            if status == _OUT_OF_SEQUENCE:
                self._raise_out_of_sequence()
            if status == _MALFORMED:
                msg = f"row {self._n_rows_done + self._n_rows + 1} of the result breaks MariaDB's protocol; read it with reader = 'pymysql'"
                raise SourceError(msg)
            if status in (_END, _ERROR):
                self.last_packet = self._block[begin + 4 : after].tobytes()
                self.surplus_bytes = self._end - after
            if self._n_rows and (status != _MORE or self._end == len(self._block)):
                yield self._take_rows()
            if status == _MORE:
                self._receive()

    def _receive(self) -> None:
        if self._end == len(self._block):
            self._make_room()
        n_bytes = self._readinto(self._block[self._end :].data)
        if not n_bytes:
            msg = "the server closed the connection within a result"
            raise ConnectionResetError(msg)
        self._end += n_bytes

    def _make_room(self) -> None:
        """Move the packet that is not complete to the front, of a larger block where it fills this one."""
        rest = self._end - self._begin
        block = self._block
        if 2 * rest > len(block):
            if 2 * len(block) > LARGEST_BLOCK_BYTES:
                row = self._n_rows_done + 1
                msg = f"row {row} of the result has more than {len(block):,} bytes; leave its longest column out of the query"
                raise SourceError(msg)
            block = np.empty(2 * len(block), dtype=np.uint8)
        block[:rest] = self._block[self._begin : self._end].copy()
        self._block, self._begin, self._end = block, 0, rest

    def _raise_out_of_sequence(self) -> None:
        found = int(self._block[self._begin + 3])
        if found == 0:  # how a server that shuts down says so
            msg = "the server shut down within a result"
            raise ConnectionResetError(msg)
        msg = f"packet {found} of the result came where packet {self.sequence} was due; read it with reader = 'pymysql'"
        raise SourceError(msg)

    def _take_rows(self) -> pl.DataFrame:
        """Copy the cells found so far out of the block."""
        n_rows = self._n_rows
        frame = pl.DataFrame([self._series(c, column, n_rows) for c, column in enumerate(self._columns)])
        self._n_rows_done += n_rows
        self._n_rows = 0
        return frame

    def _series(self, c: int, column: Column, n_rows: int) -> pl.Series:
        starts, lengths = self._starts[c, :n_rows], self._lengths[c, :n_rows]
        if column.bits:
            numbers, valid, too_long = bit_numbers(self._block, starts, lengths)
            if too_long >= 0:
                msg = f"column '{column.name}', row {self._n_rows_done + too_long + 1}: a BIT of {lengths[too_long]} bytes, 8 are the most"
                raise SourceError(msg)
            bits = pl.DataFrame({"bits": numbers, "valid": valid})
            return bits.select(pl.when("valid").then(pl.col("bits").cast(pl.String)).alias(column.name)).to_series()
        offsets, data, validity, n_nulls, ascii_only = copy_column(self._block, starts, lengths)
        buffers = [pa.py_buffer(validity) if n_nulls else None, pa.py_buffer(offsets), pa.py_buffer(data)]
        array: Any = pa.Array.from_buffers(pa.large_string(), n_rows, buffers, null_count=n_nulls)
        if not ascii_only:
            self._check_text(array, column.name)
        series = pl.from_arrow(array)
        assert isinstance(series, pl.Series)  # noqa: S101 - an array becomes a series
        return series.rename(column.name)

    def _check_text(self, array: Any, name: str) -> None:
        """Refuse bytes that are no UTF-8: a String that is none crashes whoever reads it."""
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            raw = array.cast(pa.large_binary()).to_pylist()
            row, value = next((row, value) for row, value in enumerate(raw) if value is not None and not is_text(value))
            raise no_text_error(name, self._n_rows_done + row + 1, value) from None


def is_text(value: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def no_text_error(column: str, row: int, value: bytes) -> SourceError:
    """Return the error for a cell that is no text.

    Parameters
    ----------
    column
        Name of the column.
    row
        Row of the result, from 1.
    value
        Bytes of the cell; the first 16 are shown.
    """
    shown = value[:16].hex(" ") + (" ..." if len(value) > 16 else "")
    return SourceError(
        f"column '{column}', row {row}: {len(value)} bytes that are no UTF-8 text, {shown}; "
        f"give text in the query, such as HEX({column}) or CONVERT({column} USING utf8mb4)"
    )
