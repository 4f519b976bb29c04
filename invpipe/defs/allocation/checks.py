"""Blocking check of the order plan: it stays within the capital, every line has its reason."""

import dagster as dg
import polars as pl

from invpipe.defs.common import figures
from invpipe.defs.partitions import Partitions


def allocation_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the allocation room."""

    @dg.asset_check(asset="order_plan", blocking=True, partitions_def=partitions.day, additional_ins={"order_plan_summary": dg.AssetIn()})
    def plan_within_capital(order_plan: dict[str, pl.DataFrame], order_plan_summary: dict[str, pl.DataFrame]) -> dg.AssetCheckResult:
        """Check that the lines cost no more than the capital, order at least one unit each, no offer twice, each with a reason."""
        wrong = [
            f"{day}: {fault}" for day, lines in order_plan.items() for fault in faults(lines, float(order_plan_summary[day]["capital"][0]))
        ]
        value = sum(float((lines["order_units"] * lines["unit_cost"]).sum()) for lines in order_plan.values())
        return dg.AssetCheckResult(
            passed=not wrong, description="; ".join(wrong) or "within capital", metadata=figures({"order_value": value})
        )

    return [plan_within_capital]


def faults(lines: pl.DataFrame, capital: float) -> list[str]:
    """Return what is wrong with a day's order lines, in words; empty where nothing is."""
    value = float((lines["order_units"] * lines["unit_cost"]).sum())
    counts = {
        "offers are ordered twice": len(lines) - lines.n_unique(["sku", "vendor"]),
        "lines order no unit": int((lines["order_units"] <= 0).sum()),
        "lines have no reason": int((lines["reason"].fill_null("").str.len_chars() == 0).sum()),
    }
    over = [f"order value {value:.2f} exceeds the capital {capital:.2f}"] if value > capital * (1 + 1e-9) else []
    return over + [f"{count} {what}" for what, count in counts.items() if count]
