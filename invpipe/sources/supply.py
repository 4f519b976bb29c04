"""Simulate the supply side of a shop whose demand is given: vendors, offers, page views, and the stock that censors the demand.

**Everything made here is simulated.** No public data set holds both the demand and the supply of one shop. The simulation is seeded; each
SKU's outcome depends on the seed, its own row of ``items`` and its own demand alone, so a sample of a shop's SKUs replays as in the full
shop.

Order of a day: offer changes, arrivals, opening count of the stock, sales = min(demand, on hand), and on a review day one order.

- *Vendors*: mean lead time 2..14 days, its standard deviation 10..35 % of the mean, a modest minimum order value (a third has none).
- *Offers*: every pair of genre and brand has four vendors; a SKU is offered by the first of them and by none, one or two of the others.
  Unit cost = list price x a share within .45 to .80, slow vendors cheaper, moved by a random walk; the vendor's stock switches on and off.
  Some fast movers come in packs of 6 or 12.
- *Page views*: Poisson with mean = background + views per unit x demand of this and the next five days, weighted; in stock or not. In
  the shop's last five days the demand still to come must be given by the caller.
- *Stock*: the legacy policy, per SKU and without shared capital. At every review it orders up to
  S = max(1, ceil(trailing 28-day mean sales x (lead time + review period) x guard)) from the cheapest vendor that has stock. It sees
  sales, not demand. Minimum order values bind orders of a whole vendor, so this per-SKU replay does not apply them.
- *Opening*: what was sold in the 28 days before the first day is drawn from the opening rate; a share of the SKUs opens with S units,
  the rest empty.

Source: order-up-to policies under periodic review, e.g. Silver, Pyke and Thomas (2017), *Inventory and Production Management in
Supply Chains*, chapter 6.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from invpipe.errors import SourceError
from invpipe.sources import supply_kernels as kernels
from invpipe.sources.supply_kernels import BoolArray, FloatArray, Int32Array, IntArray, KeyArray
from invpipe.sources.tables import ShopTables

#: Days of demand after a chunk that its page views depend on.
VIEW_LEAD_DAYS = kernels.VIEW_LEAD_WEIGHTS.size - 1
#: Vendors that compete for one pair of genre and brand; shares of SKUs offered by one, two and three of them.
VENDORS_PER_RANGE = 4
VENDOR_COUNT_FRACS = (0.3, 0.4, 0.3)
#: Opening units per day from which a SKU is a fast mover, and the shares of fast movers sold to the shop in packs of 6 and 12.
FAST_RATE = 0.5
PACK_6_FRAC, PACK_12_FRAC = 0.30, 0.15
#: Spread (sd of the log) of the views per unit and of the background views over the SKUs.
VIEWS_PER_UNIT_SD, BACKGROUND_SD = 0.4, 1.0
#: Mean lead times are drawn from these days, both ends included.
LEAD_TIME_DAYS_MEAN = (2, 14)
LEAD_TIME_SD_FRAC = (0.10, 0.35)

_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000


class SupplyParams(BaseModel):
    """Parameters of the simulated supply.

    Attributes
    ----------
    n_vendors
        Vendors of the shop.
    review_period_days
        Days between two orders of the legacy policy.
    guard
        Factor on the trailing sales rate in the base stock level.
    opening_frac
        Share of the SKUs that has stock on the first day.
    views_per_unit, background_views_per_day
        Mean page views per unit of demand, and per SKU and day without any.
    cost_change_days, in_stock_days, out_of_stock_days
        Mean days between two costs of an offer, and of a spell with and without stock at the vendor.
    max_min_order_value
        Largest minimum order value of a vendor, in money.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_vendors: int = Field(default=30, ge=VENDORS_PER_RANGE, le=99)
    review_period_days: int = Field(default=7, ge=1, le=28)
    guard: float = Field(default=1.6, gt=0, le=10)
    opening_frac: float = Field(default=0.95, ge=0, le=1)
    views_per_unit: float = Field(default=15.0, ge=0, le=1000)
    background_views_per_day: float = Field(default=0.3, ge=0, le=1000)
    cost_change_days: float = Field(default=45.0, ge=1)
    in_stock_days: float = Field(default=90.0, ge=1)
    out_of_stock_days: float = Field(default=7.0, ge=1)
    max_min_order_value: float = Field(default=30.0, ge=0)


