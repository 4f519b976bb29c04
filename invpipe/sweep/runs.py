"""Runs: one variant under one seed, kept by what it is, so that nothing is replayed twice and a killed sweep goes on.

A run is known by the SHA-256 over the tape's fingerprint, the policy with every value it holds, the backtest's parameters, the seed and the
source code that replays it. Its key figures lie in one JSON file of that name, written under a temporary name and renamed. A trial of a
sweep is a variant under several seeds, hence several runs; trials, sweeps and studies share them.

A policy is known by its class and fields. An object within it that has a `fingerprint()` is known by that, one of a class that is not
invpipe's also by the source of its class; functions a foreign class calls are not seen, so give such a change another store.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import invpipe
from invpipe.arena import Tape, run_backtest
from invpipe.atomic import atomic_replace
from invpipe.errors import ArenaError, ProvenanceError
from invpipe.sweep.memory import PrivateMemory
from invpipe.sweep.space import Variant

#: Rooms whose source decides what a replay gives.
REPLAYING_ROOMS = ("forecast", "allocation", "arena", "sweep")


@dataclass(frozen=True)
class Run:
    """Outcome of one variant under one seed.

    Parameters
    ----------
    seed
        Seed of the lead times.
    summary
        Key figures as in :class:`~invpipe.arena.BacktestResult`.
    seconds
        Wall-clock seconds of the replay when it was made.
    peak_private_mb
        Largest private memory of the whole process meanwhile, MB, other runs in it included; None where the system does not tell.
    """

    seed: int
    summary: dict[str, float]
    seconds: float
    peak_private_mb: float | None


@cache
def source_version() -> str:
    """Return the SHA-256 of the source that decides what a replay gives."""
    package = Path(invpipe.__file__).parent
    sha = hashlib.sha256()
    for room in REPLAYING_ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            sha.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


class Identities:
    """Digests of policies and what they hold; large arrays shared by many variants are read once.

    One object serves one sweep: it holds on to what it has seen, so that no identity is taken over by another object.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, str]] = {}

    def digest(self, value: object) -> str:
        """Return the SHA-256 of a value and of all it holds, in hex.

        Raises
        ------
        ArenaError
            Where it holds something whose content cannot be told.
        """
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, hashlib.sha256(self._bytes(value)).hexdigest())
        return self._seen[id(value)][1]

    def _bytes(self, value: object) -> bytes:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if value is None or isinstance(value, bool | int | float | str | date | np.generic):
            return f"{kind}:{value!r}".encode()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufM":
            return f"array:{value.dtype.str}{value.shape}".encode() + hashlib.sha256(np.ascontiguousarray(value).data).digest()
        if isinstance(value, tuple | list):
            if all(isinstance(part, str) for part in value):
                return b"texts:" + json.dumps(value).encode()
            return b"parts:" + "".join(self.digest(part) for part in value).encode()
        if isinstance(value, Mapping):
            return b"map:" + "".join(sorted(self.digest(key) + self.digest(part) for key, part in value.items())).encode()
        known = getattr(value, "fingerprint", None)
        if callable(known):
            return f"{kind}:{known()}".encode()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [f"{f.name}={self.digest(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.init]
            return f"{kind}({','.join(fields)}){self._source(type(value))}".encode()
        msg = f"a policy holds a {kind}, whose content cannot be told; make it a dataclass or give it fingerprint() -> str"
        raise ArenaError(msg)

    @staticmethod
    def _source(kind: type) -> str:
        """Return the source of a class that `source_version` does not cover."""
        if kind.__module__.partition(".")[0] == "invpipe":
            return ""
        try:
            return inspect.getsource(kind)
        except (OSError, TypeError) as error:
            msg = f"the source of {kind.__module__}.{kind.__qualname__} cannot be read ({error}); define the policy in a module file"
            raise ArenaError(msg) from error


class RunStore:
    """Runs under one directory, one JSON file each; threads may share it.

    Parameters
    ----------
    root
        Directory, made when the first run is written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """Return the file of a run."""
        return self.root / "runs" / f"{key}.json"

    def get(self, key: str) -> Run | None:
        """Return a run, None where it was not made yet.

        Raises
        ------
        ProvenanceError
            Where its file is not what was written.
        """
        path = self.path(key)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record.pop("key") != key:
                msg = "it is another run's file"
                raise ValueError(msg)
            return Run(**record)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"{path} is not a whole run: {error}; remove it, and the sweep will replay it"
            raise ProvenanceError(msg) from error

    def put(self, key: str, run: Run) -> None:
        """Write a run; atomic.

        Raises
        ------
        StorageError
            Where the file system refuses.
        """
        with atomic_replace(self.path(key)) as temporary:
            temporary.write_text(json.dumps({"key": key, **dataclasses.asdict(run)}, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Replayer:
    """Replays variants on one tape, or takes from the store what was replayed before.

    Parameters
    ----------
    tape, store
        Shared by all runs and threads.
    memory
        Watches the process.
    identities
        Digests of the sweep's policies.
    """

    tape: Tape
    store: RunStore
    memory: PrivateMemory
    identities: Identities

    def key(self, variant: Variant, seed: int) -> str:
        """Return the SHA-256 that names the run."""
        values: dict[str, Any] = {
            "tape": self.tape.fingerprint(),
            "source": source_version(),
            "policy": self.identities.digest(variant.policy),
            "params": {name: repr(value) for name, value in dataclasses.asdict(variant.params).items()},
            "seed": seed,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def run(self, variant: Variant, seed: int, key: str) -> Run:
        """Return the run, replayed and written where it was not there.

        Raises
        ------
        ArenaError
            As :func:`~invpipe.arena.run_backtest`.
        """
        found = self.store.get(key)
        if found is not None:
            return found
        began = time.perf_counter()
        with self.memory.watch() as peak:
            summary = dict(run_backtest(self.tape, variant.policy, variant.params, seed, keep_orders=False).summary)
        run = Run(seed, summary, time.perf_counter() - began, peak.megabytes)
        self.store.put(key, run)
        return run
