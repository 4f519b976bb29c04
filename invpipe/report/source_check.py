"""What `invpipe check-sources` prints: one block of lines per table, or one JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from invpipe.sources.databases.check import TableCheck


def check_lines(check: TableCheck) -> list[str]:
    """Return the lines about one table."""
    mark = "FAILED" if check.error else "BAD ROWS" if check.failures else "ok"
    lines = [f"{check.table}  ({check.place})  {mark}"]
    if check.error:
        return [*lines, f"    {check.error}"]
    if check.day is None:
        lines.append(f"    {check.day_rows:,} rows in {duration(check.load_seconds)}")
    else:
        lines.append(f"    {check.day_rows:,} rows on {check.day}")
        if check.total_rows:
            load = f"about {duration(check.load_seconds)} for a full load"
            lines.append(f"    {check.total_rows:,} rows in all, from {check.first} to {check.last}, {load}")
    lines += [f"    ! {failure}" for failure in check.failures]
    return [*lines, *(f"    . {remark}" for remark in check.remarks)]


def check_document(checks: Sequence[TableCheck]) -> str:
    """Return all checks as JSON; an unknown time is null."""
    tables = [{name: None if value != value else value for name, value in asdict(check).items()} for check in checks]
    return json.dumps({"tables": tables}, indent=1, default=str)


def duration(seconds: float) -> str:
    """Return seconds in words for people: ``0.4 s``, ``12 s``, ``7 min``, ``3.5 h``."""
    if math.isnan(seconds):
        return "unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
