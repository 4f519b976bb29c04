"""Bytes as a server sends them come out as the cells they are, however the socket cuts them, and wrong ones as an error."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import SourceError
from invpipe.sources.databases.wire import ERROR_BYTE, PACKET_LIMIT, Column, RowStream

END = b"\xfe\x00\x00\x02\x00"
TIMEOUT = b"\xff" + (1969).to_bytes(2, "little") + b"#70100Query execution was interrupted"


def cell(value: bytes | None) -> bytes:
    """One cell of a row, from the definition of length-encoded strings."""
    if value is None:
        return b"\xfb"
    n = len(value)
    for limit, head, width in ((251, b"", 1), (2**16, b"\xfc", 2), (2**24, b"\xfd", 3), (2**64, b"\xfe", 8)):
        if n < limit:
            return head + n.to_bytes(width, "little") + value
    raise AssertionError


def packets(*payloads: bytes, sequence: int = 0) -> bytes:
    """Payloads framed as packets, long ones continued."""
    out = bytearray()
    for payload in payloads:
        rest = payload
        while True:
            part, rest = rest[:PACKET_LIMIT], rest[PACKET_LIMIT:]
            out += len(part).to_bytes(3, "little") + bytes([sequence % 256]) + part
            sequence += 1
            if len(part) < PACKET_LIMIT:
                break
    return bytes(out)


def socket_of(data: bytes, sizes: Callable[[], int] = lambda: 2**30) -> Callable[[memoryview], int]:
    """A connection that gives `data` in pieces and then ends."""
    rest = memoryview(data)

    def readinto(buffer: memoryview) -> int:
        nonlocal rest
        n = min(len(buffer), len(rest), sizes())
        buffer[:n] = rest[:n]
        rest = rest[n:]
        return n

    return readinto


def stream(data: bytes, names: str = "ab", **options: int) -> RowStream:
    return RowStream(socket_of(data), [Column(name) for name in names], 0, **options)


def rows(stream: RowStream) -> list[tuple[str | None, ...]]:
    return [row for block in stream.blocks() for row in block.rows()]


texts = st.none() | st.text(max_size=5) | st.integers(240, 260).map(lambda n: "é" * n)


@given(
    table=st.integers(1, 4).flatmap(lambda k: st.lists(st.tuples(*[texts] * k), max_size=300).map(lambda rows: (k, rows))),
    pieces=st.randoms(use_true_random=False),
    first=st.integers(0, 255),
    block_bytes=st.integers(8, 300),
    block_cells=st.integers(1, 50),
)
def test_rows_come_out_as_they_went_in(table, pieces, first, block_bytes, block_cells) -> None:  # type: ignore[no-untyped-def]
    """Prevents cells lost or mixed where a packet lies across two blocks, a block fills up or the sequence number wraps."""
    n_columns, wanted = table
    payloads = [b"".join(cell(None if text is None else text.encode()) for text in row) for row in wanted]
    data = packets(*payloads, END, sequence=first)
    names = [str(c) for c in range(n_columns)]
    reader = RowStream(
        socket_of(data, lambda: pieces.randint(1, 700)),
        [Column(name) for name in names],
        first,
        block_bytes=block_bytes,
        block_cells=block_cells,
    )
    frames = list(reader.blocks())
    assert [row for frame in frames for row in frame.rows()] == wanted
    assert all(frame.schema == dict.fromkeys(names, pl.String) for frame in frames)
    assert reader.last_packet == END
    assert reader.surplus_bytes == 0


@pytest.mark.parametrize("length", [0, 1, 250, 251, 252, 2**16 - 1, 2**16, 2**24 - 10, 2**24 - 1, 2**24, 2**25 + 7])
@pytest.mark.parametrize("first", [b"", None, b"x"])
def test_every_length_of_a_cell(length: int, first: bytes | None) -> None:
    """Prevents errors at the borders of the length encodings and of a packet."""
    value = np.random.default_rng(0).integers(97, 123, length, dtype=np.uint8).tobytes()
    data = packets(cell(first) + cell(value), cell(value) + cell(first), cell(b"p") + cell(b"q"), END)
    text = None if first is None else first.decode()
    assert rows(stream(data)) == [(text, value.decode()), (value.decode(), text), ("p", "q")]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_row_that_just_fills_a_packet(over: int) -> None:
    """Prevents waiting for a continuation that does not come, or taking the empty one that must come for the next row."""
    payload = cell(b"x" * (PACKET_LIMIT - 4 + over))
    assert len(payload) == PACKET_LIMIT + over
    found = rows(stream(packets(payload, cell(b"y"), END), "a"))
    assert [len(text or "") for (text,) in found] == [PACKET_LIMIT - 4 + over, 1]


@pytest.mark.parametrize("n", [0, 1, 9, 27])
def test_bytes_received_before(n: int) -> None:
    """Prevents waiting for a socket that has nothing more to say, when the whole of a short result was received already."""
    data = packets(*[cell(b"1") + cell(b"2")] * 2, END)
    early = RowStream(socket_of(data[n:]), [Column("a"), Column("b")], 0, received=data[:n], block_bytes=8)
    assert rows(early) == [("1", "2")] * 2


def test_empty_result() -> None:
    """Prevents a result without rows from looking like a lost one."""
    empty = stream(packets(END))
    assert rows(empty) == []
    assert empty.last_packet == END
    assert empty.sequence == 1


def test_error_after_some_rows() -> None:
    """Prevents half a result that looks whole when the statement is stopped in the middle."""
    stopped = stream(packets(cell(b"1") + cell(None), TIMEOUT))
    assert rows(stopped) == [("1", None)]
    assert stopped.last_packet == TIMEOUT
    assert stopped.last_packet[0] == ERROR_BYTE


def test_bytes_after_the_end_are_counted() -> None:
    """Prevents a second result from staying on the connection, where the next query would read it."""
    more = stream(packets(END, b"\x01"))
    assert rows(more) == []
    assert more.surplus_bytes == 5


@pytest.mark.parametrize("cut", [1, 3, 4, 6, 12])
def test_connection_that_ends(cut: int) -> None:
    """Prevents a lost connection from passing as the end of the result."""
    data = packets(cell(b"1") + cell(b"2"), END)
    with pytest.raises(ConnectionResetError, match="the server closed the connection within a result"):
        rows(stream(data[:cut]))


def test_server_that_shuts_down() -> None:
    """Prevents a shutdown, which comes with sequence number 0, from being reported as a broken protocol."""
    data = packets(cell(b"1") + cell(b"2")) + packets(TIMEOUT)
    with pytest.raises(ConnectionResetError, match="the server shut down within a result"):
        rows(stream(data))


def test_packet_out_of_turn() -> None:
    """Prevents rows from being read out of a stream that has lost its place."""
    data = packets(cell(b"1") + cell(b"2")) + packets(END, sequence=7)
    with pytest.raises(SourceError, match="packet 7 of the result came where packet 1 was due"):
        rows(stream(data))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        cell(b"1"),
        cell(b"1") + cell(b"2") + cell(b"3"),
        cell(b"1") + b"\x05ab",
        cell(b"1") + b"\xff",
        cell(b"1") + b"\xfc\x01",
        cell(b"1") + b"\xfe" + b"\xff" * 8,
        b"\xfe" + b"\xff" * 7 + b"\x7f" + b"1",
    ],
    ids=["empty", "cell too few", "cell too many", "cell too long", "no length", "cut length", "negative length", "huge length"],
)
def test_row_against_the_grammar(payload: bytes) -> None:
    """Prevents reading beyond a row, or a row of another width."""
    with pytest.raises(SourceError, match="row 2 of the result breaks MariaDB's protocol; read it with reader = 'pymysql'"):
        rows(stream(packets(cell(b"1") + cell(b"2"), payload, END)))


@pytest.mark.parametrize(
    ("values", "row", "shown"),
    [
        ([b"ok", "é".encode(), b"\xff\x00"], 3, "2 bytes that are no UTF-8 text, ff 00;"),
        ([b"\xc3", b"\xa9"], 1, "1 bytes that are no UTF-8 text, c3;"),
        ([b"\xed\xa0\x80"], 1, "ed a0 80;"),
        ([b"ok"] * 9 + [b"\x80" * 40], 10, r"40 bytes .*( 80){16} \.\.\.;"),
    ],
    ids=["binary", "letter over two cells", "surrogate", "long"],
)
def test_cell_that_is_no_text(values: list[bytes], row: int, shown: str) -> None:
    """Prevents a String that is no UTF-8, which crashes its reader, also where only the cells together are UTF-8."""
    with pytest.raises(SourceError, match=f"column 'b', row {row}: .*{shown} give text in the query, such as HEX\\(b\\)"):
        rows(stream(packets(*[cell(b"x") + cell(value) for value in values], END), block_cells=10))


def test_bits_become_their_number() -> None:
    """Prevents BIT columns, which come as bytes, from turning into unreadable text."""
    values = [b"\x00", b"\x01", None, b"\x12\x34", b"\xff" * 8]
    bits = RowStream(socket_of(packets(*map(cell, values), END)), [Column("flag", bits=True)], 0)
    assert rows(bits) == [("0",), ("1",), (None,), ("4660",), (str(2**64 - 1),)]


def test_bits_beyond_64() -> None:
    """Prevents the high bits of a number from getting lost."""
    bits = RowStream(socket_of(packets(cell(b"\x00"), cell(b"\x01" * 9), END)), [Column("flag", bits=True)], 0)
    with pytest.raises(SourceError, match="column 'flag', row 2: a BIT of 9 bytes, 8 are the most"):
        rows(bits)
