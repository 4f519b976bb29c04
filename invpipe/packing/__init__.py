"""What to load when demand is random and space, cold and weight are short: plans with a certified gap, and their risk."""

from invpipe.packing.compare import capacity_use, compare_plans, revenue_histogram
from invpipe.packing.plan import PackingParams, PackingPlan, PlanFigures, load_to_mean, pack, plan_figures
from invpipe.packing.problem import PackingProblem
from invpipe.packing.simulate import SimulatedRevenue, simulate_revenue

__all__ = [
    "PackingParams",
    "PackingPlan",
    "PackingProblem",
    "PlanFigures",
    "SimulatedRevenue",
    "capacity_use",
    "compare_plans",
    "load_to_mean",
    "pack",
    "plan_figures",
    "revenue_histogram",
    "simulate_revenue",
]
