"""Sections of the settings that say how the chain computes: source sample, folds, forecast, planning, backtests."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=1)]
SweptPolicy = Literal[
    "ewma_greedy", "ewma_lp", "ewma_marginal", "forecast_greedy", "forecast_lp", "forecast_marginal",
    "gamma_poisson_greedy", "gamma_poisson_lp", "gamma_poisson_marginal", "ss", "base_stock",
]  # fmt: skip


class Section(BaseModel):
    """A part of the settings: frozen, unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddedSettings(Section):
    """The embedded shop: real demand of Complete Journey, simulated supply.

    Parameters
    ----------
    skus
        Size of the uniform sample of SKUs; 0 keeps all of them.
    seed
        Seed of the sample and of the simulated supply (vendors, offers, page views, stock policy).
    """

    skus: int = Field(default=2000, ge=0)
    seed: int = Field(default=0, ge=0)


class FoldSettings(Section):
    """Walk-forward folds.

    Parameters
    ----------
    horizon_days
        Days of a fold's test slab, counted from the day after its cutoff.
    step_days
        Days between two cutoffs.
    n_folds
        How many folds, the last one ending on the last day of the history.
    """

    horizon_days: Days = 28
    step_days: Days = 14
    n_folds: int = Field(default=12, ge=1)


class ForecastSettings(Section):
    """The demand forecast.

    Parameters
    ----------
    window_days
        Lengths of the windows (days 1..n after the cutoff) whose demand is predicted and scored, rising.
    daily_days
        Days for which daily quantiles are predicted.
    taus
        Quantile levels of the daily boosters, rising, inside (0, 1).
    refit_days
        Days between two trainings of a backtest's forecasts; between them the boosters stay and the features move on.
    """

    window_days: tuple[Days, ...] = (7, 14, 28)
    daily_days: Days = 60
    taus: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)
    refit_days: Days = 28

    @field_validator("window_days", "taus")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or list(values) != sorted(set(values)):
            msg = "give at least one value, in rising order, none twice"
            raise ValueError(msg)
        return values


