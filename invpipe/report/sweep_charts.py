"""Charts of sweeps: the frontier of capital and penalty, and the trials of a sweep; style and limits as in :mod:`invpipe.report.charts`."""

from __future__ import annotations

import altair as alt
import polars as pl

from invpipe.report.charts import BLUE, COLOURS, HEIGHT, ORANGE, WIDTH, Chart, _chart, _stack

#: Columns of the frontier table for people, with their name there.
FRONTIER_COLUMNS = {
    "policy": "policy",
    "stockout_penalty_frac": "lambda",
    "capital_limit": "capital_limit",
    "profit": "profit",
    "fill_rate": "fill_rate",
    "capital_used_mean": "capital_used",
    "realised_capital_price": "capital_price",
    "efficient": "efficient",
}


def frontier_table(frontier: pl.DataFrame) -> pl.DataFrame:
    """Return the frontier for people.

    Parameters
    ----------
    frontier
        Table of :func:`invpipe.sweep.lambda_frontier`.
    """
    named = frontier.select(pl.col(column).alias(name) for column, name in FRONTIER_COLUMNS.items())
    return named.with_columns(pl.when("efficient").then(pl.lit("yes")).otherwise(pl.lit("")).alias("efficient"))


def frontier_chart(frontier: pl.DataFrame) -> Chart:
    """Draw profit, fill rate and capital in use over the capital limit, one line per policy and penalty.

    Parameters
    ----------
    frontier
        Table of :func:`invpipe.sweep.lambda_frontier`.
    """
    penalty = pl.format("LP, λ = {}", pl.col("stockout_penalty_frac"))
    rows = frontier.with_columns(series=pl.when(pl.col("stockout_penalty_frac").is_null()).then(pl.lit("marginal")).otherwise(penalty))
    names = rows["series"].unique(maintain_order=True).to_list()
    colour = alt.Color("series:N", sort=names, scale=alt.Scale(domain=names, range=list(COLOURS)), title=None)

    def panel(column: str, form: str) -> Chart:
        lines: Chart = (
            _chart(rows.select("capital_limit", "series", column))
            .mark_line(point=True, strokeWidth=1.5)
            .encode(
                x=alt.X("capital_limit:Q", title="capital limit", axis=alt.Axis(format="~s")),
                y=alt.Y(f"{column}:Q", title=None, axis=alt.Axis(format=form), scale=alt.Scale(zero=False)),
                color=colour,
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
        return lines

    return _stack({"profit": panel("profit", "~s"), "fill rate": panel("fill_rate", ".0%"), "capital": panel("capital_used_mean", "~s")})


def sweep_chart(trials: pl.DataFrame) -> Chart:
    """Draw profit over the capital in use, one point per trial, the best one in another colour; the number is the trial's row.

    Parameters
    ----------
    trials
        Table of :func:`invpipe.sweep.run_sweep` or, where it has a state, of :func:`invpipe.sweep.tune`, whose pruned trials are left out.
    """
    rows = trials.with_row_index("row")
    if "state" in rows.columns:
        rows = rows.filter(pl.col("state") == "complete")
    best = pl.col("profit") == pl.col("profit").max()
    rows = rows.select("row", "profit", "capital_used_mean", rank=pl.when(best).then(pl.lit("best")).otherwise(pl.lit("other")))
    base = _chart(rows).properties(width=WIDTH, height=HEIGHT)
    base = base.encode(
        x=alt.X("capital_used_mean:Q", title="capital in use, mean", axis=alt.Axis(format="~s"), scale=alt.Scale(zero=False)),
        y=alt.Y("profit:Q", axis=alt.Axis(format="~s"), scale=alt.Scale(zero=False)),
    )
    scale = alt.Scale(domain=["best", "other"], range=[ORANGE, BLUE])
    points = base.mark_point(filled=True, size=80, opacity=1).encode(color=alt.Color("rank:N", scale=scale, legend=None))
    return alt.layer(points, base.mark_text(align="left", dx=7).encode(text="row:N"))
