"""Blocking check of the packing plan: it fits, and nothing beats its bound."""

import dagster as dg
import polars as pl

from invpipe.defs.packing.assets import OPTIMUM

#: A capacity may be exceeded, and a bound passed, by this share: rounding noise of a sum.
TOLERANCE = 1e-9


def packing_checks() -> list[dg.AssetChecksDefinition]:
    """Return the checks of the packing room."""

    @dg.asset_check(asset="packing_comparison", blocking=True, additional_ins={"packing_capacities": dg.AssetIn()})
    def packing_plan_holds(packing_comparison: pl.DataFrame, packing_capacities: pl.DataFrame) -> dg.AssetCheckResult:
        """Check that the optimum is over no capacity and that no plan that fits earns more than its bound."""
        wrong = packing_faults(packing_comparison, packing_capacities)
        return dg.AssetCheckResult(passed=not wrong, description="; ".join(wrong) or "fits, and nothing beats its bound")

    return [packing_plan_holds]


def packing_faults(comparison: pl.DataFrame, capacities: pl.DataFrame) -> list[str]:
    """Return what is wrong with the plans, in words; empty where nothing is."""
    over = capacities.filter((pl.col("plan") == OPTIMUM) & (pl.col("used") > pl.col("available") * (1 + TOLERANCE)))
    above = comparison.filter(pl.col("fits") & (pl.col("gap_frac") < -TOLERANCE))
    wrong = [f"{row['capacity']}: {row['used']:,.1f} of {row['available']:,.1f} used" for row in over.iter_rows(named=True)]
    wrong += [f"plan {row['plan']!r} earns more than the bound, by {-row['gap_frac']:.2e}" for row in above.iter_rows(named=True)]
    return wrong
