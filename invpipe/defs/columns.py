"""What the columns of every table mean, with their units, and which columns of other tables they are made from: shown in the UI.

A name that means the same in every table stands once, in `SHARED`; what is one table's own stands under it in `OWN`. `LINEAGE` holds
columns that are taken over or computed row by row from columns of tables before; what went through a model has none. Nothing that is
made depends on these words: they are in no code version, so that a better sentence makes no artifact stale.

Units: *units* are pieces of a SKU, *money* is in the shop's currency, *_frac* are shares from 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from invpipe.contracts import CONTRACTS
from invpipe.features import FAMILIES
from invpipe.forecast.classes import PERCENTS, PIT_BINS

#: Key of an asset's metadata in which Dagster looks for the lineage of columns.
LINEAGE_KEY = "dagster/column_lineage"
#: Key of the metadata of an asset or event in which Dagster looks for columns and types.
SCHEMA_KEY = "dagster/column_schema"
#: Columns and types of tables with an event per day that people look at: the UI's page of plots asks for 120 events with all they hold,
#: and a browser needs longer for the columns of those than for all else.
TYPES = {
    "order_plan": {
        "sku": "String",
        "vendor": "String",
        "order_units": "Int64",
        "unit_cost": "Float64",
        "order_value": "Float64",
        "position_units": "Int64",
        "position_after_units": "Int64",
        "demand_mean_units": "Float64",
        "demand_q50_units": "Int64",
        "demand_q90_units": "Int64",
        "sell_probability_last_unit": "Float64",
        "marginal_value_last_unit": "Float64",
        "value_per_capital": "Float64",
        "capital_price": "Float64",
        "reason": "String",
    }
}
#: Columns that mean the same in every table that has them.
SHARED = {
    "sku": "Number of the article in the shop's catalogue",
    "vendor": "Whom the shop orders from",
    "day": "Calendar day",
    "sales_units": "Units sold on the day",
    "views": "Views of the product's page on the day",
    "on_hand_units": "Units on the shelf when the day began, after its arrivals",
    "unit_cost": "What the vendor asks for one unit, money",
    "min_order_units": "Fewest units of one order, units",
    "pack_units": "Units of one pack; orders are whole packs beyond the fewest, units",
    "revenue": "What customers paid, net of discounts, money",
    "cutoff": "Last day that the model has seen",
    "fold": "Number of the walk-forward fold, the earliest is 0",
    "method": "Method or model that the row is about",
    "model": "Day up to which the model was trained; names it",
    "model_hash": "SHA-256 of the model's files, which its gates were passed with",
    "cells": "How many cells (a SKU and a day or window) were scored",
    "window_first": "First day of the window, counted from the cutoff, days",
    "window_last": "Last day of the window, counted from the cutoff, days",
    "mean_units": "Mean units per scored cell",
    "rps": "Ranked probability score of the whole law, units; lower is better",
    "randomised_coverage_80": "Share of cells in the 80 % interval, ties drawn by lot; .8 is right, 0-1",
    "scored_on": "What was held against the forecast: the true demand, or the units sold on orderable days",
    "family": "Family of features",
    "n_seeds": "Replays with other lead times over which the row is averaged",
    "policy": "Ordering policy that was replayed",
    "profit": "Revenue less cost of goods, holding, inbound, and what ending stock loses when it is liquidated, money",
    "profit_ending_at_zero": "The same with ending stock and pipeline worth nothing, money",
    "profit_ending_at_cost": "The same with ending stock and pipeline worth their cost, money",
    "fill_rate": "Share of the wanted units that were sold, 0-1",
    "holding_cost": "Cost of keeping stock, money",
    "inbound_cost": "Cost of receiving order lines, money",
    "order_lines": "Lines ordered",
    "refused_lines": "Lines that the replay refused because the vendor had no such offer, or the capital did not suffice",
    "ending_stock_value": "Stock on the shelf at the end at cost, money",
    "capital_used_mean": "Mean of stock and pipeline at cost over the days, money",
    "order_units": "Units to order",
    "order_value": "Units to order at their cost, money",
    "capital": "Money that may be bound, money",
    "capital_price": "What one more unit of capital would earn, money per money; 0 where there is enough",
    "bound": "Certified: no plan can be worth more, money",
    "expected_value": "What the plan is worth under the whole law of demand, money",
    "drift_psi": "How far the features moved since the model was trained, population stability index weighted by gain; below .1 is stable",
    "reason": "Why this many units, in words",
}

_CONTRACTS: dict[str, dict[str, str]] = {
    "items": {
        "title": "Name of the article",
        "brand": "Brand, null where unknown",
        "genre": "Department or genre, null where unknown",
        "format": "Kind or package, null where unknown",
        "release_date": "Day from which it is sold, null where unknown",
        "list_price": "Selling price of one unit, money",
    },
    "vendors": {
        "lead_time_days_mean": "Mean time from order to shelf, days",
        "lead_time_days_sd": "Standard deviation of that time, days",
        "min_order_value": "Least value of one order, money",
    },
    "sales_daily": {},
    "stock_daily": {},
    "page_views_daily": {},
    "offers": {
        "observed_at": "When the offer changed, local time of the shop",
        "in_stock": "Whether the vendor can deliver",
    },
    "orderable_daily": {
        "from_day": "First day on which demand could be seen, inclusive",
        "to_day": "Last day on which demand could be seen, inclusive",
    },
}

#: Figures of replays beside those of `SHARED`, and what a sweep has tried.
_SWEPT = {
    "review_period_days": "Days from one decision to the next",
    "leftover_value_frac": "What a leftover unit is worth as a share of its cost, 0-1; null where the policy does not ask",
    "exposure_frac": "Share of the days that the velocity is measured over, gamma-Poisson alone; null elsewhere",
    "safety_factor": "Standard deviations of demand kept beyond its mean; null where the policy has none",
    "cover_days": "Days of demand between s and S; null where the policy has none",
    "stockout_penalty_frac": "Penalty of the linear programme for a missing unit as a share of its price; null for the marginal policy",
    "capital_limit": "Capital the replay was given, money",
    "capital_used_max": "Largest sum of stock and pipeline at cost on any day, money",
    "profit_sd": "Standard deviation of the profit over the seeds, money",
}
_FRONTIER = {"stockout_penalty_frac", "capital_limit", "capital_used_max", "profit_sd"}

#: Meanings that one table has of its own.
OWN: dict[str, dict[str, str]] = {
    **{f"raw_{table}": columns for table, columns in _CONTRACTS.items()},
    **{f"core_{table}": columns for table, columns in _CONTRACTS.items()},
    "raw_orderable_daily": {"orderable": "Whether demand for the SKU could be seen on the day"},
    "true_demand": {"demand_units": "Units that customers wanted, sold or not; simulated shops alone know them"},
    "quarantine": {
        "table": "Table whose contract the row broke",
        "rules": "Names of the broken rules",
        "row_json": "The row as it came, JSON",
    },
    "quarantine_counts": {
        "table": "Table of the contracts",
        "rule": "Broken rule; null in the row of a table without a failure",
        "failed_rows": "Rows that broke it",
        "total_rows": "Rows of the table",
        "example": "Key of one such row",
    },
    "features": {
        **{f"rate_{days}": f"Units sold per orderable day of the last {days} days" for days in (7, 14, 28, 56, 91, 182)},
        **{f"sale_days_frac_{days}": f"Share of the orderable days of the last {days} with a sale, 0-1" for days in (28, 91, 364)},
        "ewma_rate": "Units per orderable day, weighted with a half-life of 28 days",
        "days_since_sale": "Days since the last sale",
        "rate_last_year": "Units per orderable day of the same window 52 weeks before",
        "views_28": "Page views of the last 28 days",
        "conversion_91": "Units sold per page view of the last 91 days",
        "orderable_frac_28": "Share of the last 28 days on which demand could be seen, 0-1",
        "vendors_in_stock": "Vendors that can deliver",
        "min_unit_cost": "Lowest cost of a unit among them, money",
        "day_of_week": "Weekday of the target's first day, Monday is 0",
        "day_of_month": "Day of the month of the target's first day",
        "days_to_christmas": "Days from the target's first day to Christmas",
        "release_year": "Year of the release",
        "age_days": "Days since the release, else since the first sale",
        "genre": "Number of the genre in the sorted list of all",
        "format": "Number of the format in the sorted list of all",
        "units_so_far": "Units sold since the history began",
        "sale_days_so_far": "Days with a sale since the history began",
        "days_since_first_sale": "Days since the first sale",
        "sale_interval_days": "Mean time from one day with a sale to the next, days",
        "units_per_sale_day_91": "Mean units of the days with a sale in the last 91 days",
        "units_per_sale_day_364": "Mean units of the days with a sale in the last 364 days",
        "sale_size_cv2_364": "Squared coefficient of variation of these units over 364 days",
        **{f"rate_{k + 1}_{k + 28}": f"Units per orderable day, {k + 1} to {k + 28} days back" for k in range(28, 196, 28)},
        "rate_91_last_year": "Units per orderable day of the 91 days up to the same day 52 weeks before",
        "season_last_year": "Rate of the same window 52 weeks before, over that of the 91 days up to the same day",
        "seasonal_rate": "Rate of the last 91 days times that ratio, units per orderable day",
    },
    "model_scores": {
        "against": "What the candidate is held against in this row's span: the baselines or the model that serves",
        "fitted_on": "Last day that the method was fitted on, null for a baseline",
        "first_day": "First day of the scored span",
        "last_day": "Last day of the scored span",
        "bias_frac": "Forecast units over units sold, less 1",
        "moved_most": "Features that moved most, with their index",
    },
    "model_gates": {
        "gate": "What was asked of the model",
        "value": "What it shows, in the terms of the message",
        "limit": "What it may show at most, from the settings",
        "passed": "Whether it holds",
        "blocks": "Whether a model that fails it may not serve",
        "message": "The verdict in words, with what to do",
    },
    "serving_model": {
        "day": "Day whose orders the model forecasts for",
        "why": "Why this model, in words",
        "pinned": "Whether an operator chose it",
        "held_back": "Newer models that failed their gates; empty where there are none",
        "gates": "Gates it passed, with their figures",
    },
    "demand_forecast": {"day": "Day that is forecast"},
    "window_forecast": {
        "mean_units": "Mean of the demand in the window, units",
        "size": "Size r of the negative binomial law: variance = mean + mean²/r; infinite for a Poisson law",
    },
    "fold_scores": {
        "target": "What was forecast: single days, or the whole window",
        "pinball_90_vs_zero": "Pinball loss at .9 over that of forecasting nothing; below 1 is better",
        "coverage_80": "Share of cells between the quantiles .1 and .9, both ends inclusive, 0-1",
        "coverage_80_of_zero": "Share of cells that are 0: the coverage of the interval [0, 0], 0-1",
        "mean_forecast_units": "Mean of the forecast per cell, units; null where a method has quantiles alone",
    },
    "fold_summary": {
        "target": "What was forecast: single days, or the whole window",
        "folds": "Folds in the mean",
        "90_vs_zero": "Pinball loss at .9 over that of forecasting nothing; below 1 is better",
        "P(y<q90)": "Share of cells below the quantile .9; calibrated where it is at most .9",
        "P(y≤q90)": "Share of cells at or below the quantile .9; calibrated where it is at least .9",
        "coverage_80": "Share of cells between the quantiles .1 and .9, both ends inclusive, 0-1",
        "of_[0,0]": "Share of cells that are 0: the coverage of the interval [0, 0], 0-1",
        "randomised_80": "Share of cells in the 80 % interval, ties drawn by lot; .8 is right, 0-1",
    },
    "fold_class_scores": {
        "window_days": "Length of the window, days",
        "demand_class": "Class of the SKU's demand at the cutoff (Syntetos, Boylan and Croston)",
        "volume_decile": "Decile of the SKU's sales of the last 91 days, 1 is the least; null where it never sold",
        **{f"below_{percent}": f"Cells below the quantile .{percent}" for percent in PERCENTS},
        **{f"at_most_{percent}": f"Cells at or below the quantile .{percent}" for percent in PERCENTS},
        **{
            f"pit_{k:02d}": f"Cells whose place in their law lies between {k / PIT_BINS:.2f} and {(k + 1) / PIT_BINS:.2f}"
            for k in range(PIT_BINS)
        },
        "units": "Sum of the units over the cells",
        "expected_units": "Sum of the forecast means over the cells, units",
        "rps": "Sum of the ranked probability scores over the cells, units",
        "pinball_90_of_zero": "Sum of the pinball losses at .9 of forecasting nothing, units",
        **{f"pinball_{percent}": f"Sum of the pinball losses at .{percent} over the cells, units" for percent in (10, 50, 90)},
    },
    "fold_calibration": {
        "demand_class": "Class of the SKUs' demand at the cutoff (Syntetos, Boylan and Croston)",
        "volume_decile": "Decile of the SKUs' sales of the last 91 days, 1 is the least",
        "bias_frac": "Forecast units over units, less 1",
        "pinball_90_vs_zero": "Pinball loss at .9 over that of forecasting nothing; below 1 is better",
    },
    "feature_families": {
        "gain_frac": "Share of what the boosters gained in training, 0-1",
        "mean_log_contribution": "Mean of how far the family moves the logarithm of a SKU's rate",
    },
    "forecast_drivers": {
        "rank": "1 is what moves this SKU's rate most",
        "feature": "Feature that moves it",
        "feature_value": "Value of the feature, in its own unit; null where missing",
        "log_contribution": "What it adds to the logarithm of the rate",
        "factor": "What it multiplies the rate by",
        "base_rate": "Rate that the boosters expect knowing nothing, units per orderable day",
        "rate": "Rate that all features make of it, units per orderable day",
        "mean_units": "Mean of the demand in the window, units",
    },
    "forecast_fan": {
        "sales_units": "Units sold on the day; null after the cutoff",
        "mean_units": "Mean of the units from the cutoff to the day; null before",
    },
    "order_plan": {
        "position_units": "On hand before the line, units",
        "position_after_units": "On hand once the line has arrived, units",
        "demand_mean_units": "Mean demand of the protection window, units",
        "demand_q50_units": "Median of that demand, units",
        "demand_q90_units": "Quantile .9 of that demand, units",
        "sell_probability_last_unit": "Probability that the last ordered unit sells in the window, 0-1",
        "marginal_value_last_unit": "What the last ordered unit is expected to earn, money",
        "value_per_capital": "What the last lot earns per money bound: the lines are in its order",
    },
    "order_plan_summary": {
        "method": "Method of the allocation",
        "status": "optimal where the bound is reached, else feasible",
        "objective": "What the plan is worth in the terms of its method, money",
        "gap_frac": "Share by which the bound lies above the objective",
        "rounding_loss": "What whole lots and vendors' minimums cost against the bound, money",
        "order_vendors": "Vendors that get an order",
        "deferred_vendors": "Vendors whose order would have been below their minimum",
    },
    "order_plan_changes": {
        "change": "new, more, fewer or gone",
        "order_units_before": "Units of the plan before",
        "units_difference": "Units more than in the plan before",
        "order_value_before": "Units of the plan before at their cost then, money",
        "value_difference": "Money more than in the plan before, money",
        "plan_before": "Day of the plan before",
    },
    "capital_curve": {"capital": "Money that the row's plan may spend, money"},
    "order_proposals": {
        "table": "Table of the shop's database that was written to",
        "lines": "Order lines written",
    },
    "ablation": {
        "share_of_clairvoyant_frac": "Profit as a share of the clairvoyant bound; null where the bound is not positive",
        "profit_difference": "Profit less that of the baseline, money",
        "profit_difference_low": "Lower end of its 95 % interval over seeds and blocks of SKUs, money",
        "profit_difference_high": "Upper end of that interval, money",
        "clairvoyant_bound": "Profit that no policy can exceed, money",
    },
    "policy_sweep": {name: text for name, text in _SWEPT.items() if name not in {"stockout_penalty_frac", "capital_limit"}},
    "lambda_frontier": {name: text for name, text in _SWEPT.items() if name in _FRONTIER}
    | {
        "realised_capital_price": "Profit per money from the limit before to this one; null at the first",
        "efficient": "Whether no other point earns more with no more capital",
    },
    "packing_plan": {
        "item": "What is loaded",
        "units": "Units to load",
        "mean_demand_units": "Mean demand, units",
        "last_unit_sells": "Probability that the last loaded unit sells, 0-1",
        "next_unit_sells": "Probability that one more would sell, 0-1",
        "expected_sales_units": "Units that sell on average",
        "expected_revenue": "What they earn on average, money",
    },
    "packing_capacities": {
        "plan": "Name of the plan",
        "capacity": "Name of the capacity",
        "available": "What there is of it, in its own unit",
        "used": "What the plan uses, in its own unit",
        "utilisation_frac": "Share that is used",
        "capacity_price": "What one more unit of it would earn, money",
    },
    "packing_comparison": {
        "plan": "Name of the plan",
        "units": "Units loaded",
        "mean_revenue": "Mean revenue, exact, money",
        "gap_frac": "Share by which it lies below the bound",
        "variance": "Variance of the revenue, exact, money squared",
        "simulated_mean": "Mean revenue of the simulated runs, money",
        "simulated_mean_low": "Lower end of its 99 % interval, money",
        "simulated_mean_high": "Upper end of that interval, money",
        "simulated_variance": "Variance of the simulated revenue, money squared",
        "revenue_05": "Revenue that 5 % of the runs stay below, money",
        "revenue_95": "Revenue that 5 % of the runs exceed, money",
        "fits": "Whether the plan is over no capacity",
    },
}

#: Names whose last digits are a share in percent: quantiles, losses and brackets at any of them.
PATTERNS = {
    re.compile(r"q(\d\d)"): "Quantile .{0} of the demand, units",
    re.compile(r"pinball_(\d\d)"): "Pinball loss at .{0} per cell, units; lower is better",
    re.compile(r"bracket_(\d\d)_low"): "Share of cells below the quantile .{0}; calibrated where it is at most .{0}",
    re.compile(r"bracket_(\d\d)_high"): "Share of cells at or below the quantile .{0}; calibrated where it is at least .{0}",
    re.compile(r"bracket_(\d\d)_violation_points"): "By how much .{0} lies outside its bracket, percentage points; 0 is calibrated",
}


def description_of(asset: str, column: str) -> str | None:
    """Return what a column means, with its unit; None where nobody has written it."""
    if (found := OWN.get(asset, {}).get(column) or SHARED.get(column)) is not None:
        return found
    matches = ((pattern.fullmatch(column), text) for pattern, text in PATTERNS.items())
    return next((text.format(*match.groups()) for match, text in matches if match), None)


# --- column lineage

_SALES, _SPANS = ("core_sales_daily.sales_units",), ("core_orderable_daily.from_day", "core_orderable_daily.to_day")
_OF_FAMILY = {
    "demand": (*_SALES, *_SPANS),
    "views": ("core_page_views_daily.views",),
    "sale pattern": _SALES,
}
_OF_FEATURE = {
    "conversion_91": (*_SALES, "core_page_views_daily.views"),
    "orderable_frac_28": _SPANS,
    "vendors_in_stock": ("core_offers.in_stock",),
    "min_unit_cost": ("core_offers.unit_cost", "core_offers.in_stock"),
    "release_year": ("core_items.release_date",),
    "age_days": ("core_items.release_date", "core_sales_daily.day"),
    "genre": ("core_items.genre",),
    "format": ("core_items.format",),
    "day_of_week": (),
    "day_of_month": (),
    "days_to_christmas": (),
}
_LOTS = ("core_offers.unit_cost", "core_offers.min_order_units", "core_offers.pack_units", "core_vendors.min_order_value")
_LAW = ("window_forecast.mean_units", "window_forecast.size")
_STOCK = ("core_stock_daily.on_hand_units",)
_UNITS = (*_LAW, *_STOCK, "core_items.list_price", *_LOTS)


def _same(table: str, of: str, *columns: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Columns that a table takes over from another one under the same name."""
    return {table: {column: (f"{of}.{column}",) for column in columns}}


