"""The embedded shop: the real demand of *Complete Journey* behind a simulated supply.

Demand and catalogue are real (:mod:`invpipe.sources.complete_journey`). Vendors, offers, page views and stock are simulated
(:mod:`invpipe.sources.supply`), and so are sales and orderable spans, since the simulated stock censors the real demand:
sales = min(demand, on hand). The true demand stays in ``demand_daily``, which only evaluation may read.

Limits: the opening stock knows the mean demand of the first 28 days, as a shop that was open before would; page views of the last
five days lead to a repetition of the last week's demand, since the data end there.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from invpipe.errors import SourceError
from invpipe.sources.complete_journey import FIRST_DAY, LAST_DAY, catalogue, read_lines, real_demand
from invpipe.sources.supply import VIEW_LEAD_DAYS, SupplyParams, SupplySimulation
from invpipe.sources.supply_kernels import TRAILING_DAYS, Int32Array
from invpipe.sources.tables import ShopTables

N_DAYS = (LAST_DAY - FIRST_DAY).days + 1
SIMULATED = frozenset({"vendors", "sales_daily", "stock_daily", "page_views_daily", "offers", "orderable_daily"})


class EmbeddedParams(BaseModel):
    """Parameters of the embedded shop.

    Attributes
    ----------
    n_skus
        SKUs drawn uniformly, so that the long tail keeps its shape; None takes all 67,845. With one seed, a smaller draw is part of a
        larger one.
    seed
        Seed of the draw and of the simulated supply.
    supply
        Parameters of the simulated supply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_skus: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    supply: SupplyParams = SupplyParams()


def embedded_shop(params: EmbeddedParams | None = None) -> ShopTables:
    """Read the real demand, simulate its supply, and give the shop's tables for 2017.

    Parameters
    ----------
    params
        Parameters; default: all SKUs, seed 0.

    Returns
    -------
    ShopTables
        The tables; ``simulated`` names all but items and demand_daily.

    Raises
    ------
    SourceError
        The data package is missing or damaged, or more SKUs are asked for than there are.
    """
    params = EmbeddedParams() if params is None else params
    lines = read_lines().collect()
    items = catalogue(lines)
    demand = real_demand(lines)
    del lines
    if params.n_skus is not None:
        items = _sample(items, params.n_skus, params.seed)
        demand = demand.join(items.select("sku"), on="sku", how="semi", maintain_order="left")
    units = _with_next_week(_dense(items["sku"], demand))
    simulation = SupplySimulation(
        items=items,
        opening_rate=units[:, :TRAILING_DAYS].mean(axis=1),
        first_day=FIRST_DAY,
        params=params.supply,
        seed=params.seed,
        simulated=SIMULATED,
    )
    return simulation.advance(units, last=True, unit_price=demand["unit_price"].to_numpy())


def _sample(items: pl.DataFrame, n_skus: int, seed: int) -> pl.DataFrame:
    if n_skus > items.height:
        msg = f"n_skus is {n_skus:,}; the embedded shop has {items.height:,} SKUs: ask for at most these, or for None to take all"
        raise SourceError(msg)
    chosen = np.random.default_rng(seed).permutation(items.height)[:n_skus]
    return items[np.sort(chosen)]


def _dense(skus: pl.Series, demand: pl.DataFrame) -> Int32Array:
    """Spread demand_daily to units, shape (SKU, day)."""
    units = np.zeros((skus.len(), N_DAYS), dtype=np.int32)
    day = (demand["day"] - FIRST_DAY).dt.total_days().to_numpy()
    units[skus.search_sorted(demand["sku"]).to_numpy(), day] = demand["demand_units"].to_numpy()
    return units


def _with_next_week(units: Int32Array) -> Int32Array:
    """Append the days that page views look ahead to: the same weekdays of the last week."""
    return np.concatenate([units, units[:, N_DAYS - 7 : N_DAYS - 7 + VIEW_LEAD_DAYS]], axis=1)
