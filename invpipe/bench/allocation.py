"""Benchmark of the allocation: all methods on simulated problems of the sizes asked for.

One row per size n. "exact", "greedy" and "lp" plan one offer per SKU under one capital, their demand a negative binomial law; "quantiles"
is the document's model of the same SKUs, by the exact method and by the programme in both forms; "lagrangian" has three offers per SKU in
lots and three capacities; "mip" adds to three offers in lots one vendor with a fixed cost and a minimum per 200 SKUs, 2 to 20 of them.

A plan's own clock is read, one thread, compiled before. The three-variable programme and the branch and bound are left out where they
would take minutes. All problems are simulated and say nothing about a shop.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from invpipe.allocation import AllocationParams, AllocationProblem, Method, OrderPlan, ProcurementProblem, allocate, procurement_of
from invpipe.forecast.law import CountLaw
from invpipe.sweep.memory import private_mb

Figures = dict[str, Any]

#: Share of the capital, or of each capacity, that an unlimited plan would spend.
CAPITAL_FRAC = 0.3
#: Runs per method.
RUNS: dict[Method, int] = {"exact": 7, "greedy": 5, "lp": 3}
#: Largest problem of the three-variable programme, SKUs.
MOST_LP_SKUS = 50_000
#: Offers per SKU, SKUs per vendor with terms, and largest such problem, SKUs.
OFFERS, SKUS_PER_VENDOR, MOST_MIP_SKUS = 3, 200, 5_000
#: Gap and seconds asked of method "mip" up to 2,000 SKUs and above, and of "lagrangian".
SMALL_MIP, LARGE_MIP, LAGRANGIAN = (1e-3, 15.0), (1e-2, 60.0), (1e-3, 60.0)
SMALL_MIP_SKUS = 2_000


def allocation_problem(n_rows: int, seed: int, capital: float = np.inf) -> AllocationProblem:
    """Return a problem with long-tailed demand, one row in five Poisson, margins of 15 to 55 % and some stock; simulated."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(-0.5, 1.5, n_rows))
    size = np.where(rng.random(n_rows) < 0.2, np.inf, rng.gamma(2.0, 1.0, n_rows) + 0.05)
    price = (np.round(np.exp(rng.normal(2.5, 0.7, n_rows)), 2) + 0.5).astype(np.float64)
    cost = np.round(price * rng.uniform(0.45, 0.85, n_rows), 2)
    return AllocationProblem(
        skus=tuple(f"S{i:06d}" for i in range(n_rows)),
        vendors=tuple(f"V{i % 20:02d}" for i in range(n_rows)),
        unit_price=price,
        unit_cost=cost,
        holding_cost=0.02 * cost,
        salvage_value=0.5 * cost,
        inventory_position_units=rng.poisson(0.6 * mean),
        demand=CountLaw(mean, size),
        capital=capital,
    )


def quantile_problem(problem: AllocationProblem) -> ProcurementProblem:
    """Return the document's model of the same SKUs: two quantiles of the demand, a penalty of 1.2 prices, the same capital."""
    law = problem.demand
    return AllocationProblem.from_quantiles(
        problem.unit_price,
        problem.unit_cost,
        problem.holding_cost,
        problem.inventory_position_units.astype(np.float64),
        law.quantile(0.5).astype(np.float64),
        law.quantile(0.9).astype(np.float64),
        1.2 * problem.unit_price,
        problem.capital,
    )


def procurement_problem(n_skus: int, n_vendors: int, seed: int, *, capacities: int = 1, terms: bool = True) -> ProcurementProblem:
    """Return a problem with three offers per SKU in packs, some with minimums; money, volume and weight; vendor terms; simulated."""
    rng = np.random.default_rng(seed)
    base = allocation_problem(n_skus, seed)
    offers, m = min(OFFERS, n_vendors), min(OFFERS, n_vendors) * n_skus
    cost = np.round(np.repeat(base.unit_cost, offers) * rng.uniform(1.0, 1.25, m), 2)
    worth = procurement_of(replace(base, min_order_units=np.full(n_skus, 4), pack_units=np.full(n_skus, 6)))  # worth past every lot
    size = np.repeat(rng.uniform(0.1, 2.0, n_skus), offers), np.repeat(rng.uniform(0.1, 5.0, n_skus), offers)
    use = np.stack([cost, *size])[:capacities]
    free = ProcurementProblem(
        skus=base.skus,
        vendors=tuple(f"V{v:02d}" for v in range(n_vendors)),
        segment_start=worth.segment_start,
        segment_units=worth.segment_units,
        segment_value=worth.segment_value,
        offer_sku=np.repeat(np.arange(n_skus), offers),
        offer_vendor=((rng.integers(n_vendors, size=n_skus)[:, None] + np.arange(offers)) % n_vendors).ravel(),
        unit_cost=cost,
        capacity_names=("capital", "volume", "weight")[:capacities],
        capacity_use=use,
        capacity_limit=np.full(capacities, np.inf),
        min_order_units=rng.choice([1, 1, 2, 4], m),
        pack_units=rng.choice([1, 2, 3, 6], m),
    )
    wanted = allocate(free, "lagrangian").order_units
    share = CAPITAL_FRAC * float(cost @ wanted) / n_vendors
    return replace(
        free,
        capacity_limit=CAPITAL_FRAC * free.usage(wanted),
        vendor_fixed_cost=np.round(rng.uniform(0.02, 0.15, n_vendors) * share, 2) if terms else np.zeros(1),
        vendor_min_order_value=np.round(rng.uniform(0.2, 1.5, n_vendors) * share, 2) if terms else np.zeros(1),
    )


