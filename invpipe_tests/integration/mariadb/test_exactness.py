"""What arrives is what is stored, cell by cell, through both readers and against plain pymysql."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.errors import SourceError
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader
from invpipe.sources.databases.typed import typed

#: Column: (type in SQL, type reported, values in SQL, texts they become); NULL is tried with every one.
EDGES: dict[str, tuple[str, str, dict[str, str]]] = {
    "dec_big": (
        "DECIMAL(65,30)",
        "decimal(65,30)",
        {
            "12345678901234567890123456789012345.123456789012345678901234567890": (
                "12345678901234567890123456789012345.123456789012345678901234567890"
            ),
            "-0.000000000000000000000000000001": "-0.000000000000000000000000000001",
            "0": "0.000000000000000000000000000000",
        },
    ),
    "dec_small": ("DECIMAL(10,2)", "decimal(10,2)", {"-99999999.99": "-99999999.99", "0.005": "0.01", "-1": "-1.00"}),
    "dec_whole": ("DECIMAL(5,0) UNSIGNED", "decimal(5,0) unsigned", {"99999": "99999", "0": "0"}),
    "tiny": ("TINYINT(1)", "tinyint", {"-128": "-128", "127": "127", "1": "1"}),
    "small": ("SMALLINT UNSIGNED", "smallint unsigned", {"65535": "65535"}),
    "medium": ("MEDIUMINT", "mediumint", {"-8388608": "-8388608"}),
    "whole": ("INT", "int", {"-2147483648": "-2147483648", "2147483647": "2147483647"}),
    "filled": ("INT(8) UNSIGNED ZEROFILL", "int unsigned", {"42": "00000042"}),
    "big": ("BIGINT", "bigint", {"-9223372036854775808": "-9223372036854775808"}),
    "ubig": ("BIGINT UNSIGNED", "bigint unsigned", {"18446744073709551615": "18446744073709551615", "0": "0"}),
    "single": ("FLOAT", "float", {"3.4028e38": "3.4028e38", "-1.5": "-1.5", "0.1": "0.1"}),
    "dbl": (
        "DOUBLE",
        "double",
        {
            "1.7976931348623157e308": "1.7976931348623157e308",
            "-2.2250738585072014e-308": "-2.2250738585072014e-308",
            "0.1": "0.1",
            "1e15": "1e15",
            "123456789012345": "123456789012345",
        },
    ),
    "d": (
        "DATE",
        "date",
        {"'2024-02-29'": "2024-02-29", "'9999-12-31'": "9999-12-31", "'0000-00-00'": "0000-00-00", "'2024-02-00'": "2024-02-00"},
    ),
    "dt": ("DATETIME", "datetime", {"'2025-03-02 10:11:12'": "2025-03-02 10:11:12", "'0000-00-00 00:00:00'": "0000-00-00 00:00:00"}),
    "dt6": (
        "DATETIME(6)",
        "datetime(6)",
        {"'2025-03-02 23:59:59.999999'": "2025-03-02 23:59:59.999999", "'1000-01-01'": "1000-01-01 00:00:00.000000"},
    ),
    "dt3": ("DATETIME(3)", "datetime(3)", {"'2025-03-02 10:11:12.25'": "2025-03-02 10:11:12.250"}),
    "ts": ("TIMESTAMP(6) NULL", "timestamp(6)", {"'2025-03-02 10:11:12.000001'": "2025-03-02 10:11:12.000001"}),
    "t": ("TIME", "time", {"'-838:59:59'": "-838:59:59", "'25:06:17'": "25:06:17"}),
    "t6": ("TIME(6)", "time(6)", {"'-00:00:00.000001'": "-00:00:00.000001"}),
    "y": ("YEAR", "year", {"2155": "2155", "0": "0000"}),
    "bit1": ("BIT(1)", "bit(1)", {"b'0'": "0", "b'1'": "1"}),
    "bit64": ("BIT(64)", "bit(64)", {"18446744073709551615": "18446744073709551615", "0": "0", "258": "258"}),
    "bit9": ("BIT(9)", "bit(9)", {"b'100000001'": "257"}),
    "vc": ("VARCHAR(300)", "varchar", {"''": "", "' a '": " a ", "'NULL'": "NULL", "REPEAT('é',250)": "é" * 250, "'a\\0b\\n'": "a\0b\n"}),
    "emoji": ("VARCHAR(50) CHARACTER SET utf8mb4", "varchar", {"'🦉 grüße 漢字'": "🦉 grüße 漢字"}),
    "latin": ("VARCHAR(50) CHARACTER SET latin1", "varchar", {"'Müller £'": "Müller £"}),
    "ch": ("CHAR(5)", "char", {"'ab  '": "ab", "''": ""}),
    "txt": ("LONGTEXT", "text", {"REPEAT('x', 70000)": "x" * 70000, "''": ""}),
    "en": ("ENUM('ja','nein','')", "enum", {"'nein'": "nein", "''": ""}),
    "st": ("SET('a','b','c')", "set", {"'c,a'": "a,c", "''": ""}),
    "js": ("JSON", "text", {'\'{"a": [1, "ü"]}\'': '{"a": [1, "ü"]}'}),
    "vb": ("VARBINARY(20)", "varbinary", {"'grün'": "grün", "''": ""}),
    "bl": ("BLOB", "blob", {"'🦉'": "🦉"}),
    "bi": ("BINARY(4)", "binary", {"'ab'": "ab\0\0"}),
    "u": ("UUID", "char", {"'123e4567-e89b-12d3-a456-426655440000'": "123e4567-e89b-12d3-a456-426655440000"}),
    "ip": ("INET6", "char", {"'::1'": "::1"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def edges(server: ThrowAwayMariaDB) -> ThrowAwayMariaDB:
    """The server with table `edges`: row i holds the i-th value of each column, or NULL."""
    n_rows = max(len(values) for _, _, values in EDGES.values()) + 1
    columns = ", ".join(f"{name} {sql_type}" for name, (sql_type, _, _) in EDGES.items())
    rows = ", ".join(
        f"({i}, " + ", ".join([*list(values), *["NULL"] * n_rows][i] for _, _, values in EDGES.values()) + ")" for i in range(n_rows)
    )
    server.execute(
        f"SET sql_mode='', time_zone='+00:00'; CREATE TABLE edges (id INT PRIMARY KEY, {columns}); INSERT INTO edges VALUES {rows}"
    )
    return server


@pytest.mark.parametrize("column", EDGES)
def test_edge_values_arrive_as_written(edges: ThrowAwayMariaDB, reader: MariaDBReader, column: str) -> None:
    """Prevents a value that is cut, rounded, wrapped or decoded wrongly on the way."""
    sql_type, reported, values = EDGES[column]
    text = reader.whole(f"SELECT {column} FROM edges ORDER BY id", table="edges")
    n_nulls = len(text.frame) - len(values)
    assert text.frame[column].to_list() == [*values.values(), *[None] * n_nulls], sql_type
    assert n_nulls > 0
    assert text.frame.schema == {column: pl.String}
    assert text.database_types == {column: reported}


def test_both_readers_give_the_same_frame(edges: ThrowAwayMariaDB, params: Callable[..., MariaDBParams]) -> None:
    """Prevents the fast reader from drifting away from the one that always works."""
    bulk, slow = (MariaDBReader(params(reader=kind)).whole("SELECT * FROM edges", table="edges") for kind in ("bulk", "pymysql"))
    assert bulk.frame.equals(slow.frame)
    assert bulk.database_types == slow.database_types
    assert bulk.frame.columns == ["id", *EDGES]


def converted(value: Any, dtype: pl.DataType) -> Any:
    """What a value of a default pymysql cursor is in a contract's type; None for what cannot be it."""
    if value is None or (isinstance(value, str) and dtype != pl.String):  # pymysql gives dates that do not exist as str
        return None
    if isinstance(value, bytes) and dtype != pl.String:
        value = int.from_bytes(value, "big")
    if dtype == pl.Float64:
        return float(value)
    if dtype in (pl.Int32, pl.Int64):
        bound = 2 ** (31 if dtype == pl.Int32 else 63)
        return int(value) if value == int(value) and -bound <= value < bound else None
    if dtype == pl.Boolean:
        return bool(value) if value in (0, 1) else None
    if dtype == pl.Date:
        if isinstance(value, datetime):
            return value.date() if value == datetime(value.year, value.month, value.day) else None
        return value
    if dtype == pl.Datetime("us") and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value.decode() if isinstance(value, bytes) else value