def text_keys(texts: pl.Series, seed: int) -> KeyArray:
    """Hash each text with the seed to 64 bits, the same on every machine; null counts as the empty text."""
    salt = seed.to_bytes(8, "little", signed=True)
    digests = [hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in texts.fill_null("")]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def simulate_vendors(params: SupplyParams, seed: int) -> pl.DataFrame:
    """Draw the simulated table of vendors (key vendor; sorted by it)."""
    rng = np.random.default_rng([seed, 1])
    n = params.n_vendors
    low, high = LEAD_TIME_DAYS_MEAN
    mean = rng.integers(low, high, size=n, endpoint=True).astype(np.float64)
    minimum = rng.uniform(0.1, 1.0, size=n) * params.max_min_order_value * (rng.random(n) > 1 / 3)
    return pl.DataFrame(
        {
            "vendor": [f"V{i:02d}" for i in range(1, n + 1)],
            "lead_time_days_mean": mean,
            "lead_time_days_sd": (mean * rng.uniform(*LEAD_TIME_SD_FRAC, size=n)).round(2),
            "min_order_value": minimum.round(0),
        }
    )


class SupplySimulation:
    """The simulated supply of one shop, advanced by ranges of days.

    Parameters
    ----------
    items
        Table of items, sorted by sku.
    opening_rate
        Units per day the shop expects to sell of each SKU when it opens (or launches the SKU), shape (SKU,), >= 0.
    first_day
        First day of the shop.
    params
        Parameters of the supply.
    seed
        Seed of every draw.
    simulated
        Names of the simulated tables, passed on to :class:`ShopTables`.
    launch_day
        Days from the first day to the launch of each SKU, shape (SKU,); default 0. A SKU has no stock, orders and background views before.

    Raises
    ------
    SourceError
        The items are not sorted by a unique sku, or a list price or an opening rate is out of its bounds.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        opening_rate: FloatArray,
        first_day: date,
        params: SupplyParams,
        seed: int,
        simulated: frozenset[str],
        launch_day: IntArray | None = None,
    ) -> None:
        _check_items(items, opening_rate)
        n = items.height
        self.items = items
        self.first_day = first_day
        self.params = params
        self.simulated = simulated
        self.vendors = simulate_vendors(params, seed)
        self._day = 0
        self._key = text_keys(items["sku"], seed)
        vendor, start = _choose_vendors(items, self._key, params.n_vendors, seed)
        self._vendor_lead = np.ascontiguousarray(self.vendors.select("lead_time_days_mean", "lead_time_days_sd").to_numpy())
        launch = np.zeros(n, dtype=np.int64) if launch_day is None else launch_day
        sold = kernels.past_sales(self._key, opening_rate)
        levels = [
            kernels.base_stock_level(units, lead, params.review_period_days, params.guard)
            for units, lead in zip(sold.sum(axis=1).tolist(), self._vendor_lead[vendor[start[:-1]], 0].tolist(), strict=True)
        ]
        opens = (kernels.uniforms(self._key, kernels.FIRST_STOCK) < params.opening_frac) | (launch > 0)

        # offers: one row per SKU and vendor
        self._offer_owner = np.repeat(np.arange(n), np.diff(start))
        self._offer_key = kernels.offer_keys(self._key[self._offer_owner], vendor)
        self._offer_price = items["list_price"].to_numpy()[self._offer_owner]
        self._cost_frac = _opening_cost_frac(self.vendors, vendor, self._key[self._offer_owner], self._offer_key)
        up_frac = params.in_stock_days / (params.in_stock_days + params.out_of_stock_days)
        self._in_stock: BoolArray = kernels.uniforms(self._offer_key, kernels.FIRST_STOCK) < up_frac
        pack = _pack_units(self._key, opening_rate)[self._offer_owner]

        self._terms = kernels.SkuTerms(
            key=self._key,
            launch_day=launch,
            launch_units=np.where(opens, levels, 0).astype(np.int64),
            offer_start=start,
            offer_vendor=vendor,
            min_order_units=pack,
            pack_units=pack,
        )
        self._stock = kernels.StockState(
            on_hand=np.zeros(n, dtype=np.int64),
            on_order=np.zeros(n, dtype=np.int64),
            arriving=np.zeros((n, kernels.ARRIVAL_SLOTS), dtype=np.int32),
            sold=sold,
            seen_cost=np.zeros(vendor.size),
            seen_in_stock=np.zeros(vendor.size, dtype=np.bool_),
        )
        self._last_opening: IntArray = np.full(n, -1, dtype=np.int64)
        self._span_from: IntArray = np.full(n, -1, dtype=np.int64)
        self._views_per_unit = params.views_per_unit * _spread(self._key, kernels.VIEW_RATE, VIEWS_PER_UNIT_SD)
        self._background = params.background_views_per_day * _spread(self._key, kernels.BACKGROUND, BACKGROUND_SD)

    def advance(self, demand_units: Int32Array, *, last: bool, unit_price: FloatArray | None = None) -> ShopTables:
        """Simulate the next days and give their tables.

        Parameters
        ----------
        demand_units
            Units wanted, shape (SKU, days + ``VIEW_LEAD_DAYS``); the columns past the days only lead to page views.
        last
            These are the shop's last days: open orderable spans end with them. Otherwise a span is given in the chunk in which it ends.
        unit_price
            Money paid per unit, one per cell with demand, in the order of (SKU, day); default: the list price.

        Returns
        -------
        ShopTables
            Tables of these days.
        """
        n_days = demand_units.shape[1] - VIEW_LEAD_DAYS
        day0 = self._day
        events = self._offer_events(day0, n_days)
        opening = np.empty((self.items.height, n_days), dtype=np.int32)
        sales = np.empty_like(opening)
        kernels.replay_stock(
            demand_units,
            self._terms,
            events,
            self._vendor_lead,
            self.params.review_period_days,
            self.params.guard,
            day0,
            self._stock,
            opening,
            sales,
        )
        demand_daily, sales_daily = self._demand_and_sales(demand_units[:, :n_days], sales, unit_price)
        del sales
        stock_daily = self._stock_daily(opening)
        spans = kernels.orderable_spans(opening, day0, last, self._span_from)
        del opening
        views = kernels.draw_views(self._key, demand_units, self._terms.launch_day, self._views_per_unit, self._background, day0, n_days)
        tables = ShopTables(
            items=self.items,
            vendors=self.vendors,
            sales_daily=sales_daily,
            stock_daily=stock_daily,
            page_views_daily=self._cells(*np.nonzero(views), views=views[views > 0]),
            offers=self._offers(events),
            orderable_daily=pl.DataFrame(
                {
                    "sku": self.items["sku"].gather(spans[:, 0]),
                    "from_day": self._days(spans[:, 1]),
                    "to_day": self._days(spans[:, 2]),
                }
            ).sort("sku", "from_day"),
            demand_daily=demand_daily,
            first_day=self.first_day + timedelta(days=day0),
            last_day=self.first_day + timedelta(days=day0 + n_days - 1),
            simulated=self.simulated,
        )
        self._day += n_days
        return tables

    def _offer_events(self, day0: int, n_days: int) -> kernels.OfferEvents:
        params = self.params
        probs = (1 / params.cost_change_days, 1 / params.in_stock_days, 1 / params.out_of_stock_days)
        return kernels.offer_events(self._offer_key, self._offer_price, probs, day0, n_days, self._cost_frac, self._in_stock)

    def _offers(self, events: kernels.OfferEvents) -> pl.DataFrame:
        offer = np.repeat(np.arange(self._offer_key.size), np.diff(events.start))
        seconds = kernels.event_seconds(self._offer_key[offer], events.day)
        first_us = (self.first_day - _EPOCH).days * _DAY_US
        return pl.DataFrame(
            {
                "sku": self.items["sku"].gather(self._offer_owner[offer]),
                "vendor": self.vendors["vendor"].gather(self._terms.offer_vendor[offer]),
                "observed_at": pl.Series(first_us + events.day * _DAY_US + seconds * 1_000_000).cast(pl.Datetime("us")),
                "unit_cost": events.unit_cost,
                "in_stock": events.in_stock,
                "min_order_units": self._terms.min_order_units[offer].astype(np.int32),
                "pack_units": self._terms.pack_units[offer].astype(np.int32),
            }
        )

    def _demand_and_sales(self, demand: Int32Array, sales: Int32Array, unit_price: FloatArray | None) -> tuple[pl.DataFrame, pl.DataFrame]:
        row, day = np.nonzero(demand)
        price = self.items["list_price"].to_numpy()[row] if unit_price is None else unit_price
        sold = sales[row, day]
        kept = sold > 0
        sales_daily = self._cells(row[kept], day[kept], sales_units=sold[kept], revenue=sold[kept] * price[kept])
        return self._cells(row, day, demand_units=demand[row, day]), sales_daily

    def _stock_daily(self, opening: Int32Array) -> pl.DataFrame:
        changed = np.empty(opening.shape, dtype=np.bool_)
        changed[:, 0] = opening[:, 0] != self._last_opening
        np.not_equal(opening[:, 1:], opening[:, :-1], out=changed[:, 1:])
        self._last_opening = opening[:, -1].astype(np.int64)
        return self._cells(*np.nonzero(changed), on_hand_units=opening[changed])

    def _cells(self, row: IntArray, day: IntArray, **columns: npt.NDArray[np.generic]) -> pl.DataFrame:
        """Make a frame keyed (sku, day) out of rows of the items and days of the chunk."""
        return pl.DataFrame({"sku": self.items["sku"].gather(row), "day": self._days(day + self._day), **columns})

    def _days(self, day: IntArray) -> pl.Series:
        return pl.Series((day + (self.first_day - _EPOCH).days).astype(np.int32)).cast(pl.Date)


def _check_items(items: pl.DataFrame, opening_rate: FloatArray) -> None:
    sku = items["sku"]
    unsorted = sku.head(-1) >= sku.tail(-1)
    if unsorted.any():
        first = sku[int(unsorted.arg_max() or 0) + 1]
        msg = f"{unsorted.sum()} of {sku.len()} rows of items are not above the sku before them, first {first!r}; sort by unique sku"
        raise SourceError(msg)
    for name, values, valid in (
        ("list_price", items["list_price"].to_numpy(), items["list_price"].to_numpy() > 0),
        ("opening_rate", opening_rate, opening_rate >= 0),
    ):
        bad = np.flatnonzero(~(valid & np.isfinite(values)))
        if bad.size:
            bound = "above 0" if name == "list_price" else "at least 0"
            msg = f"{bad.size} of {sku.len()} values of {name} are not finite and {bound}, first (sku={sku[int(bad[0])]}): {values[bad[0]]}"
            raise SourceError(f"{msg}; correct the source")


def _choose_vendors(items: pl.DataFrame, key: KeyArray, n_vendors: int, seed: int) -> tuple[IntArray, IntArray]:
    """Choose one to three vendors per SKU; returns vendor numbers, ascending within a SKU, and the start of each SKU's offers."""
    ranges = items.select(pl.concat_str(pl.col("genre", "brand").fill_null(""), separator="\n").alias("range"))["range"]
    names = ranges.unique().sort()
    rivals = np.stack(
        [np.random.default_rng([seed % 2**63, k]).permutation(n_vendors)[:VENDORS_PER_RANGE] for k in text_keys(names, seed).tolist()]
    )[names.search_sorted(ranges).to_numpy()]
    count = 1 + np.searchsorted(np.cumsum(VENDOR_COUNT_FRACS)[:-1], kernels.uniforms(key, kernels.VENDOR_COUNT), side="right")
    turn = (kernels.uniforms(key, kernels.VENDOR_TURN) * (VENDORS_PER_RANGE - 1)).astype(np.int64)
    others = [1 + (turn + i) % (VENDORS_PER_RANGE - 1) for i in range(2)]
    at = np.arange(items.height)
    chosen = np.stack([rivals[:, 0], rivals[at, others[0]], rivals[at, others[1]]], axis=1)
    chosen[np.arange(3) >= count[:, None]] = n_vendors  # marks an unused place; sorts behind every vendor
    chosen.sort(axis=1)
    vendor = chosen[chosen < n_vendors].astype(np.int64)
    return vendor, np.concatenate(([0], np.cumsum(count))).astype(np.int64)


