"""Allocation: from demand laws and offers to an order plan under one sum of capital.

:func:`~invpipe.allocation.plan.allocate` takes an :class:`~invpipe.allocation.problem.AllocationProblem` and gives an
:class:`~invpipe.allocation.plan.OrderPlan` with status, bound, capital price and a reason for every line. Methods: "exact" (marginal
value), "lp" (linear programme, HiGHS), "mip" (branch and bound), "lagrangian" (any size), "greedy" (baseline). What is richer than one
offer per SKU and one sum of capital is a :class:`~invpipe.allocation.procurement.ProcurementProblem`, for the same call.

The newsvendor with Poisson demand of mean 50, overage cost 0.18 and underage cost 0.70 orders up to 56 (Snyder and Shen, 2019,
*Fundamentals of Supply Chain Theory*, eq. 4.35; number from stockpyl):

>>> import numpy as np
>>> from invpipe.forecast.law import CountLaw
>>> problem = AllocationProblem(
...     skus=("A",),
...     vendors=("V",),
...     unit_price=np.array([1.70]),
...     unit_cost=np.array([1.00]),
...     holding_cost=np.array([0.0]),
...     salvage_value=np.array([0.82]),
...     inventory_position_units=np.array([0]),
...     demand=CountLaw(mean=np.array([50.0]), size=np.array([np.inf])),
...     capital=100.0,
... )
>>> plan = allocate(problem)
>>> plan.order_units.tolist(), plan.status, plan.capital_price
([56], 'optimal', 0.0)
"""

from invpipe.allocation.buying import buyer_table, plan_changes, vendor_totals
from invpipe.allocation.daily import DailyOffers, PlanningParams, daily_offers, daily_problem, protection_windows, stock_value
from invpipe.allocation.exact import expected_values, procurement_of
from invpipe.allocation.plan import Method, OrderPlan, allocate, capital_curve
from invpipe.allocation.problem import AllocationParams, AllocationProblem
from invpipe.allocation.procurement import ProcurementProblem

__all__ = [
    "AllocationParams",
    "AllocationProblem",
    "DailyOffers",
    "Method",
    "OrderPlan",
    "PlanningParams",
    "ProcurementProblem",
    "allocate",
    "buyer_table",
    "capital_curve",
    "daily_offers",
    "daily_problem",
    "expected_values",
    "plan_changes",
    "procurement_of",
    "protection_windows",
    "stock_value",
    "vendor_totals",
]
