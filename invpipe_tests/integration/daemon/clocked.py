"""The Dagster daemon, which judges freshness by a clock that a test moves: the time in the file `clock` of the home."""

import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from dagster._core.definitions import freshness_evaluator
from dagster._daemon.cli import main


def now(zone: str | None = None) -> datetime:
    """Return the time in the file."""
    return datetime.fromisoformat((Path(os.environ["INVPIPE_HOME"]) / "clock").read_text()).astimezone(ZoneInfo(zone or "UTC"))


if __name__ == "__main__":
    freshness_evaluator.get_current_datetime = now  # type: ignore[assignment]
    main()