def _opening_cost_frac(vendors: pl.DataFrame, vendor: IntArray, owner_key: KeyArray, offer_key: KeyArray) -> FloatArray:
    """First unit cost of each offer as a share of the list price: slow vendors are cheaper, SKUs differ, offers differ a little."""
    low, high = LEAD_TIME_DAYS_MEAN
    speed = (high - vendors["lead_time_days_mean"].to_numpy()[vendor]) / (high - low)
    level = 0.3 * speed + 0.4 * kernels.uniforms(owner_key, kernels.COST_LEVEL) + 0.3 * kernels.uniforms(offer_key, kernels.COST_LEVEL)
    return np.asarray(kernels.COST_FRAC_MIN + (kernels.COST_FRAC_MAX - kernels.COST_FRAC_MIN) * level, dtype=np.float64)


def _spread(key: KeyArray, stream: int, log_sd: float) -> FloatArray:
    """Draw one lognormal factor with mean 1 per SKU."""
    return np.asarray(np.exp(log_sd * kernels.normals(key, stream) - log_sd**2 / 2), dtype=np.float64)


def _pack_units(key: KeyArray, opening_rate: FloatArray) -> IntArray:
    """Units per pack of each SKU: 1, for some fast movers 6 or 12."""
    draw = kernels.uniforms(key, kernels.PACK)
    pack = np.where(draw < PACK_12_FRAC, 12, np.where(draw < PACK_12_FRAC + PACK_6_FRAC, 6, 1))
    return np.where(opening_rate >= FAST_RATE, pack, 1).astype(np.int64)
