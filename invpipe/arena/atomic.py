"""Directories that appear whole or not at all: written under a temporary name, then renamed.

A writer that is killed leaves the last good directory, except in the moment between two renames, when it stands beside its place under a
name starting with a dot.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that takes the place of `path` when the block ends without an error, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new, old = workshop / "new", workshop / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
