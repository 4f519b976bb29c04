"""Separable items under linking capacities: Lagrangian bound, plan and certified gap."""

from invpipe.lagrangian.concave import ConcaveItems
from invpipe.lagrangian.finite import FiniteItems
from invpipe.lagrangian.items import Choice, Items
from invpipe.lagrangian.polish import polish
from invpipe.lagrangian.solve import LagrangianParams, LagrangianResult, Step, solve

__all__ = ["Choice", "ConcaveItems", "FiniteItems", "Items", "LagrangianParams", "LagrangianResult", "Step", "polish", "solve"]
