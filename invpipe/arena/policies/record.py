"""Record of a tape's demand per SKU: units wanted between two days, in a few steps per SKU.

Days are those of the tape, day 0 its first; sales before the start have negative days. The events are sorted by SKU once, with running
sums, so that a sum over days is two binary searches. Reading past the day of a decision is foresight: the clairvoyant policy does,
others must not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.tape import Tape, TapeArrays

Int32Array = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _sorted_by_sku(tape: TapeArrays) -> tuple[IntArray, Int32Array, IntArray]:
    """Return the first event of each SKU, and day and running sum of all events in the order (SKU, day)."""
    n_sku, n_prior, n_demand = len(tape.unit_price), len(tape.prior_sales_sku), len(tape.demand_sku)
    start = np.zeros(n_sku + 1, np.int64)
    for row in range(n_prior):
        start[tape.prior_sales_sku[row] + 1] += 1
    for row in range(n_demand):
        start[tape.demand_sku[row] + 1] += 1
    start = np.cumsum(start)
    place = start[:-1].copy()
    day = np.empty(n_prior + n_demand, np.int32)
    total = np.zeros(n_prior + n_demand + 1, np.int64)
    for row in range(n_prior):
        at = place[tape.prior_sales_sku[row]]
        day[at], total[at + 1] = -tape.prior_sales_age_days[row], tape.prior_sales_units[row]
        place[tape.prior_sales_sku[row]] += 1
    for today in range(len(tape.demand_start) - 1):
        for row in range(tape.demand_start[today], tape.demand_start[today + 1]):
            at = place[tape.demand_sku[row]]
            day[at], total[at + 1] = today, tape.demand_units[row]
            place[tape.demand_sku[row]] += 1
    return start, day, np.cumsum(total)


@njit(cache=True, nogil=True)
def _units_between(start: IntArray, day: Int32Array, total: IntArray, rows: IntArray, first: IntArray, end: IntArray) -> IntArray:
    out = np.zeros(len(rows), np.int64)
    for i in range(len(rows)):
        low, high = start[rows[i]], start[rows[i] + 1]
        if end[i] > first[i]:
            events = day[low:high]
            out[i] = total[low + np.searchsorted(events, end[i])] - total[low + np.searchsorted(events, first[i])]
    return out


@dataclass(frozen=True)
class DemandRecord:
    """Demand events of a tape sorted by (SKU, day).

    Parameters
    ----------
    first_day
        First day of the record: that of the oldest sale before the start, else 0.
    start, day, total
        First event per SKU, shape (n_sku + 1,); day per event; units before each event, shape (n_event + 1,).
    """

    first_day: int
    start: IntArray
    day: Int32Array
    total: IntArray

    @classmethod
    def of(cls, tape: Tape) -> DemandRecord:
        """Sort the events of a tape; prior sales count as demand."""
        ages = tape.arrays.prior_sales_age_days
        return cls(-int(ages[0]) if len(ages) else 0, *_sorted_by_sku(tape.arrays))

    def units_between(self, rows: IntArray, first: int | IntArray, end: int | IntArray) -> IntArray:
        """Return the units wanted of each given SKU on the days first .. end - 1, 0 where that is no day."""
        n = len(rows)
        days = (np.ascontiguousarray(np.broadcast_to(np.asarray(d, dtype=np.int64), (n,))) for d in (first, end))
        return np.asarray(_units_between(self.start, self.day, self.total, rows, *days))
