"""Sections of the settings for a shop's own databases: its calendar, its tables, the connections, what is written back."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator

from invpipe.settings.sections import Section

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scalar = str | bool | int | float


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        msg = f"{name!r} is no time zone; write it as Europe/Berlin or UTC"
        raise ValueError(msg) from error
    return name


class ShopSettings(Section):
    """The shop's calendar.

    Parameters
    ----------
    time_zone
        Zone of the shop's days.
    first_day
        First day to extract; there is no default, a shop must say it.
    opening_time
        Local time of the opening stock: what `stock_daily` last said before it is the stock the day opens with.
    """

    time_zone: str = "UTC"
    first_day: date | None = None
    opening_time: time = time(0)

    _zone = field_validator("time_zone")(_known_zone)

    def must_be_complete(self) -> None:
        """Raise a ValueError where a shop with databases lacks a setting."""
        if self.first_day is None:
            msg = "shop.first_day is missing: say from which day on the databases are read, first_day = 2021-01-01"
            raise ValueError(msg)


class TableSettings(Section):
    """Where one table of the contracts comes from: an SQL query of MariaDB, or a collection of MongoDB.

    Parameters
    ----------
    sql
        Query whose columns have the names of the contract. Of a daily table it holds ``:start`` and ``:end`` (times, in the time zone
        of the database, end excluded) or ``:first_day`` and ``:last_day`` (the shop's days, both included).
    collection, fields, time_field, unwind, match
        Collection; contract column -> dotted path; path of the time that places a document, or an entry, in its day; path of the array
        whose entries are the rows; values that fields of a document must have.
    time_zone
        Zone of the times this table stores, where it is not the database's.

    Notes
    -----
    A daily table has a column ``day``, or instead of it ``at``, a time: `invpipe` finds the shop's day, and adds up what falls on one
    (SKU, day). ``at`` of `stock_daily` is the time from which on the stock was `on_hand_units`.
    """

    sql: str | None = None
    collection: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    time_field: str | None = None
    unwind: str | None = None
    match: dict[str, Scalar] = Field(default_factory=dict)
    time_zone: str | None = None

    _zone = field_validator("time_zone")(lambda name: None if name is None else _known_zone(name))

    @property
    def place(self) -> str:
        """Where the table comes from, in words."""
        return "query of MariaDB" if self.sql is not None else f"collection {self.collection} of MongoDB"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.sql is None) == (self.collection is None):
            msg = "give either sql (MariaDB) or collection (MongoDB), not both"
            raise ValueError(msg)
        if self.collection is not None and not self.fields:
            msg = f"collection {self.collection!r} needs fields: which column comes from which path"
            raise ValueError(msg)
        if self.sql is not None and (self.fields or self.time_field or self.unwind or self.match):
            msg = "fields, time_field, unwind and match belong to a collection; name the columns in the query"
            raise ValueError(msg)
        return self


class TablesSettings(Section):
    """The mapped tables; vendors, offers, stock and page views may be absent, and `orderable_daily` where there is stock.

    Without `orderable_daily` a SKU could be sold on the days that opened with stock.
    """

    items: TableSettings | None = None
    vendors: TableSettings | None = None
    sales_daily: TableSettings | None = None
    stock_daily: TableSettings | None = None
    page_views_daily: TableSettings | None = None
    offers: TableSettings | None = None
    orderable_daily: TableSettings | None = None

    @property
    def mapped(self) -> dict[str, TableSettings]:
        """The tables that come from a database."""
        tables = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: table for name, table in tables.items() if table is not None}

    def must_be_complete(self) -> None:
        """Raise a ValueError where a required table is not mapped."""
        missing = [name for name in ("items", "sales_daily") if name not in self.mapped]
        if not {"orderable_daily", "stock_daily"} & set(self.mapped):
            missing.append("orderable_daily or stock_daily")
        if missing:
            msg = f"source = 'databases' needs the tables {', '.join(missing)}; map them under [tables.<name>]"
            raise ValueError(msg)


class Login(Section):
    """A user and its password, from the environment or from a file that only the user of the pipeline can read."""

    user: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            msg = "password and password_file are both set; keep one"
            raise ValueError(msg)
        return self

    def secret(self) -> str:
        """Return the password, empty without one.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return "" if self.password is None else self.password.get_secret_value()


class _Connection(Login):
    """What both databases have in common.

    Parameters
    ----------
    host, port, user, database
        Where and as whom; a user that may only read is enough.
    password, password_file
        The password comes from the environment, or from a file that only the user of the pipeline can read.
    tls, tls_ca
        Encrypt and check the server's certificate; file of the authority that signed it, without it the system's.
    connect_timeout_s, read_timeout_s
        Longest wait for a connection, and for the next bytes of an answer, seconds.
    """

    host: str = "127.0.0.1"
    database: str = ""
    tls: bool = False
    tls_ca: Path | None = None
    connect_timeout_s: Seconds = 10
    read_timeout_s: Seconds = 4000


class MariaDBSettings(_Connection):
    """The connection to MariaDB (or MySQL).

    Parameters
    ----------
    statement_timeout_s
        Longest run of one query on the server, seconds.
    reader
        "bulk" decodes the rows of the wire in blocks; "pymysql" takes them one by one, slower, with the same result.
    time_zone
        Zone of the times the database stores; what it keeps as TIMESTAMP is shown in it, too.
    """

    port: Port = 3306
    time_zone: str = "UTC"
    statement_timeout_s: Seconds = 3600
    reader: Literal["bulk", "pymysql"] = "bulk"

    _zone = field_validator("time_zone")(_known_zone)


class MongoDBSettings(_Connection):
    """The connection to MongoDB, whose times are UTC.

    Parameters
    ----------
    auth_source
        Database that knows the user.
    """

    port: Port = 27017
    auth_source: str = "admin"


class ExtractSettings(Section):
    """How databases are read.

    Parameters
    ----------
    look_back_days
        Days before the last one that the nightly extract reads again, for rows that arrive late.
    days_per_query
        Days one query reads at most; memory is bounded by their rows.
    retries, retry_wait_s
        How often a lost connection is tried again, and the wait before the first time, seconds; it doubles every time.
    """

    look_back_days: int = Field(default=3, ge=0)
    days_per_query: int = Field(default=7, ge=1)
    retries: int = Field(default=4, ge=0)
    retry_wait_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class ProposalSettings(Login):
    """Order plans written back to MariaDB.

    Parameters
    ----------
    write
        Write the plan of each day into the table.
    table
        Table of the proposals, in the database of [mariadb]; made where it is absent.
    user, password, password_file
        A user that may write to it; without a user that of [mariadb].
    """

    write: bool = False
    table: str = Field(default="invpipe_order_proposals", pattern=r"^[A-Za-z0-9_]{1,64}$")
