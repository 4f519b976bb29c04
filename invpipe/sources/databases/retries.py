"""Run a piece of reading again when its connection was lost.

Order of events: do the work; where it ends with `ConnectionLostError`, wait ``wait_s``, ``2 wait_s``, ``4 wait_s``, ... and do it again
from its beginning, at most ``retries`` times; then the last error is raised.

Assumes that the work can begin anew: it opens its own connection and snapshot, and drops what an earlier try had read. Every other
error (wrong password, missing table, time-out of a statement) would come again and is raised at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from invpipe.errors import ConnectionLostError

Result = TypeVar("Result")

#: No wait between two tries is longer than this.
WAIT_LIMIT_S = 60.0


def with_retries(work: Callable[[], Result], *, retries: int, wait_s: float, log: Callable[[str], object]) -> Result:
    """Return what `work` returns, starting it again from its beginning after a lost connection.

    Parameters
    ----------
    work
        Opens its own connection and reads; it must not keep anything from an earlier try.
    retries
        How often to start again after the first try; 0 tries once.
    wait_s
        Wait before the first retry; doubled before every further one, up to `WAIT_LIMIT_S`.
    log
        Gets one line for each retry, such as ``context.log.warning`` of a Dagster run.

    Raises
    ------
    ConnectionLostError
        When the last try lost its connection, too.
    """
    (result,) = list(started_anew(lambda: iter([work()]), retries=retries, wait_s=wait_s, log=log))
    return result


def started_anew(work: Callable[[], Iterator[Result]], *, retries: int, wait_s: float, log: Callable[[str], object]) -> Iterator[Result]:
    """Yield what `work` yields; after a lost connection all of it comes again, from its beginning.

    Parameters
    ----------
    work
        Returns a new iterator that opens its own connection.
    retries, wait_s, log
        As for `with_retries`.

    Raises
    ------
    ConnectionLostError
        When the last try lost its connection, too.
    """
    for attempt in range(retries + 1):
        try:
            yield from work()
        except ConnectionLostError as error:
            if attempt == retries:
                raise
            pause_s = min(wait_s * 2**attempt, WAIT_LIMIT_S)
            log(f"{error} Retry {attempt + 1} of {retries} in {pause_s:g} s.")
            time.sleep(pause_s)
        else:
            return
