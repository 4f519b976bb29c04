"""Files of an order plan for people and other programs, and what has changed since the plan before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from invpipe.allocation import buyer_table, vendor_totals
from invpipe.atomic import atomic_replace
from invpipe.defs.common import figures
from invpipe.defs.provenance import ArtifactStore
from invpipe.report.tables import markdown
from invpipe.settings import Settings

#: Directory of the files under the home.
EXPORTS = Path("exports", "order_plan")
#: Rows of the tables shown in metadata; the files have all.
SHOWN_ROWS = 200


def plan_before(settings: Settings, day: str, made: Mapping[str, pl.DataFrame]) -> tuple[str, pl.DataFrame] | None:
    """Return day and lines of the last plan before a day, of this run or kept; None where there is none."""
    first = ArtifactStore.of(settings).frame_path(("order_plan", day))
    kept = {path.stem: path for path in first.parent.glob("*.parquet") if _is_day(path.stem)}
    before = max((known for known in {*kept, *made} if known < day), default=None)
    if before is None:
        return None
    return before, made[before] if before in made else pl.read_parquet(kept[before])


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def exported(home: Path, day: str, lines: pl.DataFrame, changes: pl.DataFrame | None) -> dict[str, dg.MetadataValue]:
    """Write the plan as CSV and Parquet, by vendor and SKU, and the changes as CSV, each in one step; return where, as metadata."""
    ordered = lines.sort("vendor", "sku")
    paths = {"csv": home / EXPORTS / f"{day}.csv", "parquet": home / EXPORTS / f"{day}.parquet"}
    with atomic_replace(paths["csv"]) as draft:
        ordered.write_csv(draft)
    with atomic_replace(paths["parquet"]) as draft:
        ordered.write_parquet(draft)
    if changes is not None:
        paths["changes_csv"] = home / EXPORTS / f"{day}_changes.csv"
        with atomic_replace(paths["changes_csv"]) as draft:
            changes.write_csv(draft)
    return {name: dg.MetadataValue.path(path.resolve()) for name, path in paths.items()}


def buyer_metadata(lines: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    """Return the totals per vendor and the lines by vendor as tables."""
    return {"vendors": _table(vendor_totals(lines)), "buyer_table": _table(buyer_table(lines))}


def changes_metadata(before: str, changes: pl.DataFrame) -> dict[str, Any]:
    """Return against which day, how many lines of each kind, the money, and the lines."""
    counts = {name: dg.MetadataValue.int(int((changes["change"] == name).sum())) for name in ("new", "gone", "more", "fewer")}
    return {
        "changes_since": dg.MetadataValue.text(before),
        **{f"lines_{name}": count for name, count in counts.items()},
        **figures({"order_value_difference": float(changes["value_difference"].sum())}),
        "changes": _table(changes),
    }


def _table(frame: pl.DataFrame) -> dg.MetadataValue:
    more = f"\n\n{len(frame) - SHOWN_ROWS} further rows are in the files." if len(frame) > SHOWN_ROWS else ""
    return dg.MetadataValue.md(markdown(frame.head(SHOWN_ROWS)) + more)