#: Columns that each column is made from, written table.column.
LINEAGE: dict[str, dict[str, tuple[str, ...]]] = {
    **{
        f"core_{name}": {column: (f"raw_{name}.{column}",) for column in contract.schema.column_names()}
        for name, contract in CONTRACTS.items()
    },
    "core_orderable_daily": {
        "sku": ("raw_orderable_daily.sku",),
        "from_day": ("raw_orderable_daily.day", "raw_orderable_daily.orderable"),
        "to_day": ("raw_orderable_daily.day", "raw_orderable_daily.orderable"),
    },
    "training_grid": {"sku": ("core_orderable_daily.sku",), "day": _SPANS, "sales_units": _SALES},
    "features": {"sku": ("core_items.sku",)}
    | {name: found for family, names in FAMILIES.items() for name in names if (found := _OF_FEATURE.get(name, _OF_FAMILY.get(family, ())))},
    "order_plan": {
        "sku": ("core_offers.sku", "window_forecast.sku"),
        "vendor": ("core_offers.vendor",),
        "order_units": _UNITS,
        "unit_cost": ("core_offers.unit_cost",),
        "order_value": _UNITS,
        "position_units": _STOCK,
        "position_after_units": _UNITS,
        "demand_mean_units": _LAW[:1],
        "demand_q50_units": _LAW,
        "demand_q90_units": _LAW,
        "sell_probability_last_unit": _UNITS,
        "marginal_value_last_unit": _UNITS,
        "value_per_capital": _UNITS,
        "capital_price": _UNITS,
        "reason": _UNITS,
    },
    **_same("model_gates", "model_scores", "model", "model_hash"),
    "serving_model": {"model": ("model_gates.model",), "model_hash": ("model_gates.model_hash",), "gates": ("model_gates.message",)},
    "fold_summary": {
        "target": ("fold_scores.target",),
        "method": ("fold_scores.method",),
        "folds": ("fold_scores.fold",),
        "pinball_50": ("fold_scores.pinball_50",),
        "pinball_90": ("fold_scores.pinball_90",),
        "90_vs_zero": ("fold_scores.pinball_90_vs_zero",),
        "rps": ("fold_scores.rps",),
        "P(y<q90)": ("fold_scores.bracket_90_low",),
        "P(y≤q90)": ("fold_scores.bracket_90_high",),
        "coverage_80": ("fold_scores.coverage_80",),
        "of_[0,0]": ("fold_scores.coverage_80_of_zero",),
        "randomised_80": ("fold_scores.randomised_coverage_80",),
    },
    **_same("fold_calibration", "fold_class_scores", "demand_class", "volume_decile", "method", "cells", "rps"),
    "forecast_fan": {"sku": ("core_items.sku",), "sales_units": _SALES},
    "order_proposals": {"lines": ("order_plan.sku",), "order_value": ("order_plan.order_value",)},
}


def table_schema(asset: str, types: Mapping[str, str]) -> dg.TableSchema:
    """Return columns and their types with what the columns of the asset mean."""
    return dg.TableSchema([dg.TableColumn(name, dtype, description_of(asset, name)) for name, dtype in types.items()])


def with_lineage(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """Return the assets, those of `LINEAGE` with it and with their `TYPES`: once in the definition, not in the event of every partition."""

    def traced(spec: dg.AssetSpec) -> dg.AssetSpec:
        asset = spec.key.to_user_string()
        deps = {name: [_dep(source) for source in sources] for name, sources in LINEAGE.get(asset, {}).items() if sources}
        known: dict[str, Any] = {LINEAGE_KEY: dg.TableColumnLineage(deps)} if deps else {}
        if asset in TYPES:
            known[SCHEMA_KEY] = table_schema(asset, TYPES[asset])
        return spec.merge_attributes(metadata=known) if known else spec

    return [made.map_asset_specs(traced) if any(key.to_user_string() in LINEAGE for key in made.keys) else made for made in assets]


def _dep(source: str) -> dg.TableColumnDep:
    table, _, column = source.partition(".")
    return dg.TableColumnDep(dg.AssetKey(table), column)
