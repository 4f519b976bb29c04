"""What `invpipe doctor` looks at outside Dagster: Python, disk, settings, databases, alerts, Postgres - each with how to mend it.

A finding is *broken* where the daily chain cannot run or nobody would notice that it did not, a *warning* where it runs but something
deserves notice.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from invpipe.errors import InvpipeError
from invpipe.settings import Settings
from invpipe.sources.databases.check import SourceCheck, TableCheck, day_to_check

#: First version that works and first one that does not, as in pyproject.toml.
PYTHON = ((3, 11), (3, 14))
#: Below this nothing can be written for long, GiB.
LEAST_FREE_GIB = 0.5
#: An address that Dagster, SQLAlchemy 2.1 and psycopg2 take.
POSTGRES_FORM = "postgresql+psycopg2://user:password@host:5432/database, with @ in user and password written as %40"
POSTGRES_TIMEOUT_S = 5

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Parameters
    ----------
    name
        What was looked at.
    state
        "ok", "warning" or "broken".
    text
        What was found.
    cure
        How to mend it; empty where all is well.
    """

    name: str
    state: State
    text: str
    cure: str = ""

    def line(self) -> str:
        """Return the finding as text, its cure on a line of its own."""
        sign = "OK" if self.state == "ok" else self.state
        return f"{sign:<8} {self.name}: {self.text}" + (f"\n         -> {self.cure}" if self.cure else "")


def document(findings: Iterable[Finding]) -> str:
    """Return findings as JSON."""
    return json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=1)


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Return whether the interpreter is one that is tested."""
    first, end = PYTHON
    said = ".".join(map(str, version))
    if first <= version < end:
        return Finding("python", "ok", said)
    cure = f"install invpipe under Python {first[0]}.{first[1]} or newer, below {end[0]}.{end[1]}"
    return Finding("python", "broken", f"{said} is not supported", cure)


def check_disk(home: Path, min_free_gib: float) -> Finding:
    """Return whether the home can be written to and has room."""
    existing = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        cure = "give its right to the user of the pipeline, or set INVPIPE_HOME"
        return Finding("disk", "broken", f"{existing} cannot be written to", cure)
    free = shutil.disk_usage(existing).free / 2**30
    text = f"{free:.1f} GiB free at {existing}"
    if free >= max(min_free_gib, LEAST_FREE_GIB):
        return Finding("disk", "ok", text)
    state: State = "broken" if free < LEAST_FREE_GIB else "warning"
    return Finding("disk", state, text, "`invpipe prune` says what it could free; or move the home to a larger disk")


def check_settings(home: Path) -> tuple[Settings | None, Finding]:
    """Return the settings of the home, None where they are refused, and what was found."""
    try:
        settings = Settings.load(home)
    except InvpipeError as error:
        cure = "correct the line or variable it names; `invpipe init` writes a commented file"
        return None, Finding("settings", "broken", str(error), cure)
    return settings, Finding("settings", "ok", f"source is {settings.source!r}, home {home}")


def check_databases(settings: Settings, log: Callable[[str], object]) -> Iterator[Finding]:
    """Yield a finding per mapped table; one for a shop without databases."""
    if settings.source != "databases":
        yield Finding("databases", "ok", "none: the embedded shop")
        return
    try:
        day = day_to_check(settings, None)
    except InvpipeError as error:
        yield Finding("databases", "broken", str(error), "correct shop.first_day")
        return
    for table in SourceCheck(settings, day, log).tables():
        yield table_finding(table)


def table_finding(table: TableCheck) -> Finding:
    """Return what the check of a table found."""
    name = f"table {table.table}"
    if table.error is not None:
        cure = f"correct [tables.{table.table}] or the connection; `invpipe check-sources` shows more"
        return Finding(name, "broken", f"{table.place}: {table.error}", cure)
    notes = (*table.failures, *table.remarks)
    if notes:
        cure = "`invpipe check-sources` shows all of it; correct the query or the rows"
        return Finding(name, "warning", f"{table.place}: {'; '.join(notes)}", cure)
    return Finding(name, "ok", f"{table.place}: {table.total_rows:,} rows can be read")


def check_alerts(settings: Settings) -> Finding:
    """Return whether somebody is told when something fails, and whether the files of secrets can be read."""
    alerts = settings.alerts
    if not alerts.channels:
        cure = "set INVPIPE_ALERTS__WEBHOOK_URL or alerts.email_to"
        return Finding("alerts", "ok" if settings.source == "embedded" else "warning", "nobody is told when a run fails", cure)
    try:
        alerts.webhook()
        alerts.secret()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        cure = "look at webhook_url_file and password_file of [alerts]"
        return Finding("alerts", "broken", f"a file of a secret cannot be used: {reason}", cure)
    return Finding("alerts", "ok", f"{alerts.channels} of 2 channels, told are {', '.join(alerts.occasions) or 'no occasions'}")


def check_postgres(address: str | None, said_in: str) -> Finding:
    """Return whether the Postgres in which Dagster keeps its runs answers; no password is in what is returned.

    Parameters
    ----------
    address
        URL of its database, None where there is none.
    said_in
        What holds the address, in words.
    """
    missing = [name for name in ("dagster_postgres", "psycopg2") if find_spec(name) is None]
    if missing:
        return Finding("storage", "broken", f"not installed: {', '.join(missing)}", "pip install 'invpipe[postgres]'")
    if not address:
        return Finding("storage", "broken", f"{said_in} is not set", f"set it to {POSTGRES_FORM}; {said_in} is a secret")
    url = _postgres_url(address)
    if url is None:
        return Finding("storage", "broken", f"{said_in} is no address of Postgres", f"write {POSTGRES_FORM}")
    where = f"Postgres at {url.host}:{url.port or 5432}, database {url.database}, user {url.username}"
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": POSTGRES_TIMEOUT_S})
        with engine.connect() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    except ModuleNotFoundError as error:
        return Finding("storage", "broken", f"{said_in} asks for the driver {error.name}, not installed", f"write {POSTGRES_FORM}")
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        return Finding("storage", "broken", f"{where}: {reason}", _postgres_cure(reason, url, said_in))
    return Finding("storage", "ok", f"{where}, version {version}")


def _postgres_url(address: str) -> URL | None:
    """Return the parsed address; None where it is none, or where a part of the password would be taken for the host."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return None
    return url if url.get_backend_name() == "postgresql" and "@" not in (url.host or "@") else None


def _postgres_cure(reason: str, url: URL, said_in: str) -> str:
    if "authentication" in reason or "pg_hba" in reason:
        return f"correct user and password in {said_in}; signs with a meaning in addresses (@ : / %) are percent-encoded there"
    if "does not exist" in reason:
        return f"CREATE DATABASE {url.database} OWNER {url.username}, then `dagster instance info`; or correct {said_in}"
    return f"start it, or correct host and port in {said_in}; artifacts are safe, runs that were open are ended in the UI"
