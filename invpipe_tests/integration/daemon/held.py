"""Entry point of the tests' daemon: the definitions of the home, at a fixed time, with writes that wait where a test holds them.

A write of the artifact `order_plan[2017-02-15]` waits, complete but without its name, while the file `hold/order_plan+2017-02-15.parquet`
stands in the home; it says so by the file of that name with `.reached`. So a test kills what is in the middle, and not what has just ended.
The catch-up is on, as if an operator had started it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from invpipe.atomic import atomic_replace
from invpipe.defs import io, operations
from invpipe.defs.build import build_definitions

#: Two nights after the newest plan of the home.
NOW = datetime(2017, 2, 17, 8, tzinfo=UTC)


@contextmanager
def held_replace(path: Path) -> Iterator[Path]:
    """Write as ever, and wait before the rename where a test asks for it."""
    home = Path(os.environ["INVPIPE_HOME"])
    with atomic_replace(path) as temporary:
        yield temporary
        hold = home / "hold" / "+".join(path.relative_to(home / "artifacts").parts)
        if hold.exists():
            hold.with_name(f"{hold.name}.reached").touch()
        while hold.exists():
            time.sleep(0.05)


io.atomic_replace = held_replace
operations.utc_now = lambda: NOW
defs = build_definitions()
for sensor in defs.sensors or ():
    if sensor.name == "catch_up_missed_days":
        sensor._default_status = dg.DefaultSensorStatus.RUNNING
