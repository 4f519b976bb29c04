"""Compiled scan of flat BSON documents into one type code and one value per cell.

A document is ``int32 length, elements, 0``; an element is ``type byte, name, 0, payload``. The names of mapped fields are ``c0``, ``c1``,
... (the server's projection sees to that); other fields are passed over. The value of a cell is the integer itself (int32, int64, date in
ms, bool), the 64 bits of a double, and else the offset of the payload in the buffer.

Source: BSON specification, version 1.1; decimal128 in the binary integer encoding of IEEE 754-2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8]
Values = npt.NDArray[np.int64]

#: Type codes of BSON; MISSING is ours: a field that the document does not have.
MISSING, DOUBLE, STRING, UNDEFINED, BOOL, DATE, NULL, INT32, INT64, DECIMAL = 0x00, 0x01, 0x02, 0x06, 0x08, 0x09, 0x0A, 0x10, 0x12, 0x13

#: Powers of ten that a double holds exactly, and the integers up to which it holds all: a product or quotient of the two is rounded once.
EXACT_POWER = 22
EXACT_INTEGER = 2**53
POWERS_OF_TEN = 10.0 ** np.arange(EXACT_POWER + 1)

#: Decimal128: bias of the exponent and bits of the coefficient in the upper half.
EXPONENT_BIAS = 6176
UPPER_COEFFICIENT_BITS = 49


@njit(cache=True, nogil=True)
def _integer(data: Bytes, at: int, n_bytes: int) -> int:
    bits = np.uint64(0)
    for k in range(n_bytes):
        bits |= np.uint64(data[at + k]) << np.uint64(8 * k)
    if n_bytes == 4:
        return int(np.int32(np.uint32(bits)))
    return int(np.int64(bits))


@njit(cache=True, nogil=True)
def _past_name(data: Bytes, at: int, stop: int) -> int:
    while at < stop and data[at] != 0:
        at += 1
    return at + 1


@njit(cache=True, nogil=True)
def _payload_bytes(data: Bytes, code: int, at: int, stop: int) -> int:  # noqa: PLR0911, RUF100 - one line per kind of payload
    """Return the length of a payload, negative for an unknown type."""
    if code in (DOUBLE, DATE, INT64, 0x11):
        return 8
    if code in (NULL, UNDEFINED, 0xFF, 0x7F):
        return 0
    if code == BOOL:
        return 1
    if code == INT32:
        return 4
    if code == 0x07:  # ObjectId
        return 12
    if code == DECIMAL:
        return 16
    if code == 0x0B:  # regular expression: two names
        return _past_name(data, _past_name(data, at, stop), stop) - at
    if at + 4 > stop:
        return -1
    length = _integer(data, at, 4)
    if code in (STRING, 0x0D, 0x0E):
        return 4 + length if length >= 1 else -1
    if code == 0x05:  # binary
        return 5 + length if length >= 0 else -1
    if code == 0x0C:  # pointer
        return 16 + length if length >= 1 else -1
    if code in (0x03, 0x04, 0x0F):  # document, array, code with scope: the length counts itself
        return length if length >= 4 else -1
    return -1


@njit(cache=True, nogil=True)
def document_starts(data: Bytes) -> Values:
    """Return where each document of the buffer starts, and the end of the last; a last entry of -1 says the buffer is malformed."""
    starts = np.empty(data.size // 5 + 1, dtype=np.int64)
    n, at = 0, 0
    while at < data.size:
        length = _integer(data, at, 4) if at + 4 <= data.size else 0
        starts[n] = at
        n += 1
        if length < 5 or at + length > data.size:
            at = -1
            break
        at += length
    starts[n] = at
    return starts[: n + 1].copy()


@njit(cache=True, nogil=True)
def _alias(data: Bytes, at: int, stop: int) -> int:
    """Return k for the name ``ck``, -1 for another name."""
    if stop - at < 2 or data[at] != 0x63:
        return -1
    column = 0
    for k in range(at + 1, stop):
        if data[k] < 0x30 or data[k] > 0x39 or column > 10_000:
            return -1
        column = 10 * column + (data[k] - 0x30)
    return column


@njit(cache=True, nogil=True)
def scan(data: Bytes, starts: Values, codes: Codes, values: Values) -> int:
    """Fill type code and value of every cell, both arrays of shape (columns, documents) and the codes filled with MISSING before.

    Returns
    -------
    int
        The number of the first malformed document, -1 when all are well formed.
    """
    for row in range(starts.size - 1):
        at, stop = starts[row] + 4, starts[row + 1] - 1
        while at < stop:
            code = int(data[at])
            payload = _past_name(data, at + 1, stop)
            length = _payload_bytes(data, code, payload, stop)
            if length < 0 or payload + length > stop:
                return row
            column = _alias(data, at + 1, payload - 1)
            if 0 <= column < codes.shape[0]:
                codes[column, row] = code
                if code == INT32:
                    values[column, row] = _integer(data, payload, 4)
                elif code in (DOUBLE, DATE, INT64):
                    values[column, row] = _integer(data, payload, 8)
                elif code == BOOL:
                    values[column, row] = data[payload]
                else:
                    values[column, row] = payload
            at = payload + length
        if at != stop or data[stop] != 0:
            return row
    return -1


@njit(cache=True, nogil=True)
def decimals(data: Bytes, offsets: Values, numbers: npt.NDArray[np.float64], done: npt.NDArray[np.bool_]) -> None:
    """Turn decimals at `offsets` into the nearest double where one rounding is enough, and say where that was so.

    Exact with a coefficient up to 2^53 and a power of ten up to 22 (Clinger, 1990, How to read floating point numbers accurately).
    """
    for k in range(offsets.size):
        low = np.uint64(_integer(data, offsets[k], 8))
        high = np.uint64(_integer(data, offsets[k] + 8, 8))
        upper = high & np.uint64((1 << UPPER_COEFFICIENT_BITS) - 1)
        power = np.int64((high >> np.uint64(UPPER_COEFFICIENT_BITS)) & np.uint64(0x3FFF)) - EXPONENT_BIAS
        combination = (high >> np.uint64(61)) & np.uint64(3)
        done[k] = combination != 3 and upper == 0 and low <= np.uint64(EXACT_INTEGER) and -EXACT_POWER <= power <= EXACT_POWER
        if done[k]:
            number = np.float64(low)
            number = number * POWERS_OF_TEN[power] if power >= 0 else number / POWERS_OF_TEN[-power]
            numbers[k] = -number if high >> np.uint64(63) else number


@njit(cache=True, nogil=True)
def string_offsets(data: Bytes, offsets: Values, present: npt.NDArray[np.bool_]) -> Values:
    """Return the Arrow offsets of the strings whose payloads lie at `offsets`, an empty one where none is present."""
    ends = np.zeros(offsets.size + 1, dtype=np.int64)
    for k in range(offsets.size):
        ends[k + 1] = ends[k] + (_integer(data, offsets[k], 4) - 1 if present[k] else 0)
    return ends


@njit(cache=True, nogil=True)
def gather_strings(data: Bytes, offsets: Values, ends: Values, text: Bytes) -> None:
    """Copy the strings side by side into `text`, as `string_offsets` has laid them out."""
    for k in range(offsets.size):
        length = ends[k + 1] - ends[k]
        for j in range(length):
            text[ends[k] + j] = data[offsets[k] + 4 + j]
