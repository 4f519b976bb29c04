"""Walk-forward folds: the only split of time there is.

Fold k knows days up to its cutoff T_k and is scored on the days T_k + 1 .. T_k + horizon. Folds slide forward by a step; the last one ends
on the last day of the history. There is no random split to be had here: a fold is a cutoff, and a forecaster fitted on
`history.until(cutoff)` has no later row to read. Labels of training windows end at or before the cutoff (`grid.window_labels` refuses
others), which is the purge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from invpipe.errors import ForecastError


@dataclass(frozen=True)
class Fold:
    """One step of the walk: train on days up to `cutoff`, test on `test_first` .. `test_last`, all inclusive."""

    index: int
    cutoff: date
    test_first: date
    test_last: date

    @property
    def horizon_days(self) -> int:
        """Days of the test slab."""
        return (self.test_last - self.test_first).days + 1


def walk_forward_folds(
    first_day: date, last_day: date, *, horizon_days: int = 60, step_days: int = 90, n_folds: int = 12, min_train_days: int = 91
) -> list[Fold]:
    """Return the folds in order of time, the last one ending on last_day.

    Parameters
    ----------
    first_day, last_day
        Days of the history, inclusive.
    horizon_days
        Days of each test slab, >= 1.
    step_days
        Days from one cutoff to the next, >= 1.
    n_folds
        Number of folds, >= 1.
    min_train_days
        Days the first fold must have before its cutoff.

    Raises
    ------
    ForecastError
        Where a parameter is below 1 or the history is too short; names how many folds would fit.
    """
    for name, value in (("horizon_days", horizon_days), ("step_days", step_days), ("n_folds", n_folds), ("min_train_days", min_train_days)):
        if value < 1:
            msg = f"{name} is {value}; it must be at least 1"
            raise ForecastError(msg)
    n_days = (last_day - first_day).days + 1
    needed = min_train_days + (n_folds - 1) * step_days + horizon_days
    if n_days < needed:
        possible = max(0, (n_days - min_train_days - horizon_days) // step_days + 1)
        msg = (
            f"{n_folds} folds of {horizon_days} days sliding {step_days} after {min_train_days} days of training need {needed} days; "
            f"the history has {n_days} ({first_day} .. {last_day}), enough for {possible}; ask for fewer folds or shorter steps"
        )
        raise ForecastError(msg)
    folds = []
    for k in range(n_folds):
        cutoff = last_day - timedelta(days=horizon_days + (n_folds - 1 - k) * step_days)
        folds.append(Fold(k, cutoff, cutoff + timedelta(days=1), cutoff + timedelta(days=horizon_days)))
    return folds
