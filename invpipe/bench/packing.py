"""Benchmark of packing: many items with Poisson demand under three capacities, all of which bind."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from invpipe.forecast.law import CountLaw
from invpipe.packing import PackingProblem, pack

#: Least and most mean demand, units; share of the capacity that carrying every item's mean would take.
MEAN_UNITS = (20.0, 1000.0)
CAPACITY_FRACS = (0.6, 0.7, 0.65)


def packing_problem(items: int, seed: int = 0) -> PackingProblem:
    """Return a seeded problem: means log-uniform, three independent uses per unit."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(np.log(MEAN_UNITS[0]), np.log(MEAN_UNITS[1]), items))
    use = rng.uniform(0.5, 1.5, (items, len(CAPACITY_FRACS)))
    return PackingProblem(
        items=tuple(f"I{i:06d}" for i in range(items)),
        capacities=("volume", "cold", "weight"),
        unit_revenue=rng.uniform(1.0, 2.0, items),
        demand=CountLaw(mean, np.full(items, np.inf)),
        unit_use=use,
        capacity=np.array(CAPACITY_FRACS) * (mean @ use),
    )


def bench_packing(items: int = 100_000, seed: int = 0) -> list[dict[str, Any]]:
    """Pack items under three capacities.

    Parameters
    ----------
    items
        How many.
    seed
        Seed of the problem.
    """
    pack(packing_problem(50, seed))  # compiles
    problem = packing_problem(items, seed)
    start = time.perf_counter()
    plan = pack(problem)
    seconds = time.perf_counter() - start
    use = plan.units @ problem.unit_use / problem.capacity
    return [
        {"items": items, "seed": seed, "seconds": seconds, "status": plan.status, "gap_frac": plan.gap, "fullest_frac": float(use.max())}
    ]
