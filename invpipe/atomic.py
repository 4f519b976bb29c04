"""Files and directories that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Leftovers of killed writers are removed after this time; ``dagster.yaml`` lets no run live longer than an hour.
LEFTOVER_SECONDS = 6 * 3600


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write a file or directory to, and move it to `path` when the block ends well.

    A reader sees the old artifact or the new one. Whoever is killed leaves the old one; killed between the two renames that swap a
    directory, none. A temporary that a killed writer left is removed by a later write, after `LEFTOVER_SECONDS`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(".*.tmp"):
        if time.time() - leftover.lstat().st_mtime > LEFTOVER_SECONDS:
            _remove(leftover)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        if path.is_dir():
            _swap_directories(temporary, path)
        else:
            temporary.replace(path)
    finally:
        _remove(temporary)


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
