r"""Upper bound on the profit any policy can earn on a tape.

Let :math:`c_t` be the lowest unit cost a unit sold on day t can have been bought at: the minimum of the cheapest in-stock offers on the
days before t, and the cost of the opening stock where the SKU has any. Then

.. math:: B = \sum_{t \ge w} \sum_{\text{SKU}} D_t \max(0,\; p - c_t)

with w the warm-up, bounds the profit of every policy, for every valuation f of ending stock in [0, 1].

Proof. (1) An order placed at the end of day d is paid at an offer of that day and arrives on day d + 1 or later; so every unit on hand on
day t is opening stock or was bought at an offer of a day before t, at a cost of at least :math:`c_t`. (2) The moving average cost is a
convex combination of the costs of units that came in, hence also at least :math:`c_t`. (3) Sales of day t are at most :math:`D_t`, so
revenue less cost of goods sold is at most :math:`D_t \max(0, p - c_t)`. (4) Holding and inbound costs and the write-down
:math:`(1 - f)(\text{stock} + \text{pipeline})` are never negative. Summing over the KPI span gives B.

It ignores capital, packs, minimums and all other costs, so as a rule no policy attains it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape, TapeArrays

FloatArray = npt.NDArray[np.float64]


@njit(cache=True, nogil=True)
def _bound(tape: TapeArrays, cost: FloatArray, live: npt.NDArray[np.int8], lowest: FloatArray, warm_up_days: int) -> float:
    """Walk the days; `cost` and `live` are the offers' state, `lowest` the lowest unit cost so far per SKU, all changed in place."""
    total = 0.0
    for day in range(len(tape.demand_start) - 1):
        if day >= warm_up_days:
            for row in range(tape.demand_start[day], tape.demand_start[day + 1]):
                sku = tape.demand_sku[row]
                total += tape.demand_units[row] * max(0.0, tape.unit_price[sku] - lowest[sku])
        for row in range(tape.delta_start[day], tape.delta_start[day + 1]):
            offer = tape.delta_offer[row]
            if not np.isnan(tape.delta_unit_cost[row]):
                cost[offer] = tape.delta_unit_cost[row]
            if tape.delta_in_stock[row] >= 0:
                live[offer] = tape.delta_in_stock[row]
        # only offers that changed can lower the minimum, except on the first day, when the opening offers can first be ordered from
        if day == 0:
            for offer in range(len(cost)):
                if live[offer] == 1:
                    lowest[tape.offer_sku[offer]] = min(lowest[tape.offer_sku[offer]], cost[offer])
        else:
            for row in range(tape.delta_start[day], tape.delta_start[day + 1]):
                offer = tape.delta_offer[row]
                if live[offer] == 1:
                    lowest[tape.offer_sku[offer]] = min(lowest[tape.offer_sku[offer]], cost[offer])
    return total


def clairvoyant_bound(tape: Tape, params: BacktestParams) -> float:
    """Return a bound on the profit of every policy over the KPI span, money; see the module docstring for the proof.

    Parameters
    ----------
    tape
        Recorded shop.
    params
        Only the warm-up counts.
    """
    a = tape.arrays
    lowest = np.where(a.opening_on_hand_units > 0, a.opening_unit_cost, np.inf)
    return float(_bound(a, a.opening_offer_unit_cost.copy(), a.opening_offer_in_stock.copy(), lowest, params.warm_up_days))
