r"""Allocation policies: a law of demand over the protection window, and a method that spends the capital on it.

On a review day every SKU with a vendor in stock is one row of an :class:`~invpipe.allocation.AllocationProblem`: its cheapest offer, its
inventory position, and the law of its demand over the protection window of L + R days (L = ceil of the vendor's mean lead time, R = review
period). The plan is ordered as it is, except for lines whose expected value does not pay `inbound_cost_per_line`, and lines of vendors that
would refuse them.

The window is not the end of the world: a unit left over at its end is still for sale. It is therefore worth `leftover_value_frac` of its
cost, not its liquidation value; what is missing to 1 stands for ageing, price risk and the capital bound. Holding cost is that of the whole
window. One fraction for all SKUs is a simplification: it is too high for a SKU at the end of its life.

Where the law comes from is a :class:`DemandSource`: the EWMA velocity the arena keeps (:class:`EwmaForecast`), or forecasts made
beforehand on the history as it was known at the time (:class:`ScheduledForecast`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from invpipe.allocation import AllocationParams, AllocationProblem, allocate, expected_values
from invpipe.arena.policies.base import Orders, ShopView, above_vendor_minimum
from invpipe.errors import ArenaError
from invpipe.forecast.law import CountLaw, WindowDemand

IntArray = npt.NDArray[np.int64]

Method = Literal["exact", "lp", "greedy"]


class DemandSource(Protocol):
    """Gives the law of demand over the days after the view's day."""

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the rows it can speak of and the law of each one's demand over its next `days` days."""
        ...


@dataclass(frozen=True)
class EwmaForecast:
    """Poisson demand with mean velocity x days: the baseline every replenishment system has."""

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the law of every row."""
        mean = view.velocity[rows] * days
        return rows, CountLaw(mean, np.full(len(rows), np.inf))


@dataclass(frozen=True)
class ScheduledForecast:
    """Forecasts made beforehand, each from the recorded history up to its own cutoff.

    The recorded history is that of the shop as it was run, with its own stock-outs, not that of the policy under test.

    On a day the latest forecast with cutoff <= day is read, at its window (1, days). Between two forecasts the window is that of the older
    cutoff: demand is taken to be the same some days later. A SKU the forecast does not know is not ordered.

    Parameters
    ----------
    forecasts
        Window demand per cutoff; must hold a window (1, n) for every protection period n that occurs.
    max_age_days
        Oldest forecast that may be read, days.

    Raises
    ------
    ArenaError
        On construction where there is no forecast or one is filed under another day than its cutoff; on use where no forecast is young
        enough or a window is missing.
    """

    forecasts: Mapping[date, WindowDemand]
    max_age_days: int = 35
    _cutoffs: tuple[date, ...] = field(init=False, repr=False)
    _rows: dict[date, dict[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.forecasts:
            msg = "no forecast is scheduled; give at least one WindowDemand with cutoff on or before the first review day"
            raise ArenaError(msg)
        for day, forecast in self.forecasts.items():
            if forecast.cutoff != day:
                msg = f"the forecast filed under {day} has cutoff {forecast.cutoff}; file every forecast under its own cutoff"
                raise ArenaError(msg)
        object.__setattr__(self, "_cutoffs", tuple(sorted(self.forecasts)))
        object.__setattr__(self, "_rows", {day: {sku: i for i, sku in enumerate(f.skus)} for day, f in self.forecasts.items()})

    def at(self, day: date) -> WindowDemand:
        """Return the latest forecast with cutoff <= day, at most `max_age_days` old."""
        i = bisect_right(self._cutoffs, day)
        latest = self._cutoffs[i - 1] if i else None
        if latest is None or (day - latest).days > self.max_age_days:
            found = "there is none" if latest is None else f"the latest is of {latest}, {(day - latest).days} days old"
            msg = f"no forecast of at most {self.max_age_days} days for {day}: {found}; schedule one or raise max_age_days"
            raise ArenaError(msg)
        return self.forecasts[latest]

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the law of the rows whose SKU the forecast knows."""
        forecast = self.at(view.day)
        window_of = {last: j for j, (first, last) in enumerate(forecast.windows) if first == 1}
        missing = sorted({int(n) for n in np.unique(days)} - set(window_of))
        if missing:
            count = f"{len(missing)} windows, first (1, {missing[0]})"
            msg = f"the forecast of {forecast.cutoff} lacks {count}; forecast every lead time + review period"
            raise ArenaError(msg)
        if forecast.skus == view.skus:
            known, at = np.ones(len(rows), dtype=np.bool_), rows
        else:
            row_of = self._rows[forecast.cutoff]
            at = np.array([row_of.get(view.skus[r], -1) for r in rows], dtype=np.int64)
            known = at >= 0
            at = at[known]
        lengths, place = np.unique(days[known], return_inverse=True)
        window = np.array([window_of[int(n)] for n in lengths], dtype=np.int64)[place]
        return rows[known], CountLaw(forecast.mean[at, window], forecast.size[at, window])


