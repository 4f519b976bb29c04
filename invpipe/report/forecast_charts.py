"""Charts of what a forecast is worth and why it is what it is; style and limits as in :mod:`invpipe.report.charts`.

Small panels stand in a grid, two in a row, so that the whole keeps the width of the other charts.
"""

from __future__ import annotations

from collections.abc import Callable

import altair as alt
import polars as pl

from invpipe.forecast.classes import DEMAND_CLASSES, calibration, pit_histogram, pool, whole_slab
from invpipe.report.charts import BLUE, COLOURS, GREY, HEIGHT, PHONE_WIDTH, WIDTH, Chart, _chart, _cutoff, _rule
from invpipe.report.tables import against_baselines

GREEN, RED = COLOURS[2], COLOURS[7]
#: Width of a panel where two stand in a row, with a title on its axis or without.
TITLED, HALF = 115, 130
#: Groups with fewer cells have brackets and histograms that say little, and no panel.
MIN_CELLS = 100


def _grid(panels: dict[str, Chart], columns: int) -> Chart:
    titled = (chart.properties(title=alt.TitleParams(title, limit=PHONE_WIDTH // columns - 14)) for title, chart in panels.items())
    return alt.concat(*titled, columns=columns, spacing=14)


def _groups(rows: pl.DataFrame, by: str) -> list[str]:
    return [str(group) for group in rows[by].unique(maintain_order=True)]


def _by_class(sums: pl.DataFrame, figures: Callable[..., pl.DataFrame], method: str) -> pl.DataFrame:
    """Return the figures of all SKUs and of every demand class with enough cells, told apart by the column group."""
    law = whole_slab(sums).filter(pl.col("method") == method)
    everyone = figures(law).with_columns(group=pl.lit("all SKUs"))
    classes = figures(law, "demand_class").rename({"demand_class": "group"}).filter(pl.col("cells") >= MIN_CELLS)
    return pl.concat([everyone, classes.with_columns(pl.col("group").cast(pl.String)).select(everyone.columns)])


def bracket_curve_chart(sums: pl.DataFrame, method: str = "window law") -> Chart:
    """Draw the bracket P(y < q) to P(y <= q) of every quantile over its tau, a panel per demand class; the diagonal should stay inside.

    Parameters
    ----------
    sums
        Rows of :func:`invpipe.forecast.classes.score_classes`; the whole slab is drawn.
    method
        Method to judge.
    """
    rows = _by_class(sums, calibration, method)
    axis = alt.Axis(values=[0, 0.5, 1], format=".1f")
    panels: dict[str, Chart] = {}
    for group in _groups(rows, "group"):
        part = rows.filter(pl.col("group") == group).select("tau", "low", "high", "cells")
        base = _chart(part).encode(x=alt.X("tau:Q", title="tau", axis=axis, scale=alt.Scale(domain=[0, 1])))
        y = alt.Y("low:Q", title="share of cells", axis=axis, scale=alt.Scale(domain=[0, 1]))
        band = base.mark_area(color=BLUE, opacity=0.35, line=False).encode(y=y, y2="high:Q")
        edges = [base.mark_line(color=BLUE, strokeWidth=1.2).encode(y=alt.Y(f"{edge}:Q")) for edge in ("low", "high")]
        points = pl.DataFrame({"tau": [0.0, 1.0], "share": [0.0, 1.0]})
        diagonal = _chart(points).mark_line(color=GREY, strokeDash=[5, 4]).encode(x="tau:Q", y="share:Q")
        panels[f"{group}: {part['cells'][0]:,}"] = alt.layer(band, *edges, diagonal).properties(width=TITLED, height=TITLED - 10)
    return _grid(panels, 2)


def pit_chart(sums: pl.DataFrame, method: str = "window law") -> Chart:
    """Draw the histogram of the randomised PIT, a panel per demand class; a calibrated law is flat at 1.

    Parameters
    ----------
    sums
        Rows of :func:`invpipe.forecast.classes.score_classes`; the whole slab is drawn.
    method
        Method to judge.
    """
    rows = _by_class(sums, pit_histogram, method)
    scale = alt.Scale(domain=[0, max([2.0, *rows["density"]])])
    panels: dict[str, Chart] = {}
    for group in _groups(rows, "group"):
        part = rows.filter(pl.col("group") == group)
        bars = (
            _chart(part.select("low", "high", "density"))
            .mark_bar(color=BLUE, opacity=0.8)
            .encode(
                x=alt.X("low:Q", title="PIT", axis=alt.Axis(values=[0, 0.5, 1], format=".1f"), scale=alt.Scale(domain=[0, 1])),
                x2="high:Q",
                y=alt.Y("density:Q", title="density", axis=alt.Axis(tickCount=4), scale=scale),
                y2=alt.Y2Datum(0),
            )
        )
        panels[f"{group}: {part['cells'][0]:,}"] = alt.layer(bars, _rule(1.0, "y")).properties(width=TITLED, height=TITLED - 30)
    return _grid(panels, 2)


def decile_chart(sums: pl.DataFrame, percent: int = 90, method: str = "window law") -> Chart:
    """Draw the bracket P(y < q) to P(y <= q) of one quantile per volume decile; it should hold the dashed line, a miss says by how much.

    Parameters
    ----------
    sums
        Rows of :func:`invpipe.forecast.classes.score_classes`; the whole slab is drawn.
    percent
        The quantile, one of :data:`invpipe.forecast.classes.PERCENTS`.
    method
        Method to judge.
    """
    tau = percent / 100
    law = whole_slab(sums).filter(pl.col("method") == method)
    rows = calibration(law, "volume_decile").filter(pl.col("tau") == tau)
    holds = pl.when(pl.col("violation_points") > 0).then(pl.lit(f"misses {tau:g}")).otherwise(pl.lit(f"holds {tau:g}"))
    rows = rows.select("volume_decile", "low", "high", "violation_points", bracket=holds)
    base = _chart(rows).encode(x=alt.X("volume_decile:O", title="volume decile, 10 sells most", axis=alt.Axis(labelAngle=0)))
    scale = alt.Scale(domain=[f"holds {tau:g}", f"misses {tau:g}"], range=[GREEN, RED])
    bars = base.mark_bar(size=18).encode(
        y=alt.Y("low:Q", title="share of cells", scale=alt.Scale(domain=[0, 1])), y2="high:Q", color=alt.Color("bracket:N", scale=scale)
    )
    missed = alt.datum.violation_points > 0
    text = base.mark_text(dy=-8).encode(y="high:Q", text=alt.Text("violation_points:Q", format=".1f")).transform_filter(missed)
    return alt.layer(bars, text, _rule(tau, "y")).properties(width=WIDTH, height=HEIGHT)


def class_fold_chart(sums: pl.DataFrame) -> Chart:
    """Draw the ranked probability score of the window law per fold and demand class; the best baseline there is 1, below is better.

    Parameters
    ----------
    sums
        Rows of :func:`invpipe.forecast.classes.score_classes`; the whole slab is drawn. Classes below :data:`MIN_CELLS` cells in a fold
        have no point there.
    """
    slab = whole_slab(sums)
    everyone = against_baselines(pool(slab, "cutoff")).with_columns(group=pl.lit("all SKUs"))
    classes = against_baselines(pool(slab, "cutoff", "demand_class")).filter(pl.col("cells") >= MIN_CELLS)
    classes = classes.with_columns(group=pl.col("demand_class").cast(pl.String)).select(everyone.columns)
    rows = pl.concat([everyone, classes]).select(pl.col("cutoff").cast(pl.String), "group", pl.col("rps_vs_best").fill_nan(None))
    names = ["all SKUs", *(name for name in DEMAND_CLASSES if name in rows["group"])]
    lines = (
        _chart(rows)
        .mark_line(point=True, strokeWidth=1.5)
        .encode(
            x=_cutoff(),
            y=alt.Y("rps_vs_best:Q", title="rps, best baseline = 1", scale=alt.Scale(zero=False)),
            color=alt.Color("group:N", sort=names, scale=alt.Scale(domain=names)),
        )
    )
    return alt.layer(lines, _rule(1.0, "y")).properties(width=WIDTH, height=HEIGHT)


def family_chart(families: pl.DataFrame) -> Chart:
    """Draw what each feature family is worth: how far it moves the log rate of a SKU, and its share of the gain in training.

    Parameters
    ----------
    families
        Rows of :func:`invpipe.forecast.explain.family_importance`.
    """
    order = families["family"].to_list()
    panels: dict[str, Chart] = {}
    for title, column, form in (
        ("mean |contribution| to the log rate", "mean_log_contribution", ".2f"),
        ("share of the gain", "gain_frac", ".1%"),
    ):
        y = alt.Y("family:N", sort=order, title=None)
        room = alt.Scale(domain=[0, 1.25 * max([0.01, *families[column]])])  # for the figure beside the longest bar
        base = _chart(families.select("family", column)).encode(
            x=alt.X(f"{column}:Q", title=None, axis=alt.Axis(format=form, tickCount=3), scale=room), y=y
        )
        text = base.mark_text(align="left", dx=4).encode(text=alt.Text(f"{column}:Q", format=form))
        panels[title] = alt.layer(base.mark_bar(color=BLUE, size=14), text).properties(width=195, height=24 * len(order))
    return _grid(panels, 1)


def fan_chart(fan: pl.DataFrame) -> Chart:
    """Draw, a panel per SKU, the running total of units sold up to the cutoff and from there on the fan q10 to q90 around the median.

    Parameters
    ----------
    fan
        Rows of :func:`invpipe.forecast.explain.forecast_fan`.
    """
    panels: dict[str, Chart] = {}
    for sku in _groups(fan, "sku"):
        part = fan.filter(pl.col("sku") == sku)
        total = int(part["sales_units"].sum())
        past = part.drop_nulls("sales_units").select("day", units=pl.col("sales_units").cum_sum())
        ahead = part.drop_nulls("q50").select("day", *(pl.col(name) + total for name in ("q10", "q50", "q90")))
        x = alt.X(
            "day:T",
            title=None,
            axis=alt.Axis(format="%d %b", labelOverlap=True, labelSeparation=6, tickCount=4),
            scale=alt.Scale(type="utc"),
        )
        y = alt.Axis(tickCount=4, format="~s")
        base = _chart(ahead).encode(x=x)
        band = base.mark_area(color=BLUE, opacity=0.25).encode(y=alt.Y("q10:Q", title=None, axis=y), y2="q90:Q")
        median = base.mark_line(color=BLUE, strokeWidth=1.5).encode(y="q50:Q")
        sold = _chart(past).mark_line(color=COLOURS[1], strokeWidth=1.5, interpolate="step-after").encode(x=x, y="units:Q")
        panels[sku] = alt.layer(band, median, sold).properties(width=HALF, height=90)
    return _grid(panels, 2)
