"""Read tables out of MariaDB as text: exact, in bulk, in one snapshot, in bounded memory.

Order of events of `MariaDBReader.spans`: connect; set the session (time zone, time-out of a statement); begin a read-only transaction with
a consistent snapshot; run the query once per span of days and hand its rows over before the next one is sent; close the connection,
whatever happens. A read that is given up closes its socket; nothing is drained and nothing is killed.

Placeholders: ``:start`` and ``:end`` stand for the span's half-open range [start, end), as DATETIME literals in the time zone the database
stores; ``:first_day`` and ``:last_day`` for its days, both included, as DATE literals. A query has the one pair or the other. They are
looked for outside of string literals, quoted names and comments only.

Two readers give the same text: ``bulk`` takes the socket over from pymysql as soon as the column definitions are read and splits rows in
large blocks (`invpipe.sources.databases.wire`); ``pymysql`` decodes row by row, slowly, and works wherever pymysql does. Both leave
numbers and times as the server wrote them; BIT becomes the decimal text of its number; a binary column must hold UTF-8.

Failures: what a new try may mend (server absent, connection lost, server shutting down, too many connections) is a `ConnectionLostError`,
everything else a plain `SourceError`. The reader itself never tries again, since its caller has perhaps consumed some spans: run all of the
work, from its first span on, under `invpipe.sources.databases.retries.with_retries`. A new try is a new snapshot.

Assumes transactional tables (InnoDB): others have no snapshot. TIMESTAMP columns are shown in `MariaDBParams.session_time_zone`, DATETIME
and DATE columns as they are stored. Limits: what `invpipe.sources.databases.wire` says; pymysql's internals are used as of version 1.2.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import FIELD_TYPE, SERVER_STATUS
from pymysql.converters import encoders

from invpipe.errors import ConnectionLostError, SourceError
from invpipe.sources.databases.typed import TextFrame
from invpipe.sources.databases.wire import ERROR_BYTE, Column, RowStream, is_text, no_text_error

ReaderKind = Literal["bulk", "pymysql"]
Values = Mapping[str, date | datetime]

#: Rows the pymysql reader holds as Python objects at once.
PYMYSQL_ROWS = 50_000
#: How long the server lets the connection wait between two spans, while their rows are written.
IDLE_LIMIT_S = 8 * 3600

#: Placeholders that bound a span, from both sides.
PAIRS = (("start", "end"), ("first_day", "last_day"))

#: A string literal, quoted name, comment, ``::`` or ``:=``, or a placeholder with its name.
_SQL = r"""
    '(?:[^'{escape}]|''{escaped})*' | "(?:[^"{escape}]|""{escaped})*" | `(?:[^`]|``)*`
    | --(?=\s|$)[^\n]* | \#[^\n]* | /\*.*?\*/ | :: | :=
    | :(?P<name>[A-Za-z_]\w*)
