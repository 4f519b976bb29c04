"""Order plans written back to MariaDB, as proposals for whoever orders: one day at a time, in one transaction, again as often as one likes.

Order of events: the table is made where it is absent; in one transaction the day's old proposals are deleted and the new ones inserted. A
reader sees the old plan or the new one, never half of either; two writers of one day wait for each other, and the last one stands.

Assumes InnoDB, and a user that may CREATE (where the table is absent), SELECT, INSERT and DELETE on the table.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import polars as pl

from invpipe.errors import SourceError
from invpipe.sources.databases.mariadb import MariaDBParams, connect, translated

#: Columns of the table: name -> (SQL type, column of the order plan).
COLUMNS = {
    "sku": ("VARCHAR(190) NOT NULL", "sku"),
    "vendor": ("VARCHAR(190) NOT NULL", "vendor"),
    "order_units": ("INT NOT NULL", "order_units"),
    "unit_cost": ("DOUBLE NOT NULL", "unit_cost"),
    "order_value": ("DOUBLE NOT NULL", "order_value"),
    "value_per_capital": ("DOUBLE NULL", "value_per_capital"),
    "reason": ("TEXT NOT NULL", "reason"),
}


def write_proposals(params: MariaDBParams, table: str, day: date, lines: pl.DataFrame) -> int:
    """Make the table's proposals of a day the lines of its order plan, and return how many there are.

    Parameters
    ----------
    params
        Connection of a user that may write.
    table
        Name of the table; made where it is absent, with key (day, sku, vendor).
    day
        Day of the plan.
    lines
        Order lines of the plan; none takes the day's proposals away.

    Raises
    ------
    ConnectionLostError
        The server is absent or the connection was lost: nothing was written, or all.
    SourceError
        The server refuses, or a table of that name has other columns.
    """
    names = ", ".join(["day", *COLUMNS])
    columns = ", ".join(f"{name} {sql_type}" for name, (sql_type, _) in COLUMNS.items())
    values = ", ".join(["%s"] * (len(COLUMNS) + 1))
    rows = [(day, *map(_finite, row)) for row in lines.select(column for _, column in COLUMNS.values()).iter_rows()]
    with translated(params, table), connect(params) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s", (table,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE TABLE IF NOT EXISTS `{table}` (day DATE NOT NULL, {columns}, PRIMARY KEY (day, sku, vendor))")
            _refuse_other_columns(cursor, table)
            cursor.execute("START TRANSACTION")
            cursor.execute(f"DELETE FROM `{table}` WHERE day = %s", (day,))  # noqa: S608 - the name is checked by the settings
            cursor.executemany(f"INSERT INTO `{table}` ({names}) VALUES ({values})", rows)  # noqa: S608 - as above
        connection.commit()
    return len(rows)


def _refuse_other_columns(cursor: Any, table: str) -> None:
    cursor.execute(f"SELECT * FROM `{table}` LIMIT 0")  # noqa: S608 - the name is checked by the settings
    found = [column[0] for column in cursor.description]
    missing = [name for name in ("day", *COLUMNS) if name not in found]
    if missing:
        msg = f"it exists with other columns, {', '.join(found)}: {', '.join(missing)} are missing; name another table in proposals.table"
        raise SourceError(msg)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
