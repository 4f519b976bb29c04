"""Tables for people: fold scores, ablation and order lines as small frames, and frames as Markdown, HTML or plain text.

The frames keep numbers as numbers; only the three writers turn them into text, all by the same rule (:func:`cells`): whole numbers with
thousands separators, fractional columns with as many decimals as their largest value needs, "–" where there is nothing.
"""

from __future__ import annotations

import textwrap
from html import escape

import polars as pl

from invpipe.errors import InvpipeError

#: Columns of the fold table that are means over folds, with their name in the table.
SCORE_COLUMNS = {
    "pinball_50": "pinball_50",
    "pinball_90": "pinball_90",
    "pinball_90_vs_zero": "90_vs_zero",
    "rps": "rps",
    "bracket_90_low": "P(y<q90)",
    "bracket_90_high": "P(y≤q90)",
    "coverage_80": "coverage_80",
    "coverage_80_of_zero": "of_[0,0]",
    "randomised_coverage_80": "randomised_80",
}
#: Columns of the table by class, with their name there.
CLASS_COLUMNS = {
    "cells": "cells",
    "mean_units": "mean_units",
    "bias_frac": "bias",
    "pinball_50": "pinball_50",
    "pinball_90": "pinball_90",
    "pinball_90_vs_zero": "90_vs_zero",
    "rps": "rps",
    "rps_vs_best": "rps_vs_best",
    "best_baseline": "best_baseline",
    "bracket_90_low": "P(y<q90)",
    "bracket_90_high": "P(y≤q90)",
    "bracket_50_violation_points": "misses_.5_by",
    "bracket_90_violation_points": "misses_.9_by",
    "randomised_coverage_80": "randomised_80",
}
#: Columns of the ablation table, with their name in the table for people.
ABLATION_COLUMNS = {
    "policy": "policy",
    "profit": "profit",
    "share_of_clairvoyant_frac": "of_bound",
    "profit_difference": "difference",
    "profit_difference_low": "from",
    "profit_difference_high": "to",
    "fill_rate": "fill_rate",
    "order_lines": "order_lines",
    "capital_used_mean": "capital_used",
    "ending_stock_value": "ending_stock",
}
#: Columns of the order lines for people; those a plan does not have (such as title) are left out.
LINE_COLUMNS = ("sku", "title", "vendor", "order_units", "order_value", "demand_mean_units", "value_per_capital", "reason")
#: A text column whose cells are no longer is never broken on a page; one with a cell longer than the second is wide there, and stands
#: beneath its row in plain text.
SHORT_TEXT, LONG_TEXT = 24, 40
#: Endings of columns that hold money, shown with two decimals at most.
MONEY_ENDINGS = ("_value", "_cost")
#: Widest line of a heading in plain text.
HEADING_WIDTH = 10

NOTHING = "–"


def fiscal_years(sales_daily: pl.DataFrame, start: str) -> pl.DataFrame:
    """Return sales by fiscal year, key first_day: days with a sale, units, revenue.

    Parameters
    ----------
    sales_daily
        Contract table.
    start
        First day of a fiscal year as month-day, ``07-01``.
    """
    day = pl.col("day")
    year = day.dt.year() - (day.dt.strftime("%m-%d") < start).cast(pl.Int32)
    first = pl.format("{}-{}", year, pl.lit(start)).str.to_date().alias("first_day")
    sums = (day.n_unique().alias("sale_days"), pl.col("sales_units").sum(), pl.col("revenue").sum())
    return sales_daily.group_by(first).agg(sums).sort("first_day")


