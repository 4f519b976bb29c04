"""Where Dagster keeps runs and events: its directory, and whether the Postgres that dagster.yaml names answers."""

from __future__ import annotations

import os
from pathlib import Path

from dagster._core.instance.config import dagster_instance_config

from invpipe.doctor import Finding, check_postgres
from invpipe.errors import StorageError


def dagster_home_of(home: Path) -> Path:
    """Return the directory of the Dagster instance: DAGSTER_HOME, else the one the commands make in the home."""
    return Path(os.environ.get("DAGSTER_HOME") or home / "dagster").absolute()


def check_storage(dagster_home: Path) -> Finding | None:
    """Return whether the Postgres that dagster.yaml names answers; None where runs and events lie in files."""
    storage = dagster_instance_config(str(dagster_home))[0].get("storage", {})
    address = storage.get("postgres", {}).get("postgres_url")
    if isinstance(address, dict):
        name = address["env"]
        return check_postgres(os.environ.get(name), f"the environment variable {name}")
    return check_postgres(address, f"postgres_url of {dagster_home / 'dagster.yaml'}") if address else None


def require_storage(dagster_home: Path) -> None:
    """Refuse to go on without the storage: Dagster would try for many seconds, and then not say why.

    Raises
    ------
    StorageError
        The Postgres that holds the runs does not answer.
    """
    found = check_storage(dagster_home)
    if found is not None and found.state == "broken":
        msg = f"{found.text}; {found.cure}"
        raise StorageError(msg)