def _figures(name: str, plan: OrderPlan, seconds: float | None = None) -> Figures:
    return {f"{name}_ms": 1e3 * (plan.seconds if seconds is None else seconds), f"{name}_gap_frac": plan.gap}


def _median(problem: AllocationProblem | ProcurementProblem, method: Method, runs: int, **params: Any) -> tuple[OrderPlan, float]:
    plans = [allocate(problem, method, AllocationParams(**params)) for _ in range(runs)]
    return plans[0], statistics.median(plan.seconds for plan in plans)


def _one_offer_each(n: int, seed: int) -> Figures:
    problem = allocation_problem(n, seed, CAPITAL_FRAC * allocate(allocation_problem(n, seed)).order_value)
    runs = {method: count for method, count in RUNS.items() if method != "lp" or n <= MOST_LP_SKUS}
    done = {method: _median(problem, method, count) for method, count in runs.items()}
    values = {method: plan.expected_value for method, (plan, _) in done.items()}
    out: Figures = {f"{method}_ms": 1e3 * seconds for method, (_, seconds) in done.items()}
    if "lp" in done:
        out["lp_over_exact"] = done["lp"][1] / done["exact"][1]
    out |= {f"{method}_expected_value": value for method, value in values.items()}
    out |= {f"{method}_loss_frac": 1.0 - value / values["exact"] for method, value in values.items() if method != "exact"}
    out["exact_gap_frac"] = done["exact"][0].gap
    quantiles = quantile_problem(problem)
    exact, seconds = _median(quantiles, "exact", RUNS["exact"])
    segments, lp_seconds = _median(quantiles, "lp", RUNS["lp"] if n <= MOST_LP_SKUS else 1)
    out |= _figures("quantiles_exact", exact, seconds) | {"quantiles_lp_segments_ms": 1e3 * lp_seconds}
    if n <= MOST_LP_SKUS:
        out["quantiles_lp_three_variables_ms"] = 1e3 * allocate(quantiles, "lp", AllocationParams(lp_form="three_variables")).seconds
    out["quantiles_lp_over_exact_difference"] = abs(segments.bound - exact.bound) / max(abs(exact.bound), 1.0)
    return out


def _several_offers(n: int, seed: int) -> Figures:
    vendors = int(np.clip(n // SKUS_PER_VENDOR, 2, 20))
    priced = procurement_problem(n, vendors, seed, capacities=3, terms=False)
    gap, limit = LAGRANGIAN
    out = _figures("lagrangian", allocate(priced, "lagrangian", AllocationParams(mip_gap_frac=gap, time_limit_seconds=limit)))
    if n > MOST_MIP_SKUS:
        return out
    gap, limit = SMALL_MIP if n <= SMALL_MIP_SKUS else LARGE_MIP
    with_terms = procurement_problem(n, vendors, seed)
    plan = allocate(with_terms, "mip", AllocationParams(mip_gap_frac=gap, time_limit_seconds=limit))
    return out | {"mip_vendors": vendors} | _figures("mip", plan)


def bench_allocation(sizes: Sequence[int] = (2_000, 5_000, 170_000), seed: int = 0) -> list[Figures]:
    """Compare the methods on the same problems, in one run; one row of figures per size.

    Parameters
    ----------
    sizes
        SKUs of each problem.
    seed
        Seed of the problems.
    """
    _one_offer_each(50, seed)  # compiles
    _several_offers(50, seed)
    return [{"rows": n, "seed": seed, **_one_offer_each(n, seed), **_several_offers(n, seed), "private_mb": private_mb()} for n in sizes]
