"""Databases to read from: a throw-away server, or the one of ``INVPIPE_TEST_MONGO_URI`` (a user that may create and drop databases)."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.uri_parser import parse_uri

from invpipe.sources.databases.mongodb import MongoDBParams
from invpipe_tests.integration.mongo_server import DATABASE, READER, READER_PASSWORD, ThrowAwayMongoDB


@dataclass(frozen=True)
class Served:
    """A database to fill, and how to read it."""

    database: Database[dict[str, Any]]
    params: MongoDBParams


def reader_of(server: ThrowAwayMongoDB) -> MongoDBParams:
    """Return quick time-outs and the credentials of the user that may only read."""
    return MongoDBParams(
        host=server.host,
        port=server.port,
        user=READER,
        password=READER_PASSWORD,
        database=DATABASE,
        connect_timeout_s=2.0,
        read_timeout_s=20.0,
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directory of a server with its users."""
    directory = tmp_path_factory.mktemp("mongodb-template")
    ThrowAwayMongoDB(directory).create_users()
    return directory / "data"


@pytest.fixture(scope="session")
def served(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One database for all reading tests; each makes its own collections."""
    if uri := os.environ.get("INVPIPE_TEST_MONGO_URI"):
        found, name = parse_uri(uri), f"invpipe_test_{uuid.uuid4().hex[:8]}"
        host, port = found["nodelist"][0]
        source = found["options"].get("authsource", "admin")
        params = MongoDBParams(host, name, port or 27017, found["username"], found["password"], auth_source=source)
        with MongoClient[dict[str, Any]](uri) as client:
            try:
                yield Served(client[name], params)
            finally:
                client.drop_database(name)
        return
    directory = tmp_path_factory.mktemp("mongodb")
    shutil.copytree(template, directory / "data")
    with ThrowAwayMongoDB(directory) as server, server.admin() as client:
        yield Served(client[DATABASE], reader_of(server))


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Iterator[ThrowAwayMongoDB]:
    """A server of one test's own, to be stopped and killed."""
    shutil.copytree(template, tmp_path / "data")
    with ThrowAwayMongoDB(tmp_path, options=("--sync-on-commit",)) as started:
        yield started
