"""How fast and in how much memory tables come out of real databases: throw-away servers on this machine, simulated rows.

MariaDB: the same table of eight columns by a plain pymysql loop, by the row-by-row reader and by the bulk reader, both of these into the
contract's types; then a backfill of years through `DatabaseShop`, in a process of its own whose peak memory counts. MongoDB: nested
documents by a plain pymongo loop and by the bulk reader; its server comes with the tests, and where they are not installed the row is left
out. That server is slow, so the client's own seconds (CPU) stand beside the wall clock.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pymysql

from invpipe.atomic import atomic_replace
from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.settings import Settings
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader, ReaderKind
from invpipe.sources.databases.mongodb import CollectionMapping, MongoDBParams, MongoDBReader
from invpipe.sources.databases.shop import DatabaseShop, wanted_types
from invpipe.sources.databases.typed import typed

Figures = dict[str, Any]

FIRST_DAY = date(2021, 1, 1)
ROWS_PER_DAY = 27_400
WIDE = {
    "id": pl.Int64(),
    "sku": pl.String(),
    "day": pl.Date(),
    "at": pl.Datetime("us"),
    "price": pl.Float64(),
    "title": pl.String(),
    "units": pl.Int32(),
    "note": pl.String(),
}
#: Server of the MongoDB rows; it comes with the tests.
MONGO_SERVER = "invpipe_tests.integration.mongo_server"


def bench_extract(rows: int = 1_000_000, backfill_rows: int = 10_000_000, documents: int = 50_000) -> list[Figures]:
    """Return rows per second of every reader, and the memory of a backfill.

    Parameters
    ----------
    rows
        Rows of the MariaDB table that all readers read.
    backfill_rows
        Rows of the backfill.
    documents
        Documents in MongoDB, ten rows each, a tenth of them per document of history.

    Raises
    ------
    SourceError
        MariaDB is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="invpipe-bench-") as scratch:
        with _mariadb(Path(scratch)) as server:
            found = [*_mariadb_rows(server, rows), _backfill(server, backfill_rows, Path(scratch))]
        return found + (_mongodb_rows(Path(scratch) / "mongodb", documents) if importlib.util.find_spec("invpipe_tests") else [])


@contextmanager
def _mariadb(scratch: Path) -> Iterator[ThrowAwayMariaDB]:
    directory = scratch / "mariadb"
    directory.mkdir()
    with ThrowAwayMariaDB(directory, options=("--innodb-buffer-pool-size=512M",)) as server:
        yield server


def _params(server: ThrowAwayMariaDB, reader: ReaderKind) -> MariaDBParams:
    return MariaDBParams(
        host=server.host, port=server.port, user=server.user, password=server.password, database=server.database, tls=False, reader=reader
    )


def _mariadb_rows(server: ThrowAwayMariaDB, rows: int) -> list[Figures]:
    server.execute(
        "CREATE TABLE wide (id BIGINT PRIMARY KEY, sku VARCHAR(20), day DATE, at DATETIME(6), price DECIMAL(12,4), title VARCHAR(60), "
        "units INT, note VARCHAR(20)); INSERT INTO wide SELECT seq, CONCAT('S', LPAD(seq % 170000, 6, '0')), "
        f"'{FIRST_DAY}' + INTERVAL seq % 365 DAY, '{FIRST_DAY}' + INTERVAL seq * 31 SECOND + INTERVAL seq % 1000000 MICROSECOND, "
        f"seq % 99991 / 100, CONCAT('Títle № ', seq % 5000), seq % 40, IF(seq % 3, NULL, 'x') FROM seq_1_to_{rows}"
    )
    query = f"SELECT {', '.join(WIDE)} FROM wide"

    def plain() -> pl.DataFrame:
        connection = pymysql.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, database=server.database, charset="utf8mb4"
        )
        with connection, connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute(query)
            return pl.DataFrame(list(cursor), schema=list(WIDE), orient="row", infer_schema_length=None)

    def through(reader: ReaderKind) -> pl.DataFrame:
        return typed(MariaDBReader(_params(server, reader)).whole(query, table="wide"), WIDE, table="wide").frame

    through("bulk")  # compiles the kernels
    ways: dict[str, Callable[[], pl.DataFrame]] = {
        "MariaDB, plain pymysql loop": plain,
        "MariaDB, reader pymysql, typed": lambda: through("pymysql"),
        "MariaDB, reader bulk, typed": lambda: through("bulk"),
    }
    return _compared(ways, rows)


def _compared(ways: dict[str, Callable[[], pl.DataFrame]], rows: int) -> list[Figures]:
    """Return one row of figures per way; the first is what the others are compared with."""
    found: list[Figures] = []
    for way, run in ways.items():
        began, cpu_began = time.perf_counter(), time.process_time()
        frame = run()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        if len(frame) != rows:
            msg = f"{way} read {len(frame):,} of {rows:,} rows"
            raise AssertionError(msg)
        first = found[0] if found else {"seconds": seconds, "cpu_seconds": cpu_seconds}
        found.append(
            {
                "way": way,
                "rows": rows,
                "seconds": seconds,
                "rows_per_second": rows / seconds,
                "ratio": first["seconds"] / seconds,
                "cpu_seconds": cpu_seconds,
                "cpu_ratio": first["cpu_seconds"] / cpu_seconds,
            }
        )
    return found