TYPED = {
    **dict.fromkeys(["tiny", "small", "medium", "whole", "filled", "dec_whole", "y", "bit9", "dec_small"], pl.Int32()),
    **dict.fromkeys(["big", "ubig", "bit64"], pl.Int64()),
    **dict.fromkeys(["dec_big", "dbl", "single"], pl.Float64()),
    **dict.fromkeys(["d"], pl.Date()),
    **dict.fromkeys(["dt", "dt6", "dt3", "ts"], pl.Datetime("us")),
    **dict.fromkeys(["bit1"], pl.Boolean()),
    **dict.fromkeys(["vc", "emoji", "latin", "ch", "txt", "en", "st", "js", "vb", "bl", "bi", "u", "ip"], pl.String()),
}


def test_typed_values_are_those_of_plain_pymysql(edges: ThrowAwayMariaDB, reader: MariaDBReader, plain: Any) -> None:
    """Prevents the typed frame from differing in a single cell from what pymysql's own converters give."""
    names = list(TYPED)
    query = f"SELECT {', '.join(names)} FROM edges ORDER BY id"
    with plain.cursor() as cursor:
        cursor.execute("SET time_zone='+00:00'")
        cursor.execute(query)
        wanted = [tuple(converted(value, dtype) for value, dtype in zip(row, TYPED.values(), strict=True)) for row in cursor.fetchall()]
    found = typed(reader.whole(query, table="edges"), TYPED, table="edges")
    assert found.frame.schema == TYPED
    for name, column in zip(names, zip(*wanted, strict=True), strict=True):
        assert found.frame[name].to_list() == list(column), name
    assert found.unreadable.sort("column").rows() == [
        ("bit64", 1, "18446744073709551615", "bit(64)"),
        ("d", 2, "0000-00-00", "date"),
        ("dec_small", 2, "-99999999.99", "decimal(10,2)"),
        ("dt", 1, "0000-00-00 00:00:00", "datetime"),
        ("ubig", 1, "18446744073709551615", "bigint unsigned"),
    ]


