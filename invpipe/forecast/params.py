"""Parameters of the forecaster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Days = Annotated[int, Field(ge=1, le=366)]


class ForecastParams(BaseModel):
    """Parameters of the forecaster; frozen, out-of-bounds values are refused with their bound.

    Parameters
    ----------
    window_days
        Window lengths the window model is trained on; other lengths are interpolated.
    origins, origin_step_days
        Training origins per window length and days between them, counted back from the cutoff; half the days where a history has room
        for few origins.
    min_history_days
        Days before the first training origin.
    censoring
        Labels of the window model: "completed" adds the demand that was lost on days on which a SKU sold out or was out of stock
        (:mod:`invpipe.forecast.censoring`); "orderable" is the source document's way, what was sold on orderable days.
    tweedie_power
        Variance power of the Tweedie loss, between 1 (Poisson) and 2 (gamma).
    feature_frac
        Share of the features each tree of the window model may use, 0-1.
    rounds, learning_rate, leaves, min_leaf_cells
        Boosting rounds, shrinkage, leaves per tree, least cells per leaf.
    daily_rounds, daily_learning_rate
        Boosting rounds and shrinkage of the daily boosters. Against 150 rounds of .1 their loss at .5 and .9 moves by -.1 to +.4 % on four
        shops, and a third of their training and prediction is saved.
    max_window_cells, max_sale_cells, max_zero_cells
        Caps on the training cells of the window model, and on the cells of the daily boosters with and without a sale; more are sampled,
        with weights.
    daily_horizon_days
        Horizon of the daily quantiles.
    daily_taus
        Quantiles of daily demand, one booster each; empty: no daily boosters are trained.
    sku_as_category
        Give the SKU to the daily boosters as a category; on long tails it overfits.
    threads
        LightGBM threads; the result does not depend on it. One, because two threads on a busy machine wait for each other and
        were measured four times slower; several fits at once use the cores better.
    seed
        Seed of every sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: Annotated[tuple[Days, ...], Field(min_length=1)] = (7, 14, 28, 60)
    origins: Annotated[int, Field(ge=1)] = 52
    origin_step_days: Days = 14
    min_history_days: Days = 28
    censoring: Literal["completed", "orderable"] = "completed"
    tweedie_power: Annotated[float, Field(gt=1, lt=2)] = 1.3
    feature_frac: Annotated[float, Field(gt=0, le=1)] = 0.5
    rounds: Annotated[int, Field(ge=1)] = 150
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    leaves: Annotated[int, Field(ge=2)] = 31
    min_leaf_cells: Annotated[int, Field(ge=1)] = 100
    daily_rounds: Annotated[int, Field(ge=1)] = 100
    daily_learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.12
    max_window_cells: Annotated[int, Field(ge=1000)] = 2_000_000
    max_sale_cells: Annotated[int, Field(ge=1000)] = 200_000
    max_zero_cells: Annotated[int, Field(ge=1000)] = 200_000
    daily_horizon_days: Days = 60
    daily_taus: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)
    sku_as_category: bool = False
    threads: Annotated[int, Field(ge=1)] = 1
    seed: int = 0

    @field_validator("daily_taus")
    @classmethod
    def _columns_differ(cls, taus: tuple[float, ...]) -> tuple[float, ...]:
        """Quantiles are columns named by whole percents; two of one name would overwrite each other."""
        names = [quantile_column(tau) for tau in taus]
        if len(set(names)) < len(names):
            msg = f"quantiles {taus} have columns {names}; give taus that differ in whole percents"
            raise ValueError(msg)
        return taus


def quantile_column(tau: float) -> str:
    """Return the name of a quantile's column, q90 for .9."""
    return f"q{round(100 * tau):02d}"