"""
_BACKSLASH_SQL = re.compile(_SQL.format(escape=r"\\", escaped=r"|\\."), re.VERBOSE | re.DOTALL)
_PLAIN_SQL = re.compile(_SQL.format(escape="", escaped=""), re.VERBOSE | re.DOTALL)


@dataclass(frozen=True)
class MariaDBParams:
    """How to reach a MariaDB database and how patient to be.

    Parameters
    ----------
    host, port, user, password, database
        The server, a user who may read, and the database its queries run in. The password is in no repr and no message.
    tls
        Whether the connection must be encrypted and the server's certificate valid for `host`.
    tls_ca
        File of the authorities the certificate may come from; None takes the system's.
    connect_timeout_s
        Longest wait for the connection, seconds.
    read_timeout_s
        Longest silence of the server before the connection counts as lost, seconds; above `statement_timeout_s`.
    statement_timeout_s
        Longest time one query may take on the server, seconds (``max_statement_time``).
    reader
        ``bulk`` or ``pymysql``; both give the same text.
    session_time_zone
        Time zone in which TIMESTAMP columns and NOW() are shown: an offset, or a name the server has loaded.
    """

    host: str
    port: int = 3306
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    tls: bool = True
    tls_ca: Path | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 900.0
    statement_timeout_s: float = 600.0
    reader: ReaderKind = "bulk"
    session_time_zone: str = "+00:00"

    def __post_init__(self) -> None:
        for name, least in (("connect_timeout_s", 0.0), ("statement_timeout_s", 0.0), ("read_timeout_s", self.statement_timeout_s)):
            if not getattr(self, name) > least:
                msg = f"{name} is {getattr(self, name):g}; give more than {least:g} seconds"
                raise SourceError(msg)
        if self.reader not in get_args(ReaderKind):
            msg = f"reader is '{self.reader}'; give one of {', '.join(get_args(ReaderKind))}"
            raise SourceError(msg)
        if self.tls_ca is not None and not self.tls:
            msg = f"tls_ca is {self.tls_ca}, but tls is off; switch tls on, or leave tls_ca out"
            raise SourceError(msg)

    @property
    def where(self) -> str:
        """The server's address, for messages."""
        return f"{self.host}:{self.port}"


def bind(query: str, values: Values, *, table: str, backslash_escapes: bool = True) -> str:
    """Replace the placeholders of a query with DATETIME and DATE literals.

    Parameters
    ----------
    query
        SQL with ``:name`` placeholders.
    values
        Value per placeholder, times without a zone; one of the pairs in PAIRS must occur in the query, where there are values at all.
    table
        Name of the table, for messages.
    backslash_escapes
        Whether a backslash escapes the next sign of a string literal (it does unless ``sql_mode`` has NO_BACKSLASH_ESCAPES).

    Raises
    ------
    SourceError
        When the query has a placeholder without a value or lacks one, or a value has a time zone.
    """
    zoned = [name for name, value in values.items() if isinstance(value, datetime) and value.tzinfo is not None]
    if zoned:
        msg = f"table {table}: :{zoned[0]} is {values[zoned[0]]}, with a time zone; give the local time of the zone the database stores"
        raise SourceError(msg)
    used = set()

    def replaced(token: re.Match[str]) -> str:
        name = token["name"]
        if name is None:
            return token[0]
        if name not in values:
            known = " and ".join(f":{known}" for known in values) or "none here (the table is read whole)"
            msg = f"table {table}: its query has the placeholder :{name}; known are {known}; correct it, or quote the text it stands in"
            raise SourceError(msg)
        used.add(name)
        value = values[name]
        return f"TIMESTAMP'{value.isoformat(sep=' ')}'" if isinstance(value, datetime) else f"DATE'{value.isoformat()}'"

    bound = (_BACKSLASH_SQL if backslash_escapes else _PLAIN_SQL).sub(replaced, query)
    if values and not any(used >= {*pair} for pair in PAIRS):
        found = " and ".join(f":{name}" for name in sorted(used)) or "no placeholder"
        msg = (
            f"table {table}: its query has {found}, so rows would be read in several spans; limit its time column to "
            "'>= :start AND ... < :end', or its day to 'BETWEEN :first_day AND :last_day'"
        )
        raise SourceError(msg)
    return bound