def _backfill(server: ThrowAwayMariaDB, rows: int, scratch: Path) -> Figures:
    """Read years of sales lines day by day and write a file per day, in a process of its own."""
    server.execute(
        "CREATE TABLE sales (sku VARCHAR(20), at DATETIME, units INT, revenue DECIMAL(12,2), KEY (at)); INSERT INTO sales "
        f"SELECT CONCAT('S', LPAD(seq * 7919 % 170000, 6, '0')), '{FIRST_DAY}' + INTERVAL seq DIV {ROWS_PER_DAY} DAY "
        f"+ INTERVAL seq % 86400 SECOND, 1 + seq % 3, seq % 5000 / 100 + 1 FROM seq_0_to_{rows - 1}"
    )
    days = (rows - 1) // ROWS_PER_DAY + 1
    command = [sys.executable, "-m", "invpipe.bench.extract", server.host, str(server.port), server.user, str(days), str(scratch / "days")]
    environment = {**os.environ, "INVPIPE_MARIADB__PASSWORD": server.password}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - the arguments are ours
    figures: Figures = json.loads(child.stdout.splitlines()[-1])
    return {"way": f"MariaDB, backfill of {days} days", "rows": rows, "rows_per_second": rows / figures["seconds"], **figures}


def backfill(host: str, port: int, user: str, days: int, directory: Path) -> Figures:
    """Run the backfill in this process; return seconds, peak memory and the rows written (lines of one SKU and day are added up)."""
    query = "SELECT sku, at, units AS sales_units, revenue FROM sales WHERE at >= :start AND at < :end"
    sections: dict[str, Any] = {
        "shop": {"first_day": FIRST_DAY},
        "tables": {"items": {"sql": "SELECT 1"}, "stock_daily": {"sql": "SELECT 1"}, "sales_daily": {"sql": query}},
        "mariadb": {"host": host, "port": port, "user": user, "database": "shop"},
    }
    settings = Settings(source="databases", **sections)
    began, written = time.perf_counter(), 0
    for day, read in DatabaseShop(settings, print).days("sales_daily", [FIRST_DAY + timedelta(days=k) for k in range(days)]):
        with atomic_replace(directory / f"{day}.parquet") as file:
            read.frame.write_parquet(file)
        written += len(read.frame)
    return {"seconds": time.perf_counter() - began, "peak_memory_mib": _own_peak_mib(), "cells": written}


def _own_peak_mib() -> float:
    """Return the largest resident set of this program; what `getrusage` tells on Linux includes that of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) / 2**10 for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _mongodb_rows(directory: Path, documents: int) -> list[Figures]:
    """Read offers with ten events of history each."""
    module = importlib.import_module(MONGO_SERVER)
    start, per_document = datetime(2024, 1, 1), 10
    n = max(documents // per_document, 1)
    with module.ThrowAwayMongoDB(directory) as server, server.admin() as client:
        collection = client[module.DATABASE]["offers"]
        collection.insert_many(
            {
                "sku": f"S{k:06d}",
                "vendor": f"V{k % 40}",
                "history": [
                    {"at": start + timedelta(minutes=k + 7 * i), "cost": k % 100 + i / 8, "in_stock": i % 3 > 0, "least": 1, "pack": 6}
                    for i in range(per_document)
                ],
            }
            for k in range(n)
        )
        fields = {"sku": "sku", "vendor": "vendor", "observed_at": "history.at", "unit_cost": "history.cost"}
        fields |= {"in_stock": "history.in_stock", "min_order_units": "history.least", "pack_units": "history.pack"}
        mapping = CollectionMapping("offers", fields, "history.at", "history")
        params = MongoDBParams(server.host, module.DATABASE, server.port, module.READER, module.READER_PASSWORD)
        span = (start, start + timedelta(days=10_000))

        def plain() -> pl.DataFrame:
            with params.client() as reading:
                flat = [
                    {"sku": one["sku"], "vendor": one["vendor"], **entry}
                    for one in reading[module.DATABASE]["offers"].find()
                    for entry in one["history"]
                ]
            return pl.DataFrame(flat, infer_schema_length=None)

        def bulk() -> pl.DataFrame:
            (read,) = MongoDBReader(params, print).spans(mapping, wanted_types("offers"), [span])
            return read.frame

        bulk()  # compiles the kernels
        return _compared({"MongoDB, plain pymongo loop": plain, "MongoDB, reader bulk, typed": bulk}, n * per_document)


if __name__ == "__main__":
    print(json.dumps(backfill(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))))