def _need(frame: pl.DataFrame, columns: list[str], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        msg = f"{what} lack {len(missing)} of {len(columns)} columns, first {missing[0]!r}; found {', '.join(frame.columns) or 'none'}"
        raise InvpipeError(msg)


def fold_table(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the mean over folds per target and method, in the order of the scores.

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.scores.score_fold`, any number of folds. Folds in which a score is not defined do not count.

    Returns
    -------
    pl.DataFrame
        Key (target, method), with the number of folds and the columns of :data:`SCORE_COLUMNS`. A quantile forecast is calibrated at .9
        where P(y<q90) <= .9 <= P(y≤q90); coverage_80 is read beside the coverage of the interval [0, 0].

    Raises
    ------
    InvpipeError
        Where a column is missing.
    """
    _need(scores, ["target", "method", "fold", *SCORE_COLUMNS], "fold scores")
    means = (pl.col(name).fill_nan(None).mean().alias(title) for name, title in SCORE_COLUMNS.items())
    return scores.group_by("target", "method", maintain_order=True).agg(pl.col("fold").n_unique().alias("folds"), *means)


def against_baselines(scores: pl.DataFrame, method: str = "window law") -> pl.DataFrame:
    """Return the rows of one method with the other one of lowest rps in the same group: `best_baseline`, `rps_vs_best` (< 1 = better).

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.classes.pool`.
    method
        Method to judge.

    Raises
    ------
    InvpipeError
        Where a column is missing.
    """
    _need(scores, ["method", "cells", "rps"], "pooled scores")
    by = scores.columns[: scores.columns.index("method")]
    others = scores.filter(pl.col("method") != method)
    best = others.group_by(by or pl.lit(0).alias("_"), maintain_order=True).agg(
        pl.col("method").sort_by("rps", maintain_order=True).first().alias("best_baseline"), pl.col("rps").min().alias("best_rps")
    )
    own = scores.filter(pl.col("method") == method)
    joined = own.join(best, on=by, how="left", maintain_order="left") if by else own.join(best.drop("_"), how="cross")
    return joined.with_columns(rps_vs_best=pl.col("rps") / pl.col("best_rps")).drop("best_rps")


def class_table(scores: pl.DataFrame) -> pl.DataFrame:
    """Return pooled scores of the window law for people, beside the best baseline of each group; columns of :data:`CLASS_COLUMNS`.

    Parameters
    ----------
    scores
        Rows of :func:`invpipe.forecast.classes.pool`.

    Raises
    ------
    InvpipeError
        Where a column is missing.
    """
    _need(scores, ["method", *(name for name in CLASS_COLUMNS if name not in ("rps_vs_best", "best_baseline"))], "pooled scores")
    by = scores.columns[: scores.columns.index("method")]
    judged = against_baselines(scores).with_columns(pl.col(pl.Float64).fill_nan(None))
    return judged.select(*by, *(pl.col(name).alias(title) for name, title in CLASS_COLUMNS.items()))


def drivers_table(drivers: pl.DataFrame, n: int) -> pl.DataFrame:
    """Return the drivers of the first n SKUs for people: one row per SKU, each driver as ``name value ×factor``.

    Parameters
    ----------
    drivers
        Rows of :func:`invpipe.forecast.explain.drivers`.
    n
        SKUs shown.

    Raises
    ------
    InvpipeError
        Where a column is missing.
    """
    _need(drivers, ["sku", "rank", "feature", "feature_value", "factor", "base_rate", "rate"], "drivers")
    words = [
        f"{heading(name)} {_short(value)} ×{factor:.2f}"
        for name, value, factor in drivers.select("feature", "feature_value", "factor").iter_rows()
    ]
    rows = drivers.with_columns(pl.Series("driver", words, dtype=pl.String)).group_by("sku", maintain_order=True)
    table = rows.agg(
        pl.col("rate").first().alias("units_per_day"),
        pl.col("base_rate").first().alias("base_rate"),
        pl.col("driver").sort_by("rank").str.join(", ").alias("drivers"),
    )
    return table.head(n)


def _short(value: float | None) -> str:
    return "missing" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ablation_table(table: pl.DataFrame) -> pl.DataFrame:
    """Return the ablation table for people, highest profit first, ties by name.

    Parameters
    ----------
    table
        Table of :class:`invpipe.arena.ablation.Ablation`.

    Returns
    -------
    pl.DataFrame
        Key policy, columns of :data:`ABLATION_COLUMNS`: money in whole units, profit as a share of the clairvoyant bound, the difference to
        the baseline with its 95 % interval.

    Raises
    ------
    InvpipeError
        Where a column is missing.
    """
    _need(table, list(ABLATION_COLUMNS), "ablation results")
    whole = ("profit", "difference", "from", "to", "order_lines", "capital_used", "ending_stock")
    return (
        table.sort(["profit", "policy"], descending=[True, False])
        .select(pl.col(name).alias(title) for name, title in ABLATION_COLUMNS.items())
        .with_columns(pl.col(whole).round().cast(pl.Int64), pl.col("of_bound", "fill_rate").round(3))
    )


def order_lines_table(lines: pl.DataFrame, n: int) -> pl.DataFrame:
    """Return the first n order lines with the columns of :data:`LINE_COLUMNS`; a column title is shown where the lines have one.

    Raises
    ------
    InvpipeError
        Where n is negative or a column is missing.
    """
    if n < 0:
        msg = f"{n} order lines asked for; ask for 0 or more"
        raise InvpipeError(msg)
    columns = [name for name in LINE_COLUMNS if name != "title" or name in lines.columns]
    _need(lines, columns, "order lines")
    return lines.select(columns).head(n)


def heading(name: str) -> str:
    """Return a column name as a heading."""
    return name.replace("_", " ")


def _kind(frame: pl.DataFrame, name: str) -> str:
    """Return how a column is set: "number" (flush right), or by its longest text "short", "text" or "long"."""
    if frame.schema[name].is_numeric():
        return "number"
    longest = max(map(len, _column(frame[name])), default=0)
    return "short" if longest <= SHORT_TEXT else "text" if longest <= LONG_TEXT else "long"


def _column(column: pl.Series) -> list[str]:
    if not column.dtype.is_float():
        return [NOTHING if v is None else f"{v:,}" if column.dtype.is_integer() else str(v) for v in column]
    finite = column.filter(column.is_finite())
    largest = max((abs(value) for value in finite), default=0.0)
    decimals = 0 if largest >= 10_000 else 1 if largest >= 1_000 else 2 if largest >= 10 or column.name.endswith(MONEY_ENDINGS) else 3
    return [NOTHING if v is None or v != v else f"{v:,.{decimals}f}".replace("inf", "∞") for v in column]


def cells(frame: pl.DataFrame) -> list[list[str]]:
    """Return the cells as text, row by row."""
    return [list(row) for row in zip(*(_column(column) for column in frame), strict=True)]


def markdown(frame: pl.DataFrame) -> str:
    """Return the frame as a Markdown table; signs that Markdown or HTML would read are escaped."""

    def row(texts: list[str]) -> str:
        quoted = (escape(" ".join(text.split()), quote=False).replace("\\", "\\\\").replace("|", "\\|") for text in texts)
        return f"| {' | '.join(quoted)} |"

    rule = ["---:" if _kind(frame, name) == "number" else "---" for name in frame.columns]
    return "\n".join([row([heading(name) for name in frame.columns]), row(rule), *map(row, cells(frame))]) + "\n"


def html_table(frame: pl.DataFrame, caption: str) -> str:
    """Return the frame as an HTML table with a caption; all texts are escaped. The first column names its row."""
    kinds = [_kind(frame, name) for name in frame.columns]
    head = "".join(f'<th scope="col" class="{kind}">{escape(heading(name))}</th>' for name, kind in zip(frame.columns, kinds, strict=True))
    body = []
    for row in cells(frame):
        rest = (f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(kinds[1:], row[1:], strict=True))
        body.append(f'<tr><th scope="row">{escape(row[0])}</th>{"".join(rest)}</tr>\n')
    title = f"<caption><span>{escape(caption)}</span></caption>"
    return f"<table>\n{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n"


def text(frame: pl.DataFrame, width: int = 120) -> str:
    """Return the frame as aligned plain text for a terminal.

    Parameters
    ----------
    frame
        What to show; a text column with a cell longer than :data:`LONG_TEXT` signs stands beneath each row, wrapped.
    width
        Signs per line that wrapped text keeps to. The columns themselves are never cut.
    """
    rows = cells(frame)
    kinds = [_kind(frame, name) for name in frame.columns]
    below = [i for i, kind in enumerate(kinds) if kind == "long"]
    beside = [i for i in range(len(frame.columns)) if i not in below]
    headings = [textwrap.wrap(heading(frame.columns[i]), HEADING_WIDTH, break_long_words=False) or [""] for i in beside]
    high = max(map(len, headings), default=0)
    headings = [[""] * (high - len(lines)) + lines for lines in headings]
    widths = [max(map(len, [*lines, *(row[i] for row in rows)])) for i, lines in zip(beside, headings, strict=True)]

    def line(texts: list[str]) -> str:
        aligned = (t.rjust(w) if kinds[i] == "number" else t.ljust(w) for t, w, i in zip(texts, widths, beside, strict=True))
        return "  ".join(aligned).rstrip()

    out = [line([lines[k] for lines in headings]) for k in range(high)]
    out.append("  ".join("-" * w for w in widths))
    for row in rows:
        out.append(line([row[i] for i in beside]))
        for i in below:
            out += textwrap.wrap(row[i], width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(out) + "\n"
