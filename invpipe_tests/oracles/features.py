"""The features from their definitions, one cell at a time, in plain Python over the tables of a history.

Shares no code with `invpipe.features` but the names. Slow on purpose. A value that does not exist is NaN.
"""

from __future__ import annotations

import math
from datetime import date, timedelta

from invpipe.history import ShopHistory

NAN = float("nan")
HALF_LIFE_DAYS = 28
YEAR_DAYS = 364


class Shop:
    """What is known of each SKU, by day index."""

    def __init__(self, history: ShopHistory) -> None:
        index = history.day_index
        self.history = history
        self.open: dict[str, set[int]] = {sku: set() for sku in history.skus}
        for sku, first, last in history.orderable_daily.rows():
            self.open[sku] |= set(range(index(first), index(last) + 1))
        self.sold: dict[str, dict[int, int]] = {sku: {} for sku in history.skus}
        for sku, day, units, _ in history.sales_daily.rows():
            if index(day) in self.open[sku]:
                self.sold[sku][index(day)] = units
        self.views: dict[str, dict[int, int]] = {sku: {} for sku in history.skus}
        for sku, day, views in [] if history.page_views_daily is None else history.page_views_daily.rows():
            self.views[sku][index(day)] = views
        self.offers: dict[str, list[tuple[int, str, float, bool]]] = {sku: [] for sku in history.skus}
        for sku, vendor, at, cost, in_stock, *_ in [] if history.offers is None else history.offers.sort("observed_at").rows():
            self.offers[sku].append((index(at.date()), vendor, cost, in_stock))
        self.ranks = {
            name: {value: rank for rank, value in enumerate(sorted(set(history.items[name].drop_nulls())))} for name in ("genre", "format")
        }
        self.items = {row["sku"]: row for row in history.items.rows(named=True)}


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else NAN


def features(shop: Shop, sku: str, origin: int, first: int, last: int) -> dict[str, float]:
    """Features of the window (first, last) after the origin, known at the end of the origin day."""
    sold = {d: n for d, n in shop.sold[sku].items() if d <= origin}
    open_days = {d for d in shop.open[sku] if d <= origin}
    views = {d: n for d, n in shop.views[sku].items() if d <= origin}
    item = shop.items[sku]

    def recent(days: int) -> range:
        return range(origin - days + 1, origin + 1)

    def units(days: range) -> int:
        return sum(sold.get(d, 0) for d in days)

    def exposed(days: range) -> int:
        return len(open_days & set(days))

    out = {f"rate_{n}": _ratio(units(recent(n)), exposed(recent(n))) for n in (7, 14, 28, 56, 91, 182)}
    for n in (28, 91, 364):
        out[f"sale_days_frac_{n}"] = _ratio(len(set(sold) & set(recent(n))), exposed(recent(n)))
    weight = {d: 0.5 ** ((origin - d) / HALF_LIFE_DAYS) for d in range(origin + 1)}
    out["ewma_rate"] = _ratio(sum(weight[d] * n for d, n in sold.items()), sum(weight[d] for d in open_days))
    out["days_since_sale"] = origin - max(sold) if sold else NAN

    year_ago = range(origin + first - YEAR_DAYS, origin + last - YEAR_DAYS + 1)
    known = year_ago[0] >= 0 and year_ago[-1] <= origin
    out["rate_last_year"] = _ratio(units(year_ago), exposed(year_ago)) if known else NAN

    have_views = shop.history.page_views_daily is not None
    out["views_28"] = sum(views.get(d, 0) for d in recent(28)) if have_views else NAN
    out["conversion_91"] = _ratio(units(recent(91)), sum(views.get(d, 0) for d in recent(91))) if have_views else NAN

    past = [d for d in recent(28) if d >= 0]
    out["orderable_frac_28"] = exposed(recent(28)) / len(past)
    state = {vendor: (cost, in_stock) for d, vendor, cost, in_stock in shop.offers[sku] if d <= origin}
    live = [cost for cost, in_stock in state.values() if in_stock]
    out["vendors_in_stock"] = len(live) if state else NAN
    out["min_unit_cost"] = min(live) if live else NAN

    target = shop.history.first_day + timedelta(days=origin + first)
    christmas = next(day for year in (target.year, target.year + 1) if (day := date(year, 12, 25)) >= target)
    out["day_of_week"] = target.weekday()
    out["day_of_month"] = target.day
    out["days_to_christmas"] = (christmas - target).days

    released = item["release_date"]
    today = shop.history.first_day + timedelta(days=origin)
    out["release_year"] = released.year if released else NAN
    out["age_days"] = (today - released).days if released else origin - min(sold) if sold else NAN
    for name in ("genre", "format"):
        out[name] = shop.ranks[name][item[name]] if item[name] is not None else NAN

    out["units_so_far"], out["sale_days_so_far"] = sum(sold.values()), len(sold)
    out["days_since_first_sale"] = origin - min(sold) if sold else NAN
    out["sale_interval_days"] = _ratio(max(sold) - min(sold), len(sold) - 1) if sold else NAN
    for n in (91, 364):
        sizes = [sold[d] for d in recent(n) if d in sold]
        out[f"units_per_sale_day_{n}"] = _ratio(sum(sizes), len(sizes))
    mean = out["units_per_sale_day_364"]
    out["sale_size_cv2_364"] = sum((size - mean) ** 2 for size in sizes) / len(sizes) / mean**2 if len(sizes) > 1 else NAN

    for start in range(28, 196, 28):
        month = range(origin - start - 27, origin - start + 1)
        out[f"rate_{start + 1}_{start + 28}"] = _ratio(units(month), exposed(month))
    same_day = origin - YEAR_DAYS
    quarter = range(same_day - 90, same_day + 1)
    before = _ratio(units(quarter), exposed(quarter)) if same_day + 1 >= 28 else NAN
    out["rate_91_last_year"] = before
    out["season_last_year"] = out["rate_last_year"] / before if before > 0 else NAN
    out["seasonal_rate"] = out["season_last_year"] * out["rate_91"]
    return {name: math.nan if value is None else float(value) for name, value in out.items()}
