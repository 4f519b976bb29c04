r"""Items with options: what the Lagrangian core knows of a problem.

.. math:: \max \sum_i v_i(x_i) \quad \text{s.t.} \quad \sum_i u_i(x_i) \le b, \quad x_i \in X_i

Item :math:`i` takes one option :math:`x_i` of a finite set :math:`X_i`, worth :math:`v_i(x_i)` and using :math:`u_i(x_i)`, a vector of m
linking rows with capacities :math:`b`. Nothing is assumed of the sets: the core only asks for the best option under given multipliers
and for the value and use of an option it has seen. Uses may be negative, so a lower limit is a row with its signs turned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invpipe.errors import LagrangianError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choice:
    """One option per item, with what it is worth and uses.

    Parameters
    ----------
    option
        Code of the option, shape (n,). Codes belong to the item: the core compares and returns them, it never computes with them.
    value
        Value of the option, shape (n,).
    use
        Use of the linking rows, shape (n, m).

    Raises
    ------
    LagrangianError
        Where shapes do not fit or a value or use is not finite.
    """

    option: IntArray
    value: FloatArray
    use: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "option", np.ascontiguousarray(self.option, dtype=np.int64))
        object.__setattr__(self, "value", np.ascontiguousarray(self.value, dtype=np.float64))
        object.__setattr__(self, "use", np.ascontiguousarray(self.use, dtype=np.float64))
        n = len(self.option)
        if self.option.shape != (n,) or self.value.shape != (n,) or self.use.ndim != 2 or len(self.use) != n:
            msg = f"option has shape {self.option.shape}, value {self.value.shape}, use {self.use.shape}; give (n,), (n,) and (n, m)"
            raise LagrangianError(msg)
        bad = ~(np.isfinite(self.value) & np.isfinite(self.use).all(axis=1))
        if bad.any():
            first = int(bad.argmax())
            msg = f"{int(bad.sum())} of {n} options have a value or use that is not finite, first at item {first}; check the items' figures"
            raise LagrangianError(msg)

    def total_use(self) -> FloatArray:
        """Return the use of each row by all items, shape (m,)."""
        return np.asarray(self.use.sum(axis=0))


class Items(ABC):
    """A set of items: exact best options under multipliers, and the figures of given ones.

    Subclasses give `n_items`, `n_rows`, `best` and `evaluate`; `rounded` and `improved` may be overridden by items that know more about
    their options than those the core has seen.
    """

    @property
    @abstractmethod
    def n_items(self) -> int:
        """Number of items n."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of linking rows m."""

    @abstractmethod
    def best(self, multipliers: FloatArray) -> Choice:
        """Return, for each item, an option that maximises value - multipliers @ use over all its options, exactly.

        The upper bound rests on "exactly". Ties may go either way, but always the same way.

        Parameters
        ----------
        multipliers
            Price of one unit of use of each row, >= 0, shape (m,).
        """

    @abstractmethod
    def evaluate(self, option: IntArray) -> Choice:
        """Return value and use of one given option per item, shape (n,)."""

    def rounded(self, options: IntArray, weights: FloatArray) -> IntArray:
        """Return one option per item from a mixture of options, shape (n,).

        Parameters
        ----------
        options
            Options of the mixture, shape (k, n).
        weights
            Their weights, >= 0, summing to 1 in each column, shape (k, n).
        """
        return np.asarray(options[weights.argmax(axis=0), np.arange(options.shape[1])])

    def improved(self, choice: Choice, left: FloatArray, multipliers: FloatArray) -> Choice:
        """Return a choice worth at least as much that uses at most `left`, shape (m,), more of each row; by default the same."""
        return choice