def test_binary_that_is_no_text(server: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a crash, or a String that is none, where a binary column is mapped."""
    server.execute(
        "CREATE OR REPLACE TABLE binaries (a INT, hash VARBINARY(40));INSERT INTO binaries VALUES (1,'ok'),(2,NULL),(3,UNHEX('FF00AB'))"
    )
    message = r"table items at .*: column 'hash', row 3: 3 bytes that are no UTF-8 text, ff 00 ab; .* HEX\(hash\)"
    with pytest.raises(SourceError, match=message):
        reader.whole("SELECT a, hash FROM binaries ORDER BY a", table="items")
    text = reader.whole("SELECT a, HEX(hash) AS hash FROM binaries ORDER BY a", table="items")
    assert text.frame["hash"].to_list() == ["6F6B", None, "FF00AB"]


def test_text_longer_than_a_packet(server: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents rows over 16 MiB, which come in several packets, from being misread; the rows around them, too."""
    server.execute(
        "SET SESSION max_statement_time=0; CREATE OR REPLACE TABLE large (id INT, body LONGTEXT);"
        "INSERT INTO large SELECT seq, IF(seq=3, REPEAT('0123456789', 2000000), CONCAT('row ', seq)) FROM seq_1_to_5"
    )
    found = reader.whole("SELECT body, id FROM large ORDER BY id", table="items").frame
    assert found["id"].to_list() == ["1", "2", "3", "4", "5"]
    assert found["body"].str.len_bytes().to_list() == [5, 5, 20_000_000, 5, 5]
    assert found["body"][2] == "0123456789" * 2_000_000


def test_no_rows(edges: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a day without rows from losing its columns."""
    text = reader.whole("SELECT * FROM edges WHERE id < 0", table="edges")
    assert text.frame.shape == (0, len(EDGES) + 1)
    assert set(text.frame.dtypes) == {pl.String}
    assert typed(text, TYPED, table="edges").frame.schema == TYPED


def test_many_columns(reader: MariaDBReader) -> None:
    """Prevents bounds that hold only for narrow tables."""
    query = "SELECT " + ", ".join(f"seq * {i} AS c{i}" for i in range(1000)) + " FROM seq_1_to_1500"
    found = reader.whole(query, table="wide").frame
    assert found.shape == (1500, 1000)
    assert found["c999"].to_list() == [str(i * 999) for i in range(1, 1501)]


def test_many_rows(reader: MariaDBReader) -> None:
    """Prevents rows lost or doubled where a block ends."""
    found = reader.whole("SELECT seq, IF(seq % 7 = 0, NULL, REPEAT('ü', seq % 300)) AS b FROM seq_1_to_120000", table="long").frame
    assert found["seq"].equals(pl.Series("seq", range(1, 120_001)).cast(pl.String))
    wanted = pl.Series("b", [None if i % 7 == 0 else "ü" * (i % 300) for i in range(1, 120_001)])
    assert found["b"].equals(wanted, null_equal=True)


def test_time_zone_of_timestamps(server: ThrowAwayMariaDB, params: Callable[..., MariaDBParams]) -> None:
    """Prevents TIMESTAMP columns from moving with the zone of whichever server or session."""
    server.execute(
        "SET time_zone='+00:00'; CREATE TABLE stamps (at TIMESTAMP, local DATETIME); "
        "INSERT INTO stamps VALUES ('2025-03-02 23:30:00','2025-03-02 23:30:00')"
    )
    for zone, wanted in (("+00:00", "2025-03-02 23:30:00"), ("+02:00", "2025-03-03 01:30:00")):
        row = MariaDBReader(params(session_time_zone=zone)).whole("SELECT at, local FROM stamps", table="t").frame.rows()
        assert row == [(wanted, "2025-03-02 23:30:00")]


values = {
    "INT": st.integers(-(2**31), 2**31 - 1),
    "BIGINT UNSIGNED": st.integers(0, 2**64 - 1),
    "DECIMAL(38,9)": st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**28), max_value=10**28),
    "DOUBLE": st.floats(allow_nan=False, allow_infinity=False),
    "DATE": st.dates(date(1, 1, 1)),
    "DATETIME(6)": st.datetimes(datetime(1, 1, 1)),
    "VARCHAR(400) CHARACTER SET utf8mb4": st.text(max_size=300),
    "BIT(64)": st.integers(0, 2**64 - 1),
    "LONGTEXT CHARACTER SET utf8mb4": st.text(max_size=30).map(lambda text: text * 100),
}
tables = st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=8).flatmap(
    lambda types: st.tuples(st.just(types), st.lists(st.tuples(*[st.none() | values[name] for name in types]), max_size=30))
)


def as_text(value: Any) -> str | None:
    """Text of a value as pymysql's default cursor gives it, from the server's own formats."""
    if isinstance(value, bytes):
        return str(int.from_bytes(value, "big"))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds")
    return value if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables)
def test_random_tables(table: tuple[list[str], list[tuple[Any, ...]]], params: Callable[..., MariaDBParams], plain: Any) -> None:
    """Prevents what no one has thought of: any table is read alike by both readers and by plain pymysql."""
    types, rows = table
    with plain.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE drawn (id INT PRIMARY KEY," + ",".join(f"c{i} {t}" for i, t in enumerate(types)) + ")")
        if rows:
            marks = ",".join(["%s"] * (len(types) + 1))
            cursor.executemany(f"INSERT INTO drawn VALUES ({marks})", [(i, *row) for i, row in enumerate(rows)])
        query = "SELECT " + ",".join(f"c{i}" for i in range(len(types))) + " FROM drawn ORDER BY id"
        cursor.execute(query)
        wanted = cursor.fetchall()
    bulk, slow = (MariaDBReader(params(reader=kind)).whole(query, table="drawn").frame for kind in ("bulk", "pymysql"))
    assert bulk.equals(slow)
    for c, name in enumerate(types):
        found = bulk[f"c{c}"].to_list()
        if name == "DOUBLE":  # a double has several texts
            assert [None if text is None else float(text) for text in found] == [row[c] for row in wanted]
        else:
            assert found == [as_text(row[c]) for row in wanted], name
