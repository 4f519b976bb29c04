"""Packing under several capacities: the certified plan, and how it compares."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import polars as pl

from invpipe.defs.common import ShopSettings, declared, figures
from invpipe.defs.packing.charts import revenue_chart, utilisation_chart
from invpipe.forecast.law import CountLaw
from invpipe.packing import (
    PackingProblem,
    capacity_use,
    compare_plans,
    load_to_mean,
    pack,
    revenue_histogram,
    simulate_revenue,
)
from invpipe.packing.problem import MOST_UNITS
from invpipe.report.images import png_markdown
from invpipe.report.tables import markdown
from invpipe.settings.packing import PackingSettings

#: Names of the two plans that are always made.
OPTIMUM, RULE_OF_THUMB = "optimum", "rule of thumb"
#: Items of the plan shown in the UI.
SHOWN_ITEMS = 30


def packing_problem(section: PackingSettings) -> PackingProblem:
    """Return the problem the settings describe."""
    items, capacities = section.items, tuple(section.capacities)
    return PackingProblem(
        items=tuple(packed.item for packed in items),
        capacities=capacities,
        unit_revenue=np.array([packed.unit_revenue for packed in items]),
        demand=CountLaw(
            np.array([packed.mean_units for packed in items]),
            np.array([np.inf if packed.size is None else packed.size for packed in items]),
        ),
        unit_use=np.array([[packed.unit_use.get(name, 0.0) for name in capacities] for packed in items]).reshape(len(items), -1),
        capacity=np.array([section.capacities[name] for name in capacities]),
        max_units=np.array([MOST_UNITS if packed.max_units is None else packed.max_units for packed in items], dtype=np.int64),
    )


def comparison_table(comparison: pl.DataFrame) -> pl.DataFrame:
    """Return the comparison for people: cents and hundredths of a percent are where these plans differ."""
    rows = [
        {
            "plan": row["plan"],
            "mean revenue": f"{row['mean_revenue']:,.4f}",
            "below the bound": f"{max(row['gap_frac'], 0.0):.4%}",
            "variance": f"{row['variance']:,.2f}",
            "simulated, 99 %": f"{row['simulated_mean']:,.2f} ± {(row['simulated_mean_high'] - row['simulated_mean_low']) / 2:.2f}",
            "simulated variance": f"{row['simulated_variance']:,.2f}",
            "5 % to 95 % of runs": f"{row['revenue_05']:,.2f} to {row['revenue_95']:,.2f}",
        }
        for row in comparison.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def packing_assets() -> list[dg.AssetsDefinition]:
    """Return the assets of the packing room."""
    shared = declared("report", __file__, "packing", "seed", kinds={"polars", "highs"}) | {"group_name": "packing"}
    outs = {
        "packing_plan": "Units of each item that earn most on average under all capacities, with a certified gap.",
        "packing_capacities": "Share of each capacity that each plan uses, and what one more unit of it would earn.",
        "packing_comparison": "Optimum, rule of thumb and the settings' own plans: exact and simulated revenue, one row per plan.",
    }

    @dg.multi_asset(outs={name: dg.AssetOut(description=text, **shared) for name, text in outs.items()}, name="pack_capacities")
    def pack_capacities(settings: ShopSettings) -> Iterator[dg.Output[pl.DataFrame]]:
        """Pack what the section `packing` of the settings describes."""
        now = settings.get()
        section = now.packing
        problem = packing_problem(section)
        plan = pack(problem)
        plans = {OPTIMUM: plan.units, RULE_OF_THUMB: load_to_mean(problem)}
        plans |= {name: np.array([units.get(item, 0) for item in problem.items]) for name, units in section.plans.items()}
        simulated = {name: simulate_revenue(problem, units, section.runs, now.seed) for name, units in plans.items()}
        comparison = compare_plans(problem, plans, simulated, plan.bound)
        prices = plan.capacity_lines().select("capacity", "capacity_price")
        use = capacity_use(problem, plans).join(prices, on="capacity", how="left", maintain_order="left")
        certificate = {
            "status": plan.status,
            "objective": plan.objective,
            "bound": plan.bound,
            "gap_frac": plan.gap,
            "dual_rounds": len(plan.history),
        }
        lines = plan.lines()
        yield dg.Output(
            lines, "packing_plan", metadata={**figures(certificate), "units": dg.MetadataValue.md(markdown(lines.head(SHOWN_ITEMS)))}
        )
        yield dg.Output(
            use, "packing_capacities", metadata={"utilisation": dg.MetadataValue.md(png_markdown(utilisation_chart(use), "utilisation"))}
        )
        picture = png_markdown(revenue_chart(revenue_histogram(simulated)), "revenue")
        yield dg.Output(
            comparison,
            "packing_comparison",
            metadata={
                "plans": dg.MetadataValue.md(markdown(comparison_table(comparison))),
                "revenue": dg.MetadataValue.md(picture),
                "runs": section.runs,
            },
        )

    return [pack_capacities]
