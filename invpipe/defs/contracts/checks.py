"""Blocking check of the contracts: too many quarantined rows stop everything downstream."""

import dagster as dg
import polars as pl

from invpipe.defs.common import ShopSettings, figures


@dg.asset_check(asset="quarantine_counts", blocking=True)
def quarantine_within_threshold(quarantine_counts: pl.DataFrame, settings: ShopSettings) -> dg.AssetCheckResult:
    """No rule fails on more than the allowed share of a table's rows (setting quarantine_threshold_frac)."""
    threshold = settings.get().quarantine_threshold_frac
    bad = quarantine_counts.filter(pl.col("failed_rows") > threshold * pl.col("total_rows"))
    worst = "; ".join(
        f"{r['failed_rows']} of {r['total_rows']} rows of {r['table']} break {r['rule']}, e.g. {r['example']}" for r in bad.to_dicts()
    )
    cure = "mend the rows in the source and extract their days again, or raise quarantine_threshold_frac"
    metadata = figures({"threshold_frac": threshold, "quarantined_rows": int(quarantine_counts["failed_rows"].sum())})
    return dg.AssetCheckResult(
        passed=bad.is_empty(), metadata=metadata, description=f"{worst}; {cure}" if worst else "every table is within the threshold"
    )