class MariaDBReader:
    """Reads the tables of one MariaDB database; every read has a connection and a snapshot of its own.

    Parameters
    ----------
    params
        The server and how to read it.
    """

    def __init__(self, params: MariaDBParams) -> None:
        self._params = params

    def whole(self, query: str, *, table: str) -> TextFrame:
        """Return all rows of a query without placeholders.

        Parameters
        ----------
        query
            SQL that gives one result.
        table
            Name of the table, for messages.

        Raises
        ------
        ConnectionLostError
            When the server cannot be reached or the connection was lost: reading again may help.
        SourceError
            When the server refuses the query, or a cell is no text.
        """
        with self._snapshot(table) as connection:
            return self._read(connection, bind(query, {}, table=table, backslash_escapes=_backslash_escapes(connection)), table)

    def spans(self, query: str, spans: Iterable[Values], *, table: str) -> Generator[TextFrame, None, None]:
        """Yield the rows of each span of days, all out of one snapshot; close the iterator to give up.

        Parameters
        ----------
        query
            SQL with the placeholders of one of PAIRS.
        spans
            Values of the placeholders, one mapping per span.
        table
            Name of the table, for messages.

        Raises
        ------
        ConnectionLostError
            When the server cannot be reached or the snapshot was lost: drop what was read, and begin again at the first span.
        SourceError
            When the server refuses the query, or a cell is no text.
        """
        with self._snapshot(table) as connection:
            for values in spans:
                yield self._read(connection, bind(query, values, table=table, backslash_escapes=_backslash_escapes(connection)), table)

    @contextmanager
    def _snapshot(self, table: str) -> Iterator[Any]:
        """Open a connection with a read-only snapshot; close it, leaving unread rows to the server to drop."""
        with translated(self._params, table):
            connection = connect(self._params)
        try:
            with translated(self._params, table):
                zone = connection.escape(self._params.session_time_zone)
                timeout_s = f"{self._params.statement_timeout_s:f}"
                connection.query(f"SET SESSION time_zone = {zone}, max_statement_time = {timeout_s}, wait_timeout = {IDLE_LIMIT_S}")
                connection.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # no other one has a snapshot
                connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection
        finally:
            _close(connection)

    def _read(self, connection: Any, sql: str, table: str) -> TextFrame:
        with translated(self._params, table):
            connection.query(sql, unbuffered=True)
            result: MySQLResult = connection._result
            if not result.unbuffered_active:
                msg = "the query gives no rows; a table's query must be one SELECT"
                raise SourceError(msg)
            columns = [Column(field.name, field.type_code == FIELD_TYPE.BIT) for field in result.fields]
            _check_unique([column.name for column in columns])
            read = _bulk_frames if self._params.reader == "bulk" else _pymysql_frames
            frames = list(read(connection, result, columns))
            if result.has_next:
                msg = "the query gives more than one result; a table's query must be one SELECT"
                raise SourceError(msg)
        empty = pl.DataFrame(schema=dict.fromkeys([column.name for column in columns], pl.String))
        frame = pl.concat(frames, rechunk=False) if frames else empty
        return TextFrame(frame, {field.name: database_type(field) for field in result.fields})


def connect(params: MariaDBParams) -> Any:
    """Return an open connection of pymysql; errors are pymysql's, see `translated`."""
    connection = pymysql.connect(
        host=params.host, port=params.port, user=params.user, database=params.database or None, charset="utf8mb4", autocommit=False,
        password=params.password.encode("utf-8"),  # as text, pymysql's error for a sign beyond Latin-1 would show it
        ssl=_tls_context(params), ssl_disabled=not params.tls, conv=encoders, program_name="invpipe",
        connect_timeout=params.connect_timeout_s, read_timeout=params.connect_timeout_s, write_timeout=params.connect_timeout_s,
    )  # fmt: skip
    connection._read_timeout = params.read_timeout_s  # the one above was for the server's greeting
    return connection


def _tls_context(params: MariaDBParams) -> ssl.SSLContext | None:
    if not params.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=params.tls_ca)
    except OSError as error:
        msg = f"tls_ca is {params.tls_ca}, which cannot be read ({error}); give a PEM file of the authority of the server's certificate"
        raise SourceError(msg) from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # home-made authorities often lack what only this flag demands
    return context


def _close(connection: Any) -> None:
    """Close without reading on: pymysql would drain a result that is not complete."""
    result = connection._result
    if result is not None and result.unbuffered_active:
        result.unbuffered_active = False
        connection._force_close()
    elif connection.open:
        connection.close()


