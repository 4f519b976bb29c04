"""Work that lost its connection starts anew; other work does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from invpipe.errors import ConnectionLostError, SourceError
from invpipe.sources.databases import retries
from invpipe.sources.databases.retries import WAIT_LIMIT_S, started_anew, with_retries


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    return slept


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = iter([error] * times)

    def work() -> str:
        for each in left:
            raise each
        return "done"

    return work


def test_work_is_done_again_with_growing_waits(waits: list[float]) -> None:
    """Prevents a server that restarts from ending a run, and a run from hammering it."""
    logged: list[str] = []
    assert with_retries(failing(3, ConnectionLostError("gone.")), retries=3, wait_s=2, log=logged.append) == "done"
    assert waits == [2, 4, 8]
    assert logged[0] == "gone. Retry 1 of 3 in 2 s."
    assert len(logged) == 3


def test_last_error_is_raised(waits: list[float]) -> None:
    """Prevents retries without end, and a failure that looks like a result."""
    with pytest.raises(ConnectionLostError, match="gone"):
        with_retries(failing(3, ConnectionLostError("gone")), retries=2, wait_s=1, log=lambda _: None)
    assert waits == [1, 2]


def test_other_errors_are_not_retried(waits: list[float]) -> None:
    """Prevents a wrong password from locking an account."""
    with pytest.raises(SourceError, match="wrong password"):
        with_retries(failing(1, SourceError("wrong password")), retries=5, wait_s=1, log=lambda _: None)
    assert waits == []


def test_waits_have_a_limit(waits: list[float]) -> None:
    """Prevents a wait of days after a night of trouble."""
    with_retries(failing(9, ConnectionLostError("gone")), retries=9, wait_s=1, log=lambda _: None)
    assert max(waits) == WAIT_LIMIT_S


def test_an_iterator_starts_anew(waits: list[float]) -> None:
    """Prevents what follows a lost connection from being taken for the part that is still to come."""
    lost = iter([True])

    def work() -> Iterator[int]:
        yield 1
        if next(lost, False):
            raise ConnectionLostError("gone")
        yield 2

    assert list(started_anew(work, retries=1, wait_s=1, log=lambda _: None)) == [1, 1, 2]
    assert waits == [1]
