"""Charts: one function per picture, frames in, an Altair chart out; :mod:`invpipe.report.images` draws them.

All charts are at most :data:`PHONE_WIDTH` points wide with their labels, so that a phone shows them whole, with letters of 12 points.
Data are values of the chart, dates are UTC: what is drawn depends on nothing but the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import altair as alt
import polars as pl

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.ConcatChart

#: A phone of 390 points less the margins of the page.
PHONE_WIDTH = 358
#: Plot of a chart without its labels.
WIDTH, HEIGHT = 280, 170
#: Middle tones with a contrast of 3:1 or more on white and on near-black.
COLOURS = ("#3b82c4", "#d9692b", "#2a9d72", "#c2569b", "#8b7cc9", "#a98310", "#7f8790", "#d1495b")
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[6]
#: Points per line a chart draws at most; longer runs are thinned to every k-th point, the last one included.
MAX_POINTS = 200


def _values(rows: list[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _chart(frame: pl.DataFrame) -> Any:
    """Return an Altair chart of the rows, without marks and channels yet; its methods are untyped."""
    return alt.Chart(_values(frame.with_columns(pl.col(pl.Date).dt.to_string("%Y-%m-%dT00:00:00Z")).to_dicts()))


def _time(column: str) -> alt.X:
    """Return the axis of a day column, in UTC as the values are."""
    axis = alt.Axis(format="%d %b %y", labelOverlap=True, labelSeparation=8, tickCount=6)
    return alt.X(f"{column}:T", title=None, axis=axis, scale=alt.Scale(type="utc"))


def _named_rows(chart: Any, rows: int, height: int) -> Chart:
    """Return the chart with so high a row per name; the plot takes the width that the names leave of :data:`PHONE_WIDTH`."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    finished: Chart = chart.properties(width=PHONE_WIDTH, height=height * max(rows, 1), autosize=fit)
    return finished


def _cutoff() -> alt.X:
    return alt.X("cutoff:O", title="cutoff of the fold", axis=alt.Axis(labelAngle=-45))


def _rule(value: float, axis: str) -> Any:
    """Return a dashed reference line at a value of the axis "x" or "y"."""
    datum = alt.XDatum(value) if axis == "x" else alt.YDatum(value)
    return alt.Chart(_values([{}])).mark_rule(strokeDash=[5, 4], opacity=0.7).encode(datum)


def _stack(charts: Mapping[str, Chart]) -> Chart:
    return alt.vconcat(*(chart.properties(title=title) for title, chart in charts.items()))