def _backslash_escapes(connection: Any) -> bool:
    return not connection.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES


def _check_unique(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"the query gives column '{twice[0]}' twice ({len(twice)} such: {twice}); name each column once, with AS"
        raise SourceError(msg)


def _bulk_frames(connection: Any, result: MySQLResult, columns: list[Column]) -> Iterator[pl.DataFrame]:
    """Read the rows from the socket in blocks, and leave pymysql's connection as it would be after the result."""
    received = connection._rfile.read1()  # what pymysql's buffer holds beyond the column definitions, or else one read
    if not received:
        msg = "the server closed the connection before the first row"
        raise ConnectionResetError(msg)
    stream = RowStream(connection._rfile.raw.readinto, columns, connection._next_seq_id, received=received)
    yield from stream.blocks()
    result.unbuffered_active, result.connection = False, None
    connection._next_seq_id = stream.sequence
    last = stream.last_packet
    if last[0] == ERROR_BYTE:
        pymysql.err.raise_mysql_exception(last)
    result.warning_count = int.from_bytes(last[1:3], "little")
    status = int.from_bytes(last[3:5], "little")
    result.has_next = bool(status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS) or stream.surplus_bytes > 0


def _pymysql_frames(connection: Any, result: MySQLResult, columns: list[Column]) -> Iterator[pl.DataFrame]:
    """Read the rows one by one through pymysql."""
    n_done = 0
    schema = {column.name: pl.String for column in columns}
    while result.unbuffered_active:
        rows: list[list[str | None]] = []
        while len(rows) < PYMYSQL_ROWS and (row := result._read_rowdata_packet_unbuffered()) is not None:
            rows.append([_text(value, columns[c], n_done + len(rows) + 1) for c, value in enumerate(row)])
        if rows:
            yield pl.DataFrame(rows, schema=schema, orient="row")
        n_done += len(rows)


def _text(value: str | bytes | None, column: Column, row: int) -> str | None:
    if isinstance(value, bytes):
        if column.bits:
            return str(int.from_bytes(value, "big"))
        if not is_text(value):
            raise no_text_error(column.name, row, value)
        return value.decode("utf-8")
    return value


_TYPE_NAMES = {
    FIELD_TYPE.TINY: "tinyint", FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint", FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.FLOAT: "float", FIELD_TYPE.DOUBLE: "double", FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.TIME: "time", FIELD_TYPE.DATETIME: "datetime", FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.YEAR: "year", FIELD_TYPE.BIT: "bit", FIELD_TYPE.NULL: "null", FIELD_TYPE.JSON: "json", FIELD_TYPE.GEOMETRY: "geometry",
}  # fmt: skip
_STRING_NAMES = {
    FIELD_TYPE.VAR_STRING: ("varchar", "varbinary"),
    FIELD_TYPE.VARCHAR: ("varchar", "varbinary"),
    FIELD_TYPE.STRING: ("char", "binary"),
}
_UNSIGNED, _ENUM, _SET, _BINARY_CHARSET = 32, 256, 2048, 63
_TEMPORAL = (FIELD_TYPE.TIME, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)


def database_type(field: Any) -> str:
    """Return the declared type of a result's column, such as ``decimal(10,2)``, ``bigint unsigned`` or ``datetime(6)``.

    Parameters
    ----------
    field
        pymysql's column definition: type_code, flags, length, scale, charsetnr.
    """
    code, binary = field.type_code, field.charsetnr == _BINARY_CHARSET
    unsigned = " unsigned" if field.flags & _UNSIGNED else ""
    if code in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        digits = field.length - (field.scale > 0) - (not unsigned)
        return f"decimal({digits},{field.scale}){unsigned}"
    if field.flags & _ENUM:
        return "enum"
    if field.flags & _SET:
        return "set"
    if code == FIELD_TYPE.BIT:
        return f"bit({field.length})"
    if code in _TEMPORAL:
        return _TYPE_NAMES[code] + (f"({field.scale})" if 0 < field.scale <= 6 else "")
    if code in _STRING_NAMES:
        return _STRING_NAMES[code][binary]
    if code in (FIELD_TYPE.BLOB, FIELD_TYPE.TINY_BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB):
        return "blob" if binary else "text"
    numeric = code in (
        FIELD_TYPE.TINY,
        FIELD_TYPE.SHORT,
        FIELD_TYPE.INT24,
        FIELD_TYPE.LONG,
        FIELD_TYPE.LONGLONG,
        FIELD_TYPE.FLOAT,
        FIELD_TYPE.DOUBLE,
    )
    return _TYPE_NAMES.get(code, f"type {code}") + (unsigned if numeric else "")


#: What to do about the server's errors that no new try mends, by number.
ADVICE = {
    1044: "grant the user SELECT on the database, or correct the name of the database",
    1045: "correct user and password, and see from which hosts and with which TLS the user may log in",
    1049: "correct the name of the database",
    1054: "correct the column in the query of {table}",
    1064: "correct the SQL of the query of {table}",
    1129: "run FLUSH HOSTS on the server, and see why connections failed",
    1142: "grant the user SELECT on the table",
    1143: "grant the user SELECT on the column",
    1146: "correct the table in the query of {table}, or its database",
    1193: "the server is no MariaDB 10.6 or later: connect to one",
    1298: "give session_time_zone as an offset such as +00:00, or load the server's time zone tables",
    1317: "somebody stopped the query on the server (KILL QUERY); ask why before reading again",
    1792: "a table's query must be one SELECT that writes nothing",
    1969: "raise statement_timeout_s (now {statement_timeout_s:g}), read shorter spans, or index the time column of {table}",
    2026: "switch TLS on at the server, or set tls = false where the way to it is safe",
}
#: Too many connections, shutdown, connection killed, packets lost on the way, gone away, lost.
RETRYABLE = frozenset({1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013})


@contextmanager
def translated(params: MariaDBParams, table: str) -> Iterator[None]:
    """Turn errors of pymysql, of the socket and of the readers into SourceErrors that name the table, the server and what to do."""
    try:
        yield
    except SourceError as error:
        msg = f"table {table} at {params.where}: {error}"
        raise type(error)(msg) from error
    except pymysql.err.MySQLError as error:
        raise _source_error(error, params, table) from error
    except OSError as error:
        raise _lost(f"the connection was lost: {error}", params, table) from error


def _source_error(error: pymysql.err.MySQLError, params: MariaDBParams, table: str) -> SourceError:
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _tls_error(cause, params, table)
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    said = " ".join(str(part) for part in error.args[1:]) or str(error)
    if number == 2003:
        return ConnectionLostError(
            f"table {table}: MariaDB at {params.where} cannot be reached ({cause or said}); start it, or correct host, port and firewall"
        )
    if number in RETRYABLE or isinstance(error, pymysql.err.InterfaceError):
        return _lost(f"no connection, or it was lost ({number}: {said})", params, table)
    advice = ADVICE.get(number, "see the server's manual for this number")
    advice = advice.format(table=table, statement_timeout_s=params.statement_timeout_s)
    return SourceError(f"table {table}: MariaDB at {params.where} refused it ({number}: {said}); {advice}")


def _lost(what: str, params: MariaDBParams, table: str) -> ConnectionLostError:
    return ConnectionLostError(f"table {table} at {params.where}: {what}; see the server's log where it happens again, read shorter spans")


def _tls_error(error: ssl.SSLError, params: MariaDBParams, table: str) -> SourceError:
    return SourceError(
        f"table {table}: TLS with MariaDB at {params.where} failed ({error}); "
        f"set tls_ca to the authority of its certificate (now {params.tls_ca or 'those of the system'}), and host to the name in it"
    )
