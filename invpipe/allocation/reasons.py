"""Order lines: the figures behind every ordered SKU and one sentence that says why it is bought up to there.

Value figures are those of the full demand law (v_n of :mod:`invpipe.allocation.problem`) whatever method made the plan, so that lines of
different plans can be compared. Only the exact method buys by them; the sentences of the other methods name their own target and state
the value beside it.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from invpipe.allocation.exact import span_values
from invpipe.allocation.problem import AllocationProblem, FloatArray, IntArray
from invpipe.allocation.procurement import ProcurementProblem, span_worth

#: A lot counts as worth the capital price within this relative difference: the price is the ratio of one of them.
PRICE_TOLERANCE = 1e-9
#: Columns of the lines, in order.
LINE_COLUMNS = (
    "sku",
    "vendor",
    "order_units",
    "unit_cost",
    "order_value",
    "position_units",
    "position_after_units",
    "demand_mean_units",
    "demand_q50_units",
    "demand_q90_units",
    "sell_probability_last_unit",
    "marginal_value_last_unit",
    "value_per_capital",
    "capital_price",
    "reason",
)
#: Columns of the lines of a procurement plan, in order.
OFFER_COLUMNS = (
    "sku",
    "vendor",
    "order_units",
    "unit_cost",
    "order_value",
    "sku_units",
    "last_lot_units",
    "last_lot_value",
    "last_lot_price",
    "reason",
)


def _lot_values(problem: AllocationProblem, first_units: IntArray, last_units: IntArray) -> FloatArray:
    law = problem.demand
    return np.asarray(span_values(law.mean, law.size, problem.value_slope, problem.value_loss, first_units, last_units))


def _figures(problem: AllocationProblem, order_units: IntArray) -> pl.DataFrame:
    """Return the figures of every row of the problem; all of them are ordered."""
    after = problem.inventory_position_units + order_units
    last, pack = problem.last_lot_units(order_units), problem.pack_units
    sell = problem.demand.survival(after)
    last_value = _lot_values(problem, after - last, after)
    next_value = _lot_values(problem, after, after + pack)
    q50, q90 = problem.demand.quantile(0.5), problem.demand.quantile(0.9)
    given = problem.median_units is not None and problem.upper_units is not None
    return pl.DataFrame(
        {
            "sku": list(problem.skus),
            "vendor": list(problem.vendors),
            "order_units": order_units,
            "unit_cost": problem.unit_cost,
            "order_value": order_units * problem.unit_cost,
            "position_units": problem.inventory_position_units,
            "position_after_units": after,
            "demand_mean_units": problem.demand.mean,
            "demand_q50_units": q50,
            "demand_q90_units": q90,
            "sell_probability_last_unit": sell,
            "marginal_value_last_unit": problem.value_slope * sell - problem.value_loss,
            "value_per_capital": last_value / (last * problem.unit_cost),
            "last_lot_units": last,
            "last_lot_value": last_value,
            "next_lot_units": pack,
            "next_lot_value": next_value,
            "next_lot_cost": pack * problem.unit_cost,
            "min_order_units": problem.min_order_units,
            "lp_median": problem.median_units if given else q50.astype(np.float64),
            "lp_upper": problem.upper_units if given else q90.astype(np.float64),
        },
        schema_overrides={"sku": pl.String, "vendor": pl.String},
    )


def _money(name: str) -> pl.Expr:
    """Write the amount without its sign, two decimals."""
    cents = (pl.col(name).abs() * 100).round().cast(pl.Int64)
    return pl.format("{}.{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))


def _units(name: str) -> pl.Expr:
    return pl.col(name).round(2).cast(pl.String).str.strip_suffix(".0")


def _count(name: str, noun: str) -> pl.Expr:
    return pl.format("{} {}", pl.col(name), pl.when(pl.col(name) == 1).then(pl.lit(noun)).otherwise(pl.lit(noun + "s")))


def _opening(method: str) -> pl.Expr:
    up_to = {
        "exact": pl.lit(""),
        "lp": pl.format(" between the programme's median {} and its upper quantile {}", _units("lp_median"), _units("lp_upper")),
        "mip": pl.lit(""),
        "lagrangian": pl.lit(""),
        "greedy": pl.format(" towards the mean demand of {}", _units("demand_mean_units")),
    }[method]
    return pl.format(
        "{} raise{} the position from {} to {}{}",
        _count("order_units", "unit"),
        pl.when(pl.col("order_units") == 1).then(pl.lit("s")).otherwise(pl.lit("")),
        pl.col("position_units"),
        pl.col("position_after_units"),
        up_to,
    )


def _last_unit() -> pl.Expr:
    """Say what the last unit is worth, and which lot forced it where it does not pay by itself."""
    sells = (pl.col("sell_probability_last_unit") * 100).round(1)
    forced = (pl.col("marginal_value_last_unit") <= 0) & (pl.col("last_lot_units") > 1) & (pl.col("last_lot_value") > 0)
    by_minimum = (pl.col("order_units") == pl.col("last_lot_units")) & (pl.col("min_order_units") > 1)
    cause = (
        pl.when(by_minimum)
        .then(pl.format("minimum order of {}", _count("min_order_units", "unit")))
        .otherwise(pl.format("pack of {}", _count("last_lot_units", "unit")))
    )
    worth = (
        pl.when(forced)
        .then(
            pl.format(
                "loses {} by itself, but the {} it belongs to earns {}",
                _money("marginal_value_last_unit"),
                cause,
                _money("last_lot_value"),
            )
        )
        .when(pl.col("marginal_value_last_unit") > 0)
        .then(pl.format("earns {}", _money("marginal_value_last_unit")))
        .otherwise(pl.format("loses {}", _money("marginal_value_last_unit")))
    )
    return pl.format("the last unit sells with a probability of {} % and {}", sells, worth)


def _next_lot(method: str) -> pl.Expr:
    """Say why the order stops here."""
    ratio = pl.col("next_lot_value") / pl.col("next_lot_cost")
    lot = _count("next_lot_units", "further unit")
    losing = pl.format("{} would lose {}", lot, _money("next_lot_value"))
    earning = pl.format("{} would earn {} per unit of capital", lot, ratio.round(3))
    if method != "exact":
        return pl.when(pl.col("next_lot_value") <= 0).then(losing).otherwise(earning)
    price = pl.col("capital_price")
    unaffordable = pl.format(
        "{} but cost{} {} with {} of capital left",
        earning,
        pl.when(pl.col("next_lot_units") == 1).then(pl.lit("s")).otherwise(pl.lit("")),
        _money("next_lot_cost"),
        _money("capital_left"),
    )
    outbid = pl.format("{}, less than the capital price of {}", earning, price.round(3))
    return (
        pl.when(pl.col("next_lot_value") <= 0)
        .then(losing)
        .when(ratio >= price * (1.0 - PRICE_TOLERANCE))
        .then(unaffordable)
        .otherwise(outbid)
    )


def order_lines(problem: AllocationProblem, order_units: IntArray, capital_price: float, method: str) -> pl.DataFrame:
    """Return one row per ordered SKU, highest value per capital of the last lot first, ties by sku, with `LINE_COLUMNS`."""
    # without a limit the sentence that names the capital left is never chosen, but is built all the same
    left = max(problem.capital - float(order_units @ problem.unit_cost), 0.0) if np.isfinite(problem.capital) else 0.0
    rows = np.flatnonzero(order_units)
    return (
        _figures(problem.take(rows), order_units[rows])
        .with_columns(capital_price=pl.lit(capital_price), capital_left=pl.lit(left))
        .with_columns(reason=pl.format("{}; {}; {}.", _opening(method), _last_unit(), _next_lot(method)))
        .sort(["value_per_capital", "sku"], descending=[True, False])
        .select(LINE_COLUMNS)
    )


def offer_lines(problem: ProcurementProblem, order_units: IntArray, capacity_prices: FloatArray) -> pl.DataFrame:
    """Return one row per ordered offer, its last lot's value per priced use highest first, ties by sku and vendor, with `OFFER_COLUMNS`.

    The last lot of each line is valued as the last of its SKU.
    """
    rows = np.flatnonzero(order_units)
    units, total = order_units[rows], problem.sku_units(order_units)[problem.offer_sku[rows]]
    first, pack = problem.first_lot_units[rows], problem.pack_units[rows]
    last = np.where(units == first, first, pack)
    value = span_worth(
        problem.segment_start, problem.segment_units, problem.segment_value, problem.offer_sku[rows], total - last, last
    ) - problem.charge[rows] * last  # fmt: skip
    priced = (capacity_prices @ problem.capacity_use[:, rows]) * last
    frame = pl.DataFrame(
        {
            "sku": [problem.skus[i] for i in problem.offer_sku[rows]],
            "vendor": [problem.vendors[v] for v in problem.offer_vendor[rows]],
            "order_units": units,
            "unit_cost": problem.unit_cost[rows],
            "order_value": units * problem.unit_cost[rows],
            "sku_units": total.astype(np.int64),
            "last_lot_units": last,
            "last_lot_value": value,
            "last_lot_price": priced,
        },
        schema_overrides={"sku": pl.String, "vendor": pl.String},
    )
    return _with_offer_reason(frame, problem, rows, last, capacity_prices).sort(
        [pl.col("last_lot_value") / pl.col("last_lot_price"), "sku", "vendor"], descending=[True, False, False]
    ).select(OFFER_COLUMNS)  # fmt: skip


def _with_offer_reason(
    frame: pl.DataFrame, problem: ProcurementProblem, rows: IntArray, last: IntArray, capacity_prices: FloatArray
) -> pl.DataFrame:
    """Say what the last unit or lot earns, against the price of the one capacity or of all together."""
    at = pl.col("sku_units")
    lot = (
        pl.when(pl.col("last_lot_units") == 1)
        .then(pl.format("unit {}", at))
        .otherwise(pl.format("units {} to {}", at - pl.col("last_lot_units") + 1, at))
    )
    earns = pl.when(pl.col("last_lot_units") == 1).then(pl.lit("earns")).otherwise(pl.lit("earn"))
    if len(problem.capacity_names) == 1:
        name, price = problem.capacity_names[0], float(capacity_prices[0])
        used = pl.Series(problem.capacity_use[0, rows] * last, dtype=pl.Float64)
        per_use = pl.when(used > 0).then(pl.col("last_lot_value") / used).otherwise(None)
        text = pl.format(
            "{} {} {} per unit of {}, {} earns {}", lot, earns, per_use.round(3), pl.lit(name), pl.lit(name), pl.lit(round(price, 3))
        )
        free = pl.format("{} {} {} and use{} no {}", lot, earns, pl.col("last_lot_value").round(2),
                         pl.when(pl.col("last_lot_units") == 1).then(pl.lit("s")).otherwise(pl.lit("")), pl.lit(name))  # fmt: skip
        return frame.with_columns(reason=pl.when(per_use.is_null()).then(free).otherwise(text) + ".")
    names = ", ".join(f"{name} {price:.3g}" for name, price in zip(problem.capacity_names, capacity_prices, strict=True))
    uses = f"; what {{}} uses would earn {{}} elsewhere ({names})" if names else ""
    which = pl.when(pl.col("last_lot_units") == 1).then(pl.lit("it")).otherwise(pl.lit("the lot"))
    parts = [lot, earns, pl.col("last_lot_value").round(2)] + ([which, pl.col("last_lot_price").round(2)] if names else [])
    return frame.with_columns(reason=pl.format("{} {} {}" + uses + ".", *parts))
