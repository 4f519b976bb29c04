"""The studies of the tests need not survive a power cut: their SQLite files are written without waiting for the disk."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event


def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session", autouse=True)
def _quick_sqlite() -> Iterator[None]:
    event.listen(Engine, "connect", _do_not_wait_for_the_disk)
    yield
    event.remove(Engine, "connect", _do_not_wait_for_the_disk)