@dataclass(frozen=True)
class AllocationPolicy:
    """Order what `allocate` plans for the law of demand a source gives.

    Parameters
    ----------
    name
        Name in tables and error messages.
    source
        Law of demand.
    method
        "greedy", "lp" or "exact", as in :func:`invpipe.allocation.allocate`.
    leftover_value_frac
        Value of a unit left over at the end of the protection window as a share of its cost, 0 to below 1.
    params
        Parameters of the allocation method.
    """

    name: str
    source: DemandSource
    method: Method
    leftover_value_frac: float = 0.9
    params: AllocationParams = field(default_factory=AllocationParams)

    def __post_init__(self) -> None:
        if not 0.0 <= self.leftover_value_frac < 1.0:
            msg = f"leftover_value_frac is {self.leftover_value_frac}; it must lie in [0, 1), else buying without limit would pay"
            raise ArenaError(msg)

    def problem(self, view: ShopView) -> tuple[IntArray, AllocationProblem] | None:
        """Return the SKU index of each row and the allocation problem of the day, None where no vendor has anything worth selling."""
        rows = np.flatnonzero((view.offer_index >= 0) & (view.unit_cost < view.unit_price))
        if len(rows) == 0:
            return None
        rows, law = self.source.law(view, rows, view.lead_days(rows) + view.review_period_days)
        wanted = law.mean > 0.0
        rows, law = rows[wanted], law.take(wanted)
        if len(rows) == 0:
            return None
        cost = view.unit_cost[rows]
        days = view.lead_days(rows) + view.review_period_days
        return rows, AllocationProblem(
            skus=tuple(view.skus[r] for r in rows),
            vendors=tuple(view.vendors[v] for v in view.vendor_index[rows]),
            unit_price=view.unit_price[rows],
            unit_cost=cost,
            holding_cost=view.holding_cost_frac_per_day * cost * days,
            salvage_value=self.leftover_value_frac * cost,
            inventory_position_units=view.on_hand_units[rows] + view.on_order_units[rows],
            demand=law,
            capital=view.capital_available,
            min_order_units=view.min_order_units[rows],
            pack_units=view.pack_units[rows],
            vendor_min_order_value=view.vendor_min_order_value[rows],
        )

    def decide(self, view: ShopView) -> Orders:
        """Return the lines of the day's plan that pay their inbound cost and that their vendor accepts."""
        found = self.problem(view)
        if found is None or view.capital_available <= 0.0:
            return Orders.none()
        rows, problem = found
        units = np.asarray(allocate(problem, method=self.method, params=self.params).order_units, dtype=np.int64)
        keep = units > 0
        if view.inbound_cost_per_line > 0.0:
            keep &= expected_values(problem, units) > view.inbound_cost_per_line
        rows, units = rows[keep], units[keep]
        accepted = above_vendor_minimum(view, rows, units)
        return Orders(rows[accepted], units[accepted])
