"""Private memory of this process: what it has for itself, apart from the pages of a mapped tape that all workers share.

Linux tells it as ``RssAnon`` in ``/proc/self/status``. It is sampled, so a peak shorter than the interval may be missed, and it is that of
the whole process: of runs at the same time each one's peak includes the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STATUS = Path("/proc/self/status")
#: Seconds between two samples.
INTERVAL_S = 0.05


def private_mb() -> float | None:
    """Return the private resident memory of this process, MB (1e6 bytes), None where the system does not tell."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return found[0] * 1024 / 1e6 if found else None


@dataclass
class Peak:
    """Largest sample so far, MB; None before the first and where the system does not tell."""

    megabytes: float | None = None


class PrivateMemory:
    """Samples the private memory while it is open; ``with PrivateMemory() as memory, memory.watch() as peak: ...``."""

    def __init__(self) -> None:
        self._watched: list[Peak] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="private-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        now = private_mb()
        if now is not None:
            with self._lock:
                for peak in self._watched:
                    peak.megabytes = now if peak.megabytes is None else max(peak.megabytes, now)

    @contextmanager
    def watch(self) -> Iterator[Peak]:
        """Give the peak from here to the end of the block."""
        peak = Peak()
        with self._lock:
            self._watched.append(peak)
        self._sample()
        try:
            yield peak
        finally:
            self._sample()
            with self._lock:
                self._watched = [other for other in self._watched if other is not peak]