def _finished(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the scores with NaN as null, which Vega leaves out, and the fold's cutoff as a label."""
    return scores.with_columns(pl.col(pl.Float64).fill_nan(None), pl.col("cutoff").cast(pl.String))


def fold_scores_chart(scores: pl.DataFrame) -> Chart:
    """Draw pinball loss at .9 relative to the zero forecast (1 = no better than that) per fold and method, one panel per target.

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.scores.score_fold`.
    """
    rows = _finished(scores.filter(pl.col("method") != "zero"))
    methods = rows["method"].unique(maintain_order=True).to_list()
    panels: dict[str, Chart] = {}
    for target in rows["target"].unique(maintain_order=True):
        lines = (
            _chart(rows.filter(pl.col("target") == target).select("cutoff", "method", "pinball_90_vs_zero"))
            .mark_line(point=True)
            .encode(
                x=_cutoff(),
                y=alt.Y("pinball_90_vs_zero:Q", title="pinball .9, zero = 1", scale=alt.Scale(zero=False)),
                color=alt.Color("method:N", sort=methods, scale=alt.Scale(domain=methods)),
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
        panels[f"{target} units"] = lines
    return _stack(panels)


def calibration_chart(scores: pl.DataFrame) -> Chart:
    """Draw the bracket P(y < q90) .. P(y <= q90) per fold, one panel per target, of its first method; it should hold the line at .9.

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.scores.score_fold`, the method to judge first in each target.
    """
    rows = _finished(scores).with_columns(
        pl.when(pl.col("bracket_90_violation_points") > 0).then(pl.lit("misses .9")).otherwise(pl.lit("holds .9")).alias("bracket")
    )
    panels: dict[str, Chart] = {}
    for target, method in _judged(rows):
        part = rows.filter((pl.col("target") == target) & (pl.col("method") == method))
        bars = (
            _chart(part.select("cutoff", "bracket_90_low", "bracket_90_high", "bracket"))
            .mark_bar(size=14)
            .encode(
                x=_cutoff(),
                y=alt.Y("bracket_90_low:Q", title="share of cells", scale=alt.Scale(domainMax=1.0, zero=False)),
                y2="bracket_90_high:Q",
                color=alt.Color("bracket:N", scale=alt.Scale(domain=["holds .9", "misses .9"], range=[COLOURS[2], COLOURS[7]])),
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
        panels[f"{target} units: {method}"] = alt.layer(bars, _rule(0.9, "y"))
    return _stack(panels)


def _judged(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """Return the first method of every target, zero aside."""
    first = rows.filter(pl.col("method") != "zero").unique("target", keep="first", maintain_order=True)
    return list(first.select("target", "method").iter_rows())


def coverage_chart(scores: pl.DataFrame) -> Chart:
    """Draw the randomised coverage of the 80 % interval per fold and method, beside the plain coverage of the interval [0, 0].

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.scores.score_fold`; only methods that predict a whole law have a randomised coverage.
    """
    rows = _finished(scores.filter(pl.col("target") == "window"))
    laws = rows.filter((pl.col("method") != "zero") & pl.col("randomised_coverage_80").is_not_null())
    zero = rows.unique("cutoff", keep="first", maintain_order=True)
    series = pl.concat(
        [
            laws.select("cutoff", series="method", coverage="randomised_coverage_80"),
            zero.select("cutoff", series=pl.lit("interval [0, 0]"), coverage="coverage_80_of_zero"),
        ]
    )
    names = series["series"].unique(maintain_order=True).to_list()
    colours = [*COLOURS[: len(names) - 1], GREY]
    lines = (
        _chart(series)
        .mark_line(point=True)
        .encode(
            x=_cutoff(),
            y=alt.Y("coverage:Q", title="coverage of the 80 % interval", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("series:N", sort=names, scale=alt.Scale(domain=names, range=colours)),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return alt.layer(lines, _rule(0.8, "y"))


def ablation_chart(table: pl.DataFrame) -> Chart:
    """Draw the profit difference of every policy to the baseline with its 95 % interval, highest profit on top.

    Parameters
    ----------
    table
        Table of :class:`invpipe.arena.ablation.Ablation`.
    """
    rows = table.sort(["profit", "policy"], descending=[True, False])
    rows = rows.select("policy", "profit_difference", "profit_difference_low", "profit_difference_high")
    y = alt.Y("policy:N", sort=rows["policy"].to_list(), title=None)
    base = _chart(rows)
    x = alt.X("profit_difference_low:Q", title="profit difference, 95 % interval", axis=alt.Axis(format="~s", tickCount=5))
    spans = base.mark_rule(strokeWidth=3, color=BLUE, opacity=0.55).encode(x=x, x2="profit_difference_high:Q", y=y)
    points = base.mark_point(filled=True, size=80, color=BLUE, opacity=1).encode(x="profit_difference:Q", y=y)
    return _named_rows(alt.layer(spans, points, _rule(0.0, "x")), len(rows), 28)


def bound_share_chart(table: pl.DataFrame) -> Chart:
    """Draw the profit of every policy as a share of the clairvoyant bound, highest on top.

    Parameters
    ----------
    table
        Table of :class:`invpipe.arena.ablation.Ablation`; policies without a share are left out.
    """
    rows = table.sort(["profit", "policy"], descending=[True, False]).drop_nulls("share_of_clairvoyant_frac")
    rows = rows.select("policy", share=pl.col("share_of_clairvoyant_frac"))
    room = alt.Scale(domainMax=1.25 * max([0.01, *rows["share"]]))  # for the figure beside the longest bar
    base = _chart(rows).encode(
        x=alt.X("share:Q", title="share of the clairvoyant bound", axis=alt.Axis(format="%", tickCount=5), scale=room),
        y=alt.Y("policy:N", sort=rows["policy"].to_list(), title=None),
    )
    bars = base.mark_bar(color=BLUE, size=16)
    labels = base.mark_text(align="left", dx=4).encode(x="end:Q", text=alt.Text("share:Q", format=".1%"))
    return _named_rows(alt.layer(bars, labels.transform_calculate(end="max(datum.share, 0)")), len(rows), 28)


def _thinned(rows: pl.DataFrame) -> pl.DataFrame:
    """Return at most MAX_POINTS rows, evenly spaced, the last one included."""
    step = -(-len(rows) // MAX_POINTS)
    return rows.reverse().gather_every(step).reverse() if step > 1 else rows


def _to_date(column: str) -> pl.Expr:
    """Return the running sum of a column of days, without those of the warm-up."""
    return (pl.col(column) * pl.col("counted")).cum_sum()


#: Panels of the days of a replay: what is drawn, its title, and how its axis is written.
_DAY_PANELS = {
    "profit": (_to_date("profit_at_cost"), "profit to date, stock at cost", "~s"),
    "stock": (pl.col("inventory_value"), "stock on hand at cost", "~s"),
    "ordered": (_to_date("order_value"), "ordered to date, at cost", "~s"),
    "fill_rate": (_to_date("sales_units") / _to_date("demand_units"), "fill rate to date", ".1%"),
}


def days_chart(days: Mapping[str, pl.DataFrame], *panels: str) -> Chart:
    """Draw the days of replays, one line each: profit to date (ending stock at cost) and stock value, or the panels that are named.

    Parameters
    ----------
    days
        Per policy or seed the frame `days` of a :class:`invpipe.arena.kpis.BacktestResult`; days of the warm-up earn, but do not count.
    panels
        Of "profit", "stock", "ordered" and "fill_rate".
    """
    names = list(days)
    dashes = [[4, 3] if k >= len(COLOURS) else [1, 0] for k in range(len(names))]  # when the colours begin anew

    def panel(name: str) -> Chart:
        drawn, _, form = _DAY_PANELS[name]
        parts = [_thinned(frame.select("day", drawn.fill_nan(None).alias(name), line=pl.lit(line))) for line, frame in days.items()]
        lines: Chart = (
            _chart(pl.concat(parts))
            .mark_line(strokeWidth=1.5)
            .encode(
                x=_time("day"),
                y=alt.Y(f"{name}:Q", title=None, axis=alt.Axis(format=form), scale=alt.Scale(zero=name != "fill_rate")),
                color=alt.Color("line:N", sort=names, scale=alt.Scale(domain=names)),
                strokeDash=alt.StrokeDash("line:N", sort=names, scale=alt.Scale(domain=names, range=dashes)),
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
        return lines

    return _stack({_DAY_PANELS[name][1]: panel(name) for name in panels or ("profit", "stock")})


def vendor_chart(lines: pl.DataFrame, n: int = 15) -> Chart:
    """Draw the order value of the n largest vendors of a plan, the others as one bar.

    Parameters
    ----------
    lines
        Lines of an :class:`invpipe.allocation.OrderPlan`.
    n
        Vendors with a bar of their own.
    """
    totals = lines.group_by("vendor").agg(pl.col("order_value").sum()).sort(["order_value", "vendor"], descending=[True, False])
    rows = totals.head(n)
    if len(totals) > n:
        rest = totals[n:]
        rows = rows.vstack(pl.DataFrame({"vendor": [f"{len(rest)} others"], "order_value": [rest["order_value"].sum()]}))
    x = alt.X("order_value:Q", title="order value", axis=alt.Axis(format="~s", tickCount=5))
    y = alt.Y("vendor:N", sort=rows["vendor"].to_list(), title=None)
    return _named_rows(_chart(rows).mark_bar(color=BLUE, size=14).encode(x=x, y=y), len(rows), 22)


def capital_chart(lines: pl.DataFrame, capital_price: float) -> Chart:
    """Draw what the last lot of every order line earns per unit of capital, over the capital spent; the line is the capital price.

    Lines stand with the best first. Those below the price took the capital that was too little for a better lot.

    Parameters
    ----------
    lines
        Lines of an :class:`invpipe.allocation.OrderPlan`.
    capital_price
        What one more unit of capital would earn.
    """
    spent = lines.sort("value_per_capital", descending=True, maintain_order=True)
    spent = spent.select("value_per_capital", capital=pl.col("order_value").cum_sum())
    curve = (
        _chart(_thinned(spent))
        .mark_line(interpolate="step-before", color=BLUE)
        .encode(
            x=alt.X("capital:Q", title="capital spent", axis=alt.Axis(format="~s")),
            y=alt.Y("value_per_capital:Q", title="value per capital of the last lot"),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return alt.layer(curve, _rule(capital_price, "y"))


def capital_curve_chart(curve: pl.DataFrame, capital: float) -> Chart:
    """Draw what a plan for more or less capital is expected to earn, and what one more unit of capital would; dashed: the day's capital.

    Parameters
    ----------
    curve
        Rows of :func:`invpipe.allocation.capital_curve`.
    capital
        The day's own.
    """

    def panel(column: str, form: str) -> Chart:
        line = (
            _chart(curve.select("capital", column))
            .mark_line(point=True, color=BLUE)
            .encode(
                x=alt.X("capital:Q", title="capital", axis=alt.Axis(format="~s", tickCount=5)),
                y=alt.Y(f"{column}:Q", title=None, axis=alt.Axis(format=form)),
            )
        )
        return alt.layer(line, _rule(capital, "x")).properties(width=WIDTH, height=HEIGHT)

    return _stack({"expected value": panel("expected_value", "~s"), "capital price": panel("capital_price", ".3~f")})


def weekly_units(sales_daily: pl.DataFrame, demand_daily: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return total units per whole week, key (week, series): units sold and, where it is known, the true demand.

    Weeks start on Monday; those that the sales only touch at the start or the end are left out.
    """
    named = {"units sold": (sales_daily, "sales_units")}
    if demand_daily is not None:
        named["true demand"] = (demand_daily, "demand_units")
    parts = [
        frame.group_by(week=pl.col("day").dt.truncate("1w")).agg(pl.col(column).sum().alias("units")).with_columns(series=pl.lit(series))
        for series, (frame, column) in named.items()
    ]
    first = (pl.col("week") >= sales_daily["day"].min()) & (pl.col("week") + pl.duration(days=6) <= sales_daily["day"].max())
    return pl.concat(parts).filter(first).sort(["series", "week"]).select("week", "series", "units")


def demand_chart(weekly: pl.DataFrame) -> Chart:
    """Draw units per week over time.

    Parameters
    ----------
    weekly
        Rows of :func:`weekly_units`.
    """
    names = [name for name in ("true demand", "units sold") if name in weekly["series"]]
    lines: Chart = (
        _chart(weekly)
        .mark_line()
        .encode(
            x=_time("week"),
            y=alt.Y("units:Q", title="units per week", axis=alt.Axis(format="~s")),
            color=alt.Color("series:N", sort=names, scale=alt.Scale(domain=names, range=[ORANGE, BLUE][-len(names) :])),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return lines
