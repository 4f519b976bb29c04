r"""Allocation policies: a law of demand over the protection window, and a method that spends the capital on it.

On a review day every SKU with a vendor in stock is one row of an :class:`~invpipe.allocation.AllocationProblem`: its cheapest offer, its
inventory position, and the law of its demand over the protection window of L + R days (L = ceil of the vendor's mean lead time, R = review
period). The plan is ordered as it is, except for lines whose expected value does not pay `inbound_cost_per_line`, and lines of vendors that
would refuse them.

The window is not the end of the world: a unit left over at its end is still for sale. It is therefore worth `leftover_value_frac` of its
cost, not its liquidation value; what is missing to 1 stands for ageing, price risk and the capital bound. Holding cost is that of the whole
window. One fraction for all SKUs is a simplification: it is too high for a SKU at the end of its life.

Where the law comes from is a :class:`DemandSource`: the EWMA velocity the arena keeps (:class:`EwmaForecast`), the same with a prior
learned from all SKUs (:class:`GammaPoissonVelocity`), or forecasts made beforehand on the history as it was known at the time
(:class:`ScheduledForecast`).

Methods "greedy" and "exact" order from arrays of the candidates alone (:mod:`invpipe.allocation.rows`), method "lp" through `allocate`;
the orders are those of `allocate` over all rows, which a test holds against the plain way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from invpipe.allocation import AllocationParams, AllocationProblem, allocate
from invpipe.allocation.rows import AllocationRows, order_units, row_values
from invpipe.arena.policies.base import Orders, ShopView, above_vendor_minimum
from invpipe.arena.policies.candidates import NO_PRIOR, Prior, ewma_exposure_days, rows_of, scan, thin_out
from invpipe.errors import ArenaError
from invpipe.forecast.law import CountLaw, WindowDemand

IntArray = npt.NDArray[np.int64]

Method = Literal["exact", "lp", "greedy"]

#: Least variance of the prior's rates as a share of their squared mean.
LEAST_RATE_VARIANCE_FRAC = 1e-6


class DemandSource(Protocol):
    """Gives the law of demand over the days after the view's day."""

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the rows it can speak of and the law of each one's demand over its next `days` days."""
        ...


@runtime_checkable
class VelocitySource(DemandSource, Protocol):
    """A source whose law is a function of the SKU's own velocity, so that the catalogue can be scanned for candidates."""

    def prior(self, view: ShopView) -> Prior:
        """Return what turns velocities into laws today."""
        ...