class BacktestWindow(Section):
    """A named span of days, both ends inclusive, that a backtest replays.

    Parameters
    ----------
    name
        Partition key: letters, digits, ``-``, ``_`` and ``.``.
    start, end
        First and last day of the replay; the warm-up is its beginning.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    start: date
    end: date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            msg = f"window {self.name!r} ends on {self.end}, not after its start {self.start}"
            raise ValueError(msg)
        return self


class PlanningSettings(Section):
    """How orders are planned, today and in every backtest.

    Parameters
    ----------
    method
        Allocation method of the daily plan. "auto": "exact" where each SKU has one usable offer and no vendor a minimum order value, else
        "mip" over all usable offers ("lagrangian" where there are more than 30,000 of them). "mip" and "lagrangian" take all usable
        offers with their minimums, "exact", "lp" and "greedy" each SKU's cheapest, and defer vendors whose minimum is not reached.
    capital_limit
        Working capital tied up in stock and open orders at most, money; without it `capital_limit_frac` decides.
    capital_limit_frac
        Working capital as a share of the value at cost of the stock on hand (on the plan's day, or when a backtest starts).
    review_period_days
        Days between two decisions.
    holding_cost_frac_per_year
        Cost of holding a unit for a year as a share of its cost.
    inbound_cost_per_line
        Cost of receiving one order line, money.
    leftover_value_frac
        What a unit left over at the end of the protection window is worth as a share of its cost, 0 to below 1.
    """

    method: Literal["auto", "exact", "lp", "mip", "lagrangian", "greedy"] = "auto"
    capital_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    capital_limit_frac: float = Field(default=1.25, gt=0, allow_inf_nan=False)
    review_period_days: Days = 7
    holding_cost_frac_per_year: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    inbound_cost_per_line: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    leftover_value_frac: float = Field(default=0.9, ge=0, lt=1)


class BacktestSettings(Section):
    """Replays of the past.

    Parameters
    ----------
    windows
        Spans to replay, with different names.
    warm_up_days
        Days at the beginning of a window that no KPI counts.
    lead_time_seeds
        How many seeds of lead-time noise each policy is replayed with.
    liquidation_frac
        Share of its cost that a unit left over at the end is worth in the headline profit.
    """

    windows: tuple[BacktestWindow, ...] = (BacktestWindow(name="2017-h2", start=date(2017, 7, 2), end=date(2017, 12, 31)),)
    warm_up_days: int = Field(default=28, ge=0)
    lead_time_seeds: int = Field(default=3, ge=1)
    liquidation_frac: Fraction = 0.5

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        names = [window.name for window in self.windows]
        if not names or len(set(names)) < len(names):
            msg = f"windows need at least one name, none twice; got {names}"
            raise ValueError(msg)
        for window in self.windows:
            days = (window.end - window.start).days + 1
            if days <= self.warm_up_days:
                msg = f"window {window.name!r} has {days} days, warm_up_days is {self.warm_up_days}: no day is left to score"
                raise ValueError(msg)
        return self


class SweepSettings(Section):
    """What the sweep and the frontier of every backtest window try.

    Parameters
    ----------
    policies
        Policies of the sweep: law of demand and method, "ss" or "base_stock". Each is tried with the parameters it has.
    leftover_value_frac
        Values of `planning.leftover_value_frac` to try; "ss" and "base_stock" do not have it.
    safety_factor
        Standard deviations above the mean to try for "ss" and "base_stock".
    cover_days
        Days of demand between s and S to try for "ss".
    exposure_frac
        Shares of the velocity's days to try for the gamma-Poisson law.
    review_period_days
        Review periods to try, days; empty tries that of `planning` alone, the only one there are forecasts for.
    stockout_penalty_frac
        Penalties of the LP on the frontier, lambda, as shares of the unit price.
    capital_limit_frac
        Capital limits on the frontier, as shares of the opening stock at cost.
    lead_time_seeds
        How many seeds of lead-time noise each variant is replayed with.
    """

    policies: tuple[SweptPolicy, ...] = ("ewma_greedy", "ewma_marginal", "forecast_marginal")
    leftover_value_frac: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.8, 0.9, 0.95)
    safety_factor: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = (0.5, 1.0, 1.5)
    cover_days: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = (7.0, 14.0, 28.0)
    exposure_frac: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (1.0,)
    review_period_days: tuple[Days, ...] = ()
    stockout_penalty_frac: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = (0.1, 0.25, 0.5, 1.0)
    capital_limit_frac: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (0.75, 1.0, 1.25, 2.0)
    lead_time_seeds: int = Field(default=1, ge=1)

    @field_validator(
        "policies", "leftover_value_frac", "safety_factor", "cover_days", "exposure_frac", "stockout_penalty_frac", "capital_limit_frac"
    )
    @classmethod
    def _not_empty(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values:
            msg = "give at least one value"
            raise ValueError(msg)
        return values

    @field_validator(
        *("leftover_value_frac", "safety_factor", "cover_days", "exposure_frac"),
        *("review_period_days", "stockout_penalty_frac", "capital_limit_frac"),
    )
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)):
            msg = "give values in rising order, none twice"
            raise ValueError(msg)
        return values

    @model_validator(mode="after")
    def _forecasts_exist(self) -> Self:
        needing = [policy for policy in self.policies if policy.startswith("forecast_")]
        if len(set(self.policies)) < len(self.policies):
            msg = f"policies are {list(self.policies)}; give each once"
            raise ValueError(msg)
        if self.review_period_days and needing:
            msg = f"review_period_days is swept with {needing[0]!r}, whose forecasts are for one review period; leave those policies out"
            raise ValueError(msg)
        return self


class ReportSettings(Section):
    """What people read.

    Parameters
    ----------
    fiscal_year_start
        First day of the shop's fiscal year as month-day, "07-01"; sales are summed by fiscal year.
    base_url
        Address under which a web server gives out `exports/reports` of the home, "https://dagster.example.com/reports": the assets of pages
        link to it. Empty for no links.
    """

    fiscal_year_start: str = "01-01"
    base_url: str = Field(default="", pattern=r"^(https?://[^\s/@?#][^\s@?#]*)?$")

    @field_validator("fiscal_year_start")
    @classmethod
    def _is_a_day(cls, value: str) -> str:
        try:
            date.fromisoformat(f"2001-{value}")  # no leap year: 02-29 is no first day of every year
        except ValueError as error:
            msg = f"{value!r} is no month-day of every year; write it as 07-01"
            raise ValueError(msg) from error
        return value
