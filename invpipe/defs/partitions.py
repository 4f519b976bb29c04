"""Partitions: days of extracts and plans, folds of the walk-forward, windows x variants of backtests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from invpipe.settings import Settings
from invpipe.sources.complete_journey import FIRST_DAY, LAST_DAY

#: Backtest variants: the policies of the ablation, in the order of its table.
VARIANTS = (
    "order_nothing",
    "ewma_greedy",
    "ewma_lp",
    "ewma_marginal",
    "forecast_greedy",
    "forecast_lp",
    "forecast_marginal",
    "gamma_poisson_marginal",
    "ss",
    "base_stock",
    "legacy",
    "clairvoyant",
)

#: Policy the others are compared with.
BASELINE = "ewma_greedy"


@dataclass(frozen=True)
class Partitions:
    """All partition definitions of one home."""

    day: dg.DailyPartitionsDefinition
    fold: dg.StaticPartitionsDefinition
    window: dg.StaticPartitionsDefinition
    backtest: dg.MultiPartitionsDefinition

    @classmethod
    def of(cls, settings: Settings) -> Partitions:
        """Return the partitions the settings ask for: the embedded shop's days, or a shop's own, up to yesterday in its time zone."""
        window = dg.StaticPartitionsDefinition([w.name for w in settings.backtest.windows])
        return cls(
            day=_days(settings),
            fold=dg.StaticPartitionsDefinition([f"{k:02d}" for k in range(settings.folds.n_folds)]),
            window=window,
            backtest=dg.MultiPartitionsDefinition({"window": window, "variant": dg.StaticPartitionsDefinition(list(VARIANTS))}),
        )


def _days(settings: Settings) -> dg.DailyPartitionsDefinition:
    if settings.source == "databases":
        return dg.DailyPartitionsDefinition(start_date=str(settings.shop.first_day), timezone=settings.shop.time_zone)
    return dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), end_date=(LAST_DAY + timedelta(days=1)).isoformat())
