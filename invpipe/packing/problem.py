r"""The packing problem: items with random demand, each unit of which uses several capacities.

The n-th unit of an item is sold if at least n are wanted, so with unit revenue r it is worth :math:`r P(D \ge n)`, which never rises:

.. math:: \max \sum_i r_i \sum_{n \le x_i} P(D_i \ge n) \quad \text{s.t.} \quad \sum_i a_{ij} x_i \le b_j, \quad x_i \in \{0, 1, \dots\}

Any law of demand will do, given as a count law or as its survival.

Source: Crews (2020), Food cart series, part 2 (blog post): three items, Poisson demand, storage, fridge and weight. The optimum published
there, 572 burgers, 355 pizzas and 669 tacos with an expected revenue of 2244.10, is not the optimum of its own model. Its code takes 1 from
the wrong argument: where :math:`P(D \ge n) = 1 - F(n - 1; \lambda)` is meant it has :math:`1 - F(n; \lambda - 1)`, the probability that
Poisson demand with a mean of :math:`\lambda - 1` *exceeds* n. With these values the optimum is 572/355/669 exactly; with the right ones it
is 576/350/672, worth 2244.1964. The difference is .0042 % (and the published plan varies less), so what is wrong is the claim, not the
load.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.errors import PackingError
from invpipe.forecast.law import CountLaw
from invpipe.lagrangian import ConcaveItems

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Units wanted with a lower probability are left out: together they are worth less than about 1e-11 of an item's revenue.
TAIL_PROBABILITY = 1e-12
#: Units of a survival table computed at a time, to bound memory.
BLOCK_UNITS = 1 << 20
#: A survival probability may rise by this much: noise of whoever computed it.
RISE_TOLERANCE = 1e-9
#: Units that fill a capacity up to this share count as fitting: noise of the division.
FIT_TOLERANCE = 1e-12
#: Stands for no limit of an item that uses no capacity; nobody wants so many.
MOST_UNITS = 1 << 40


@njit(cache=True, nogil=True)
def _hold_down(start: IntArray, survival: FloatArray) -> None:
    """Take out the rounding noise by which survival rises, in place."""
    for i in range(len(start) - 1):
        for n in range(start[i] + 1, start[i + 1]):
            survival[n] = min(survival[n], survival[n - 1])


@dataclass(frozen=True, eq=False)
class PackingProblem:
    """Items, what their units earn and use, and the capacities. Validates itself.

    Parameters
    ----------
    items
        Name of each item, no duplicates, length n.
    capacities
        Name of each capacity, no duplicates, length m.
    unit_revenue
        Money per unit sold, >= 0, shape (n,).
    demand
        Count laws, n rows; or P(D >= 1), P(D >= 2), ..., P(D >= k) of each item, in [0, 1] and never rising, shape (n, k).
    unit_use
        Use of each capacity by one unit, >= 0, shape (n, m).
    capacity
        What there is of each, finite, >= 0, shape (m,).
    max_units
        Most units of each item, >= 0, shape (n,); default as many as anybody may want.

    Raises
    ------
    PackingError
        Where an array has the wrong shape, or a value is out of its bounds.
    """

    items: tuple[str, ...]
    capacities: tuple[str, ...]
    unit_revenue: FloatArray
    demand: CountLaw | FloatArray
    unit_use: FloatArray
    capacity: FloatArray
    max_units: IntArray | None = None

    def __post_init__(self) -> None:
        n, m = len(self.items), len(self.capacities)
        for name in ("unit_revenue", "unit_use", "capacity"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        _check_names("items", self.items)
        _check_names("capacities", self.capacities)
        _check_figures("unit_revenue", self.unit_revenue, (n,), self.items)
        _check_figures("unit_use", self.unit_use, (n, m), self.items)
        _check_figures("capacity", self.capacity, (m,), self.capacities)
        if self.max_units is not None:
            _check_figures("max_units", np.asarray(self.max_units, dtype=np.float64), (n,), self.items)
            object.__setattr__(self, "max_units", np.ascontiguousarray(self.max_units, dtype=np.int64))
        if isinstance(self.demand, CountLaw):
            if len(self.demand) != n:
                msg = f"demand has {len(self.demand)} laws for {n} items"
                raise PackingError(msg)
        else:
            object.__setattr__(self, "demand", np.ascontiguousarray(self.demand, dtype=np.float64))
            _check_survival(self.demand, self.items)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    @property
    def mean_units(self) -> FloatArray:
        """Expected demand per item, units, shape (n,); of a survival matrix up to its last column."""
        return self.demand.mean if isinstance(self.demand, CountLaw) else np.asarray(self.demand.sum(axis=1))

    def survival(self, units: IntArray) -> FloatArray:
        """Return P(D >= units) per item, units of shape (n,)."""
        if isinstance(self.demand, CountLaw):
            return self.demand.survival(units)
        padded = np.pad(self.demand, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
        return np.asarray(padded[np.arange(len(self)), np.clip(units, 0, padded.shape[1] - 1)])

    def survival_up_to(self, most_units: IntArray) -> tuple[IntArray, FloatArray]:
        """Return P(D >= n) of the first units of each item, item by item, with the first place of each and their number.

        Parameters
        ----------
        most_units
            Units wanted of each item, shape (n,); fewer are given where nobody wants so many.

        Returns
        -------
        tuple
            start, shape (n + 1,), and survival, shape (start[-1],), never rising within an item.
        """
        if isinstance(self.demand, CountLaw):
            units = np.minimum(most_units, self.demand.quantile(1.0 - TAIL_PROBABILITY))
        else:
            units = np.minimum(most_units, self.demand.shape[1])
        start = np.concatenate([[0], np.cumsum(units)]).astype(np.int64)
        survival = np.empty(int(start[-1]))
        if isinstance(self.demand, CountLaw):
            _fill_survival(self.demand, start, survival)
        else:
            survival[:] = self.demand[np.arange(self.demand.shape[1]) < units[:, None]]
        _hold_down(start, survival)
        return start, survival

    @cached_property
    def loadable(self) -> tuple[IntArray, FloatArray]:
        """`survival_up_to` the most units of each item that fit by themselves and are allowed."""
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.where(self.unit_use > 0, self.capacity / self.unit_use * (1.0 + FIT_TOLERANCE), np.inf).min(axis=1, initial=np.inf)
        units = np.minimum(np.floor(fit), MOST_UNITS).astype(np.int64)
        return self.survival_up_to(units if self.max_units is None else np.minimum(units, self.max_units))

    @cached_property
    def concave_items(self) -> ConcaveItems:
        """The items as the Lagrangian core sees them: the value of each unit."""
        start, survival = self.loadable
        return ConcaveItems(start, np.repeat(self.unit_revenue, np.diff(start)) * survival, self.unit_use)


def _fill_survival(law: CountLaw, start: IntArray, survival: FloatArray) -> None:
    first = 0
    while first < len(law):
        last = max(int(np.searchsorted(start, start[first] + BLOCK_UNITS, side="right")) - 1, first + 1)
        rows = np.repeat(np.arange(first, last), np.diff(start[first : last + 1]))
        units = np.arange(start[first], start[last]) - start[rows] + 1
        survival[start[first] : start[last]] = law.take(rows).survival(units)
        first = last


def _check_names(name: str, names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        twice = next(text for text in names if names.count(text) > 1)
        msg = f"{name} has {len(names) - len(set(names))} names twice, first {twice!r}; names tell them apart"
        raise PackingError(msg)


def _check_figures(name: str, values: FloatArray, shape: tuple[int, ...], names: tuple[str, ...]) -> None:
    if values.shape != shape:
        msg = f"{name} has shape {values.shape}; give {shape}"
        raise PackingError(msg)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = tuple(int(k) for k in np.argwhere(bad)[0])
        msg = f"{int(bad.sum())} of {values.size} figures of {name} are negative or not finite, first that of {names[first[0]]!r}: "
        raise PackingError(f"{msg}{values[first]}")


def _check_survival(survival: FloatArray, items: tuple[str, ...]) -> None:
    if survival.ndim != 2 or len(survival) != len(items):
        msg = f"the survival of demand has shape {survival.shape}; give one row for each of {len(items)} items"
        raise PackingError(msg)
    bad = ~((survival >= 0) & (survival <= 1))
    bad[:, 1:] |= np.diff(survival, axis=1) > RISE_TOLERANCE
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        msg = (
            f"{int(bad.sum())} of {survival.size} survival probabilities lie outside [0, 1] or rise with the units, "
            f"first item {items[row]!r}, P(D >= {column + 1}) = {survival[row, column]}; give P(D >= 1), P(D >= 2), ..."
        )
        raise PackingError(msg)
