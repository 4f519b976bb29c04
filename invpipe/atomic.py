"""Files and directories that appear whole or not at all: written under a temporary name, then renamed.

Two writers of one path do not meet: each has a temporary of its own, and the last rename stands.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from invpipe.errors import StorageError

#: Leftovers of killed writers are removed after this time; ``dagster.yaml`` lets no run live longer than an hour.
LEFTOVER_SECONDS = 6 * 3600


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write a file or directory to, and move it to `path` when the block ends well.

    A reader sees the old artifact or the new one. Whoever is killed leaves the old one; killed between the two renames that swap a
    directory, none. A temporary that a killed writer left is removed by a later write, after `LEFTOVER_SECONDS`.

    Raises
    ------
    StorageError
        The file system refuses: no space, no right. What stood at `path` still stands there.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        yield temporary
        if path.is_dir():
            _swap_directories(temporary, path)
        else:
            temporary.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path} cannot be written: {error}; {_room_left(path.parent)} are free. Make room or mend the rights, then run again"
        raise StorageError(msg) from error
    finally:
        _remove(temporary)


def _remove_leftovers(directory: Path) -> None:
    for leftover in directory.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # another writer has removed it
            if time.time() - leftover.lstat().st_mtime > LEFTOVER_SECONDS:
                _remove(leftover)


def _room_left(directory: Path) -> str:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB"


def _swap_directories(new: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    path.rename(old)
    try:
        new.replace(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
