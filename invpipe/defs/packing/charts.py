"""Charts of packing plans."""

import altair as alt
import polars as pl

from invpipe.report.charts import HEIGHT, WIDTH, Chart


def _rows(frame: pl.DataFrame) -> alt.Chart:
    """Return an Altair chart of the rows, without marks and channels yet."""
    return alt.Chart(alt.Data(values=frame.to_dicts()))  # type: ignore[no-untyped-call]


def utilisation_chart(use: pl.DataFrame) -> Chart:
    """Draw the share of each capacity that each plan uses.

    Parameters
    ----------
    use
        Rows of :func:`invpipe.packing.capacity_use`.
    """
    plans = use["plan"].unique(maintain_order=True).to_list()
    chart: Chart = (
        _rows(use.select("plan", "capacity", "utilisation_frac"))
        .mark_bar()
        .encode(
            x=alt.X("utilisation_frac:Q", title="share used", axis=alt.Axis(format="%")),
            y=alt.Y("capacity:N", title=None, sort=use["capacity"].unique(maintain_order=True).to_list()),
            yOffset=alt.YOffset("plan:N", sort=plans),
            color=alt.Color("plan:N", sort=plans, scale=alt.Scale(domain=plans)),
        )
        .properties(width=WIDTH - 60, height=16 * len(use) + 20)
    )
    return chart


def revenue_chart(histogram: pl.DataFrame) -> Chart:
    """Draw the share of runs that earn at most so much, one line per plan: the further right, the better.

    Parameters
    ----------
    histogram
        Rows of :func:`invpipe.packing.revenue_histogram`.
    """
    plans = histogram["plan"].unique(maintain_order=True).to_list()
    rows = histogram.select("plan", "revenue", at_most_frac=pl.col("share_frac").cum_sum().over("plan"))
    chart: Chart = (
        _rows(rows)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("revenue:Q", title="revenue", axis=alt.Axis(tickCount=6), scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("at_most_frac:Q", title="runs that earn at most this", axis=alt.Axis(format="%")),
            color=alt.Color("plan:N", sort=plans, scale=alt.Scale(domain=plans)),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return chart
