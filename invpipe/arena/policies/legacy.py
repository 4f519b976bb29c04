r"""Legacy policy: what a replenishment system without shared optimisation does, this year over last year with guard rails.

Per SKU with an offer below its price, at the end of day d, over the protection window of n = L + R days:

- forecast = ratio x units of the same n days last year; ratio = units of the last B days / units of the same B days last year, clipped to
  [1 / `ratio_max`, `ratio_max`]; a year is 364 days, so that weekdays match;
- where last year's B days hold fewer than `min_history_units`, or the record does not reach back that far, the fallback: units of the
  last B days (or of the record, if it is shorter) per day, times n;
- order up to the newsvendor fractile of a Poisson demand of that mean, in whole lots, with the values of
  :mod:`invpipe.arena.policies.allocation` (`leftover_value_frac`, holding cost);
- lines go in the order of the catalogue, each in full or not at all, until the capital is used up; lines of vendors that would refuse them
  are left out.

It reads the recorded demand up to the day of the decision, sales before the tape included. Where the tape knows the true demand, no
stock-out of the run blinds it: that is generous to this policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from invpipe.allocation.rows import unlimited_units
from invpipe.arena.policies.base import Orders, ShopView
from invpipe.arena.policies.candidates import rows_of
from invpipe.arena.policies.levels import while_capital_lasts
from invpipe.arena.policies.record import DemandRecord
from invpipe.arena.tape import Tape
from invpipe.errors import ArenaError
from invpipe.forecast.law import CountLaw

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: 52 weeks: the same weekday last year.
YEAR_DAYS = 364


@dataclass(frozen=True)
class LegacyPolicy:
    """Year-over-year forecast, newsvendor per SKU, capital in catalogue order.

    Parameters
    ----------
    tape
        Tape whose record it reads, up to the day of the decision.
    lookback_days
        Days B of the ratio, 1 to 364.
    ratio_max
        Guard rail of the ratio, >= 1.
    min_history_units
        Units in last year's B days below which the ratio is not believed, >= 1.
    leftover_value_frac
        Value of a unit left over at the end of the window as a share of its cost, 0 to below 1.
    name
        Name in tables and error messages.
    """

    tape: Tape
    lookback_days: int = 91
    ratio_max: float = 3.0
    min_history_units: int = 5
    leftover_value_frac: float = 0.9
    name: str = "legacy"

    def __post_init__(self) -> None:
        for what, value, good in (
            ("lookback_days", self.lookback_days, 1 <= self.lookback_days <= YEAR_DAYS),
            ("ratio_max", self.ratio_max, 1.0 <= self.ratio_max < np.inf),
            ("min_history_units", self.min_history_units, self.min_history_units >= 1),
            ("leftover_value_frac", self.leftover_value_frac, 0.0 <= self.leftover_value_frac < 1.0),
        ):
            if not good:
                bounds = {
                    "lookback_days": f"1 to {YEAR_DAYS}",
                    "ratio_max": "1 or more and finite",
                    "min_history_units": "1 or more",
                    "leftover_value_frac": "0 to below 1",
                }
                msg = f"{what} is {value}; it must be {bounds[what]}"
                raise ArenaError(msg)

    @cached_property
    def record(self) -> DemandRecord:
        """The tape's demand by SKU, sorted when first read."""
        return DemandRecord.of(self.tape)

    def forecast(self, rows: IntArray, day: int, days: IntArray) -> FloatArray:
        """Return the mean demand of the `days` days after `day`, units per given SKU."""
        tomorrow, record = day + 1, self.record
        watched = min(self.lookback_days, tomorrow - record.first_day)
        recent = record.units_between(rows, tomorrow - watched, tomorrow)
        mean = recent / max(watched, 1) * days
        last_year = tomorrow - YEAR_DAYS
        if last_year - self.lookback_days < record.first_day:
            return np.asarray(mean)
        before = record.units_between(rows, last_year - self.lookback_days, last_year)
        ratio = np.clip(recent / np.maximum(before, 1), 1.0 / self.ratio_max, self.ratio_max)
        window = record.units_between(rows, last_year, last_year + np.minimum(days, YEAR_DAYS))
        return np.where(before >= self.min_history_units, ratio * window * (days / np.minimum(days, YEAR_DAYS)), mean)

    def decide(self, view: ShopView) -> Orders:
        """Return what every SKU wants by itself, in catalogue order, while the capital lasts."""
        rows = np.flatnonzero((view.offer_index >= 0) & (view.unit_cost < view.unit_price))
        mean = self.forecast(rows, view.day_index, view.lead_days(rows) + view.review_period_days)
        rows, mean = rows[mean > 0.0], mean[mean > 0.0]
        law = CountLaw(mean, np.full(len(rows), np.inf))
        units = unlimited_units(rows_of(view, rows, law, self.leftover_value_frac))
        return while_capital_lasts(view, rows[units > 0], units[units > 0])
