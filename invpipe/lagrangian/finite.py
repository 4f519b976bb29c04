"""Items whose options stand in a table."""

from __future__ import annotations

import numpy as np
from numba import njit

from invpipe.errors import LagrangianError
from invpipe.lagrangian.items import Choice, FloatArray, IntArray, Items


@njit(cache=True, nogil=True)
def _best(value: FloatArray, use: FloatArray, multipliers: FloatArray, option: IntArray) -> None:
    """Fill option with the first best option of each item."""
    n, k = value.shape
    for i in range(n):
        best = -np.inf
        for x in range(k):
            worth = value[i, x]
            for j in range(len(multipliers)):
                worth -= multipliers[j] * use[i, x, j]
            if worth > best:
                best = worth
                option[i] = x


class FiniteItems(Items):
    """Items with k options each; an option's code is its column.

    Parameters
    ----------
    value
        Value of each option, shape (n, k), k >= 1; -inf where an item has fewer options, except in column 0.
    use
        Use of each row by each option, finite, shape (n, k, m).

    Raises
    ------
    LagrangianError
        Where shapes do not fit, or a figure is not finite.
    """

    def __init__(self, value: FloatArray, use: FloatArray) -> None:
        self.value = np.ascontiguousarray(value, dtype=np.float64)
        self.use = np.ascontiguousarray(use, dtype=np.float64)
        if self.value.ndim != 2 or self.use.ndim != 3 or self.use.shape[:2] != self.value.shape or self.value.shape[1] == 0:
            msg = f"value has shape {self.value.shape}, use {self.use.shape}; give (n, k) and (n, k, m) with k >= 1"
            raise LagrangianError(msg)
        bad = np.isnan(self.value) | (self.value == np.inf) | ~np.isfinite(self.use).all(axis=2)
        bad[:, 0] |= ~np.isfinite(self.value[:, 0])
        if bad.any():
            item, option = (int(k) for k in np.argwhere(bad)[0])
            msg = f"{int(bad.sum())} of {bad.size} options have a figure that is not finite, first option {option} of item {item}"
            raise LagrangianError(f"{msg}; only a value may be -inf, for an option that does not exist, and not that of option 0")

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.value)

    @property
    def n_rows(self) -> int:
        """Number of linking rows."""
        return int(self.use.shape[2])

    def best(self, multipliers: FloatArray) -> Choice:
        """Return the best option of each item, the first of equals."""
        option = np.zeros(self.n_items, dtype=np.int64)
        _best(self.value, self.use, multipliers, option)
        return self.evaluate(option)

    def evaluate(self, option: IntArray) -> Choice:
        """Return value and use of one option per item."""
        items = np.arange(self.n_items)
        return Choice(option, self.value[items, option], self.use[items, option])
