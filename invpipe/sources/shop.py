"""A fully synthetic shop of any size with known demand rates, for tests and benchmarks.

**All of its tables are simulated.**

Expected units of SKU s on day d:

    rate(s, d) = b_s * w(d) * (1 + a sin(2 pi (d / 365.25 + phase_s))) * exp(sd z_{s,d} - sd^2 / 2)

b_s is gamma distributed with shape k (a long tail); its mean m solves (1 + m / k)^-k = zero_frac, the share of zero cells of a
gamma-Poisson mixture. w is a weekly pattern with mean 1, a the season's amplitude, phase_s common to the SKUs of a genre, z an AR(1)
process in days (absent at rate_autocorrelation 0). A SKU with a release date within the horizon has rate 0 before it. Demand is
Poisson given its rate. Supply, page views and censoring come from :mod:`invpipe.sources.supply`.

The shop can be streamed by ranges of days in bounded memory; the draws do not depend on the cut, and :func:`synthetic_shop` is
the stream in one piece.

Limits: season, launches and AR(1) shocks are not part of the calibration; they move the share of zeros by less than .01 at a
zero_frac of .97, by up to .06 at .5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from invpipe.errors import SourceError
from invpipe.sources import supply_kernels as kernels
from invpipe.sources.supply import VIEW_LEAD_DAYS, SupplyParams, SupplySimulation, text_keys
from invpipe.sources.supply_kernels import FloatArray, IntArray, KeyArray
from invpipe.sources.tables import DAY_TABLE_KEYS, ShopTables, concat_tables

SIMULATED = frozenset({"items", "vendors", *DAY_TABLE_KEYS})
#: Weekly pattern, Monday first, mean 1.
WEEK_FACTORS = np.array([0.85, 0.80, 0.90, 0.95, 1.15, 1.30, 1.05])
N_GENRES, N_BRANDS = 40, 200
FORMATS = ("hardcover", "paperback", "digital", "boxed", "other")
#: List prices are lognormal around this median.
LIST_PRICE_MEDIAN, LIST_PRICE_SD = 14.0, 0.6
#: Releases before the first day lie within this many days.
RELEASE_SPAN_DAYS = 3650


class SyntheticShopParams(BaseModel):
    """Parameters of the synthetic shop.

    Attributes
    ----------
    n_skus, n_days, first_day, seed
        Size, first day and seed.
    zero_frac
        Share of (SKU, day) cells without demand, about.
    rate_shape
        Shape of the gamma law of the base rates; smaller is a longer tail.
    rate_autocorrelation, rate_log_sd
        Day-to-day autocorrelation and standard deviation of the log rates; 0 means rates constant but for the season.
    season_amplitude
        Amplitude of the annual season, as a share of the rate.
    launch_frac
        Share of the SKUs that is released within the horizon.
    supply
        Parameters of the simulated supply; by default about 6 page views per unit of demand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_skus: int = Field(default=5000, ge=1, le=9_999_999)
    n_days: int = Field(default=1095, ge=1, le=20_000)
    first_day: date = date(2018, 1, 1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    zero_frac: float = Field(default=0.97, gt=0, lt=1)
    rate_shape: float = Field(default=0.35, gt=0, le=100)
    rate_autocorrelation: float = Field(default=0.0, ge=0, lt=1)
    rate_log_sd: float = Field(default=0.8, ge=0, le=3)
    season_amplitude: float = Field(default=0.3, ge=0, lt=1)
    launch_frac: float = Field(default=0.05, ge=0, le=1)
    supply: SupplyParams = SupplyParams(guard=1.4, views_per_unit=4.0, background_views_per_day=0.07)

    @property
    def last_day(self) -> date:
        """Last day of the shop."""
        return self.first_day + timedelta(days=self.n_days - 1)

    @property
    def mean_base_rate(self) -> float:
        """Mean of the base rates over SKUs, units per day, that gives ``zero_frac``."""
        return self.rate_shape * (math.pow(self.zero_frac, -1 / self.rate_shape) - 1)


@dataclass(frozen=True)
class _Population:
    """What is drawn once per SKU."""

    items: pl.DataFrame
    key: KeyArray
    base_rate: FloatArray
    launch_day: IntArray
    phase: FloatArray


def _population(params: SyntheticShopParams) -> _Population:
    n = params.n_skus
    rng = np.random.default_rng([params.seed, 2])
    base_rate = rng.gamma(params.rate_shape, params.mean_base_rate / params.rate_shape, size=n)
    genre, brand = rng.integers(N_GENRES, size=n), rng.integers(N_BRANDS, size=n)
    launch = np.where(rng.random(n) < params.launch_frac, rng.integers(params.n_days, size=n), -rng.integers(RELEASE_SPAN_DAYS, size=n))
    price = LIST_PRICE_MEDIAN * np.exp(LIST_PRICE_SD * rng.standard_normal(n))
    format_ = rng.integers(len(FORMATS), size=n)
    genre_phase = rng.random(N_GENRES)
    number = pl.Series(np.arange(1, n + 1)).cast(pl.String)
    items = pl.DataFrame({"sku": number.str.zfill(7), "genre": genre, "brand": brand, "format": format_, "launch": launch}).select(
        sku=pl.lit("S") + pl.col("sku"),
        title=pl.lit("Synthetic article ") + number,
        brand=pl.lit("brand ") + pl.col("brand").cast(pl.String).str.zfill(3),
        genre=pl.lit("genre ") + pl.col("genre").cast(pl.String).str.zfill(2),
        format=pl.lit(pl.Series(FORMATS)).gather(pl.col("format")),
        release_date=pl.lit(params.first_day) + pl.duration(days="launch"),
        list_price=pl.Series(np.maximum(0.5, price).round(2)),
    )
    return _Population(items, text_keys(items["sku"], params.seed), base_rate, np.maximum(0, launch), genre_phase[genre])


def _fill_rates(params: SyntheticShopParams, shop: _Population, day0: int, width: int, n_carry: int, log_shock: FloatArray) -> FloatArray:
    """Rates of ``width`` days from ``day0`` on; leaves in log_shock the state after ``n_carry`` of them."""
    rates = np.empty((params.n_skus, width))
    kernels.fill_rates(
        shop.key,
        shop.base_rate,
        shop.launch_day,
        shop.phase,
        np.roll(WEEK_FACTORS, -params.first_day.weekday()),
        (params.season_amplitude, float(params.first_day.timetuple().tm_yday)),
        (params.rate_autocorrelation, params.rate_log_sd),
        day0,
        n_carry,
        log_shock,
        rates,
    )
    return rates


def true_rates(params: SyntheticShopParams, n_days: int | None = None) -> pl.DataFrame:
    """Give the true expected demand of every SKU on each of the first days, in memory.

    Parameters
    ----------
    params
        Parameters of the shop.
    n_days
        Days from the first day on; default: all.

    Returns
    -------
    polars.DataFrame
        Key sku, day (sorted by it), with rate_units_per_day >= 0. Evaluation only.

    Raises
    ------
    SourceError
        n_days is not within 1 .. params.n_days.
    """
    n_days = params.n_days if n_days is None else n_days
    if not 1 <= n_days <= params.n_days:
        msg = f"n_days is {n_days}; the shop has {params.n_days} days: ask for 1 to {params.n_days}"
        raise SourceError(msg)
    shop = _population(params)
    rates = _fill_rates(params, shop, 0, n_days, n_days, np.zeros(params.n_skus))
    days = pl.date_range(params.first_day, params.first_day + timedelta(days=n_days - 1), eager=True)
    return pl.DataFrame(
        {
            "sku": shop.items["sku"].gather(np.repeat(np.arange(params.n_skus), n_days)),
            "day": days.gather(np.tile(np.arange(n_days), params.n_skus)),
            "rate_units_per_day": rates.ravel(),
        }
    )


def stream_synthetic_shop(params: SyntheticShopParams, days_per_chunk: int = 50) -> Iterator[ShopTables]:
    """Generate the shop by ranges of days, oldest first, in memory bounded by one range.

    Parameters
    ----------
    params
        Parameters of the shop.
    days_per_chunk
        Days per range, at least 1.

    Yields
    ------
    ShopTables
        Tables of the next days. items and vendors are the same in each; an orderable span stands in the range in which its end is seen,
        thus may lie before it; stock_daily goes on by change from range to range. :func:`~invpipe.sources.tables.concat_tables` joins them.

    Raises
    ------
    SourceError
        days_per_chunk is below 1.
    """
    if days_per_chunk < 1:
        msg = f"days_per_chunk is {days_per_chunk}; it must be at least 1"
        raise SourceError(msg)
    shop = _population(params)
    simulation = SupplySimulation(
        shop.items, shop.base_rate, params.first_day, params.supply, params.seed, SIMULATED, launch_day=shop.launch_day
    )
    log_shock = np.zeros(params.n_skus)
    for day0 in range(0, params.n_days, days_per_chunk):
        n_days = min(days_per_chunk, params.n_days - day0)
        rates = _fill_rates(params, shop, day0, n_days + VIEW_LEAD_DAYS, n_days, log_shock)
        demand = kernels.draw_demand(shop.key, rates, day0)
        del rates
        yield simulation.advance(demand, last=day0 + n_days == params.n_days)


def synthetic_shop(params: SyntheticShopParams | None = None) -> ShopTables:
    """Generate the whole shop in memory: the stream in one piece.

    Parameters
    ----------
    params
        Parameters of the shop; default: 5,000 SKUs over three years.

    Returns
    -------
    ShopTables
        All tables, all of them simulated.
    """
    params = SyntheticShopParams() if params is None else params
    return concat_tables(stream_synthetic_shop(params, days_per_chunk=params.n_days))
