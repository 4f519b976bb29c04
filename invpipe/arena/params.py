"""Parameters of a backtest: the shop's costs, its capital, and how a day is measured.

Money is in the shop's currency; shares end in ``_frac``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from invpipe.errors import ArenaError

#: Days of a year for the holding cost rate.
DAYS_PER_YEAR = 365.0


def _check(name: str, value: float, low: float, high: float, advice: str) -> None:
    if math.isnan(value) or not low <= value <= high:
        msg = f"{name} is {value}; it must lie between {low} and {high}; {advice}"
        raise ArenaError(msg)


@dataclass(frozen=True)
class BacktestParams:
    """Law of one backtest.

    Parameters
    ----------
    capital_limit
        Money that may be bound in stock and open orders at cost, >= 0; inf for no limit.
    review_period_days
        Days between two decisions, >= 1; the first decision falls on the first day of the tape.
    holding_cost_frac_per_year
        Holding cost of one year as a share of the unit cost, >= 0.
    inbound_cost_per_line
        Money per placed order line, >= 0, charged when the order is placed.
    liquidation_frac
        Share of its cost that ending stock and pipeline are worth in the headline profit, 0 to 1.
    warm_up_days
        Days at the start of the tape that are replayed but not counted, >= 0.
    velocity_half_life_days
        Half-life of the EWMA velocity, > 0.
    conversion_prior_views
        Weight, in page views, of the shop-wide conversion in each SKU's own conversion, >= 0.

    Raises
    ------
    ArenaError
        Where a parameter is out of its bounds.
    """

    capital_limit: float
    review_period_days: int = 7
    holding_cost_frac_per_year: float = 0.2
    inbound_cost_per_line: float = 0.0
    liquidation_frac: float = 0.5
    warm_up_days: int = 0
    velocity_half_life_days: float = 28.0
    conversion_prior_views: float = 100.0

    def __post_init__(self) -> None:
        for name in ("review_period_days", "warm_up_days"):
            if not isinstance(getattr(self, name), int):
                msg = f"{name} is {getattr(self, name)!r}; give a whole number of days"
                raise ArenaError(msg)
        _check("capital_limit", self.capital_limit, 0.0, math.inf, "give the money the shop may bind at cost")
        _check("review_period_days", self.review_period_days, 1, 3650, "1 reviews daily")
        _check("holding_cost_frac_per_year", self.holding_cost_frac_per_year, 0.0, 100.0, "0.2 is 20 % of the unit cost a year")
        _check("inbound_cost_per_line", self.inbound_cost_per_line, 0.0, 1e12, "0 charges nothing")
        _check("liquidation_frac", self.liquidation_frac, 0.0, 1.0, "0.5 values ending stock at half its cost")
        _check("warm_up_days", self.warm_up_days, 0, 36500, "0 counts every day")
        _check("velocity_half_life_days", self.velocity_half_life_days, 1e-3, 36500.0, "28 forgets half in four weeks")
        _check("conversion_prior_views", self.conversion_prior_views, 0.0, 1e12, "0 trusts each SKU's own views only")

    @property
    def holding_cost_frac_per_day(self) -> float:
        """Holding cost of one day as a share of the unit cost."""
        return self.holding_cost_frac_per_year / DAYS_PER_YEAR