@dataclass(frozen=True)
class EwmaForecast:
    """Poisson demand with mean velocity x days: the baseline every replenishment system has."""

    def prior(self, view: ShopView) -> Prior:
        """Return the prior that changes nothing."""
        return NO_PRIOR

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the law of every row."""
        mean = view.velocity[rows] * days
        return rows, CountLaw(mean, np.full(len(rows), np.inf))


@dataclass(frozen=True)
class GammaPoissonVelocity:
    r"""Gamma-Poisson posterior of the velocity: every SKU's rate is drawn towards that of the assortment, the less the more it has sold.

    Rates follow Gamma(a, b) over SKUs, counts are Poisson. An EWMA with gain g has the variance of a mean over :math:`E = (2 - g) / g`
    days, so velocity v counts as :math:`v E` units in E days. The prior is that of the moments over all SKUs, mean m and variance
    :math:`\max(s^2 - m / E, 10^{-6} m^2)` (what chance alone does not explain): a = mean^2 / variance, b = mean / variance. Posterior
    predictive demand of n days: negative binomial with mean :math:`n (a + v E) / (b + E)` and size :math:`a + v E`.

    The velocity counts estimated lost sales, so it is corrected for stock-outs. SKUs with velocity 0 are not spoken of: the prior does not
    bring back what never sells. Limit: a SKU younger than E days is taken to have been watched for all of them.

    Source: Gelman et al. (2013), Bayesian Data Analysis, 3rd ed., ch. 2.7.

    Parameters
    ----------
    exposure_frac
        Share of E that is believed, above 0; below 1 trusts the assortment more than the SKU.
    """

    exposure_frac: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.exposure_frac < np.inf:
            msg = f"exposure_frac is {self.exposure_frac}; it must be above 0 and finite, 1 believes the velocity in full"
            raise ArenaError(msg)

    def prior(self, view: ShopView) -> Prior:
        """Return the moments' prior over all SKUs."""
        days = ewma_exposure_days(view.velocity_half_life_days)
        mean = float(view.velocity.mean())
        if mean <= 0.0:
            return Prior(0.0, 0.0, self.exposure_frac * days)
        variance = max(float(view.velocity.var()) - mean / days, LEAST_RATE_VARIANCE_FRAC * mean * mean)
        return Prior(mean * mean / variance, mean / variance, self.exposure_frac * days)

    def law(self, view: ShopView, rows: IntArray, days: IntArray) -> tuple[IntArray, CountLaw]:
        """Return the law of the rows with a velocity above 0."""
        prior = self.prior(view)
        sells = view.velocity[rows] > 0.0
        rows, days = rows[sells], days[sells]
        weight = prior.shape + view.velocity[rows] * prior.exposure_days
        return rows, CountLaw(weight / (prior.rate + prior.exposure_days) * days, weight)


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
        window_of = np.full(max([int(days.max(initial=0)), *(last for _, last in forecast.windows)]) + 1, -1, dtype=np.int64)
        for j, (first, last) in enumerate(forecast.windows):
            if first == 1:
                window_of[last] = j
        window = window_of[days]
        if (window < 0).any():
            missing = np.unique(days[window < 0])
            count = f"{len(missing)} windows, first (1, {missing[0]})"
            msg = f"the forecast of {forecast.cutoff} lacks {count}; forecast every lead time + review period"
            raise ArenaError(msg)
        if forecast.skus is view.skus or forecast.skus == view.skus:  # as a rule the tape's own tuple
            return rows, CountLaw(forecast.mean[rows, window], forecast.size[rows, window])
        row_of = self._rows[forecast.cutoff]
        at = np.array([row_of.get(view.skus[r], -1) for r in rows], dtype=np.int64)
        known = at >= 0
        at, window = at[known], window[known]
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

    def _sellable(self, view: ShopView) -> tuple[IntArray, CountLaw]:
        """Return the SKUs that can be ordered below their price, rising, and the law of their demand, where the source has one."""
        rows = np.flatnonzero((view.offer_index >= 0) & (view.unit_cost < view.unit_price))
        return self.source.law(view, rows, view.lead_days(rows) + view.review_period_days)

    def problem(self, view: ShopView) -> tuple[IntArray, AllocationProblem] | None:
        """Return the SKU index of each row and the allocation problem of the day, None where no vendor has anything worth selling."""
        rows, law = self._sellable(view)
        wanted = law.mean > 0.0
        rows, law = rows[wanted], law.take(wanted)
        if len(rows) == 0:
            return None
        arrays = rows_of(view, rows, law, self.leftover_value_frac)
        return rows, AllocationProblem(
            skus=tuple(view.skus[r] for r in rows),
            vendors=tuple(view.vendors[v] for v in arrays.vendor),
            unit_price=arrays.unit_price,
            unit_cost=arrays.unit_cost,
            holding_cost=arrays.holding_cost,
            salvage_value=arrays.salvage_value,
            inventory_position_units=arrays.position_units,
            demand=law,
            capital=view.capital_available,
            min_order_units=view.min_order_units[rows],
            pack_units=arrays.pack_units,
            vendor_min_order_value=arrays.vendor_min_order_value[arrays.vendor],
        )

    def _plan(self, view: ShopView) -> tuple[IntArray, AllocationRows, IntArray]:
        """Return SKU indices, their rows, and the units to order of each."""
        if self.method == "lp":
            found = self.problem(view)
            rows, law = (found[0], found[1].demand) if found else (np.zeros(0, dtype=np.int64), CountLaw(np.zeros(0), np.zeros(0)))
            units = allocate(found[1], method="lp", params=self.params).order_units if found else np.zeros(0, dtype=np.int64)
            return rows, rows_of(view, rows, law, self.leftover_value_frac), units
        if isinstance(self.source, VelocitySource):
            rows, law = scan(view, self.source.prior(view), self.leftover_value_frac, greedy=self.method == "greedy")
        else:
            rows, law = thin_out(view, *self._sellable(view), self.leftover_value_frac, greedy=self.method == "greedy")
        arrays = rows_of(view, rows, law, self.leftover_value_frac)
        return rows, arrays, order_units(arrays, view.capital_available, self.method)

    def decide(self, view: ShopView) -> Orders:
        """Return the lines of the day's plan that pay their inbound cost and that their vendor accepts."""
        if view.capital_available <= 0.0:
            return Orders.none()
        rows, arrays, units = self._plan(view)
        keep = units > 0
        if view.inbound_cost_per_line > 0.0:
            keep &= row_values(arrays, units) > view.inbound_cost_per_line
        rows, units = rows[keep], units[keep]
        accepted = above_vendor_minimum(view, rows, units)
        return Orders(rows[accepted], units[accepted])


@dataclass(frozen=True)
class GammaPoissonMarginal:
    """Gamma-Poisson posterior of the stock-out corrected velocity, and the capital spent by exact marginal value.

    The strongest policy that needs no trained forecast; :class:`GammaPoissonVelocity` says where the law comes from,
    :mod:`invpipe.allocation.exact` how the capital is spent.

    Parameters
    ----------
    exposure_frac
        As in :class:`GammaPoissonVelocity`.
    leftover_value_frac
        As in :class:`AllocationPolicy`.
    name
        Name in tables and error messages.
    """

    exposure_frac: float = 1.0
    leftover_value_frac: float = 0.9
    name: str = "gamma_poisson_marginal"
    _policy: AllocationPolicy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        source = GammaPoissonVelocity(self.exposure_frac)
        object.__setattr__(self, "_policy", AllocationPolicy(self.name, source, "exact", self.leftover_value_frac))

    def decide(self, view: ShopView) -> Orders:
        """Return the lines of the exact plan."""
        return self._policy.decide(view)
