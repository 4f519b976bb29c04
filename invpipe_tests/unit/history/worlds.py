"""Small random shops as frames, with what makes a reader stumble: gaps, null texts, sales while not orderable, same-day offers."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from invpipe.history import ShopHistory

START = date(2023, 3, 8)

Frames = dict[str, pl.DataFrame]


def day(index: int) -> date:
    """Day of a day index."""
    return START + timedelta(days=int(index))


def random_shop(seed: int, n_sku: int = 4, n_days: int = 60) -> Frames:
    """Tables of a shop of n_days from START on; SKU S00 is orderable throughout and sells on the first day."""
    g = np.random.default_rng(seed)
    skus = [f"S{i:02d}" for i in range(n_sku)]
    items = pl.DataFrame(
        {
            "sku": skus,
            "title": [None] * n_sku,
            "brand": [None] * n_sku,
            "genre": g.choice(["g1", "g2", None], n_sku).tolist(),
            "format": g.choice(["paper", None], n_sku).tolist(),
            "release_date": [None if g.random() < 0.3 else day(g.integers(-900, n_days + 10)) for _ in skus],
            "list_price": np.round(g.uniform(1, 20, n_sku), 2),
        },
        schema_overrides=dict.fromkeys(("title", "brand", "genre", "format"), pl.String) | {"release_date": pl.Date},
    )
    vendors = pl.DataFrame(
        {
            "vendor": ["V0", "V1", "V2"],
            "lead_time_days_mean": [3.0, 7.5, 20.0],
            "lead_time_days_sd": [0.0, 1.0, 4.0],
            "min_order_value": 0.0,
        }
    )
    spans, sales, views, stock = [], [(skus[0], day(0), 1, 2.5)], [], []
    for i, sku in enumerate(skus):
        open_days = np.ones(n_days, dtype=bool) if i == 0 else np.repeat(g.random(n_days // 4 + 1) < 0.7, 4)[:n_days]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], open_days.astype(int), [0]])))
        spans += [(sku, day(a), day(b - 1)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        rate = g.choice([0.0, 0.05, 0.3, 1.0])
        for d in range(n_days):
            units = int(g.poisson(rate))
            if units and (i or d):
                sales.append((sku, day(d), units, round(units * float(g.uniform(1, 9)), 2)))
            if (seen := int(g.poisson(rate))) > 0:
                views.append((sku, day(d), seen))
            if g.random() < 0.1:
                stock.append((sku, day(d), int(g.integers(0, 9))))
    stamps = {
        (skus[g.integers(n_sku)], f"V{g.integers(3)}", datetime.combine(day(g.integers(n_days)), datetime.min.time()) + timedelta(hours=h))
        for h in g.integers(0, 24, 5 * n_sku).tolist()
    }
    offers = [
        (*key, round(float(g.uniform(1, 9)), 2), bool(g.random() < 0.7), int(g.integers(1, 4)), int(g.integers(1, 3)))
        for key in sorted(stamps)
    ]
    int32, text = pl.Int32, {"sku": pl.String, "day": pl.Date}
    return {
        "items": items,
        "vendors": vendors,
        "sales_daily": pl.DataFrame(sales, schema=text | {"sales_units": int32, "revenue": pl.Float64}, orient="row"),
        "stock_daily": pl.DataFrame(stock, schema=text | {"on_hand_units": int32}, orient="row"),
        "page_views_daily": pl.DataFrame(views, schema=text | {"views": int32}, orient="row"),
        "offers": pl.DataFrame(
            offers,
            schema={
                "sku": pl.String,
                "vendor": pl.String,
                "observed_at": pl.Datetime("us"),
                "unit_cost": pl.Float64,
                "in_stock": pl.Boolean,
                "min_order_units": int32,
                "pack_units": int32,
            },
            orient="row",
        ),
        "orderable_daily": pl.DataFrame(spans, schema={"sku": pl.String, "from_day": pl.Date, "to_day": pl.Date}, orient="row"),
    }


def poisoned(frames: Frames, cutoff: date, seed: int) -> Frames:
    """The same tables with every row after the cutoff replaced by noise; spans that run past the cutoff end anywhere after it."""
    g = np.random.default_rng(seed)
    first: date = frames["sales_daily"]["day"].min()  # type: ignore[assignment]
    last: date = frames["orderable_daily"]["to_day"].max()  # type: ignore[assignment]
    room = (last - cutoff).days
    skus = frames["items"]["sku"].to_list()
    out = dict(frames)
    for name, value in (("sales_daily", "sales_units"), ("stock_daily", "on_hand_units"), ("page_views_daily", "views")):
        known = frames[name].filter(pl.col("day") <= cutoff)
        rows = [(sku, cutoff + timedelta(days=k), int(g.integers(1, 500))) for sku in skus for k in range(1, room + 1) if g.random() < 0.6]
        noise = pl.DataFrame(rows, schema={"sku": pl.String, "day": pl.Date, value: pl.Int32}, orient="row")
        if name == "sales_daily":
            noise = noise.with_columns(revenue=pl.lit(1e6))
        out[name] = pl.concat([known, noise]).sort("sku", "day")
    known = frames["offers"].filter(pl.col("observed_at").cast(pl.Date) <= cutoff)
    stamp = datetime.combine(cutoff + timedelta(days=1), datetime.min.time())
    noise = pl.DataFrame({"sku": skus, "vendor": frames["vendors"]["vendor"][0]}).with_columns(
        observed_at=pl.lit(stamp), unit_cost=pl.lit(0.01), in_stock=pl.lit(value=True), min_order_units=pl.lit(7), pack_units=pl.lit(7)
    )
    out["offers"] = pl.concat([known, noise.cast(dict(known.schema))])
    ends = pl.Series([cutoff + timedelta(days=int(k)) for k in g.integers(1, room + 1, len(frames["orderable_daily"]))])
    spans = frames["orderable_daily"].filter(pl.col("from_day") <= cutoff)
    running = pl.when(pl.col("to_day") > cutoff).then(ends.head(len(spans)))
    out["orderable_daily"] = spans.with_columns(to_day=running.otherwise("to_day"))
    assert out["sales_daily"]["day"].min() == first
    return out


def history(frames: Frames, **changes: pl.DataFrame | None) -> ShopHistory:
    """History of the tables, some of them replaced or left out."""
    return ShopHistory.from_frames(**(frames | changes))
