"""The report: one static HTML page that needs nothing but itself.

No script, font or picture is loaded from anywhere: charts are SVG elements of the page. It follows the reader's choice of light or dark,
fits a phone, and reads in order without its pictures. The same :class:`Report` gives the same bytes; a time is only shown where a caller
puts it into the notes. All texts are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import polars as pl

from invpipe.arena.kpis import BacktestResult
from invpipe.atomic import atomic_replace
from invpipe.forecast.classes import pool, whole_slab
from invpipe.report import backtest_tables, charts, forecast_charts, tables
from invpipe.report.charts import Chart
from invpipe.report.images import svg

#: Order lines and changes shown, SKUs whose drivers are, and SKUs that earned and lost most in a backtest.
ORDER_LINES, CHANGED_LINES, DRIVER_SKUS, EXTREME_SKUS = 15, 30, 10, 10

_STYLE = """
@font-face { font-family: "Narrowed DejaVu Sans"; src: local("DejaVu Sans"), local("Verdana"); size-adjust: 84%; }
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a636e; --ground: #fff; --line: #d5dae0; --mark: #fff1cc; --on-mark: #5c4300; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #a2abb6; --ground: #15181c; --line: #363c44; --mark: #4a3b10; --on-mark: #ffe3a0; }
}
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--ground); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0; }
.soft, figcaption, caption { color: var(--soft); }
.simulated { display: inline-block; padding: .1rem .5rem; border-radius: .3rem; background: var(--mark); color: var(--on-mark); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0; padding: 0; }
a { color: inherit; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); font-size: .85rem; }
li { overflow-wrap: anywhere; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
figure { margin: 1rem 0; max-width: 28rem; min-width: 0; flex: 1 1 22rem; }
figure > svg { display: block; width: 100%; height: auto; overflow: visible; }
figcaption, caption { font-size: .9rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem; }
caption { padding-bottom: .4rem; }
caption > span { display: block; position: sticky; left: 0; max-width: min(46rem, 100vw - 2rem); }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.long { min-width: 20rem; }
.short { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead .number { white-space: normal; }
a:focus-visible, .scroll:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
@page { margin: 12mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --ground: #fff; --line: #bbb; --mark: #fff1cc; --on-mark: #5c4300; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, caption, .simulated { break-after: avoid; }
  figure, tr, dl > div { break-inside: avoid; }
  figure { flex-basis: 18rem; }
  .scroll { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: 1.5pt 2.5pt; }
  tbody th, .short { white-space: normal; overflow-wrap: break-word; }
  .long { min-width: 0; }
}
""".strip()


@dataclass(frozen=True, eq=False)
class Report:
    """What one page tells.

    Parameters
    ----------
    title
        Heading of the page.
    shop
        Facts of the shop by name, such as SKUs, days, units sold.
    simulated
        Names of the tables that are simulated; said on top.
    weekly
        Units per week, rows of :func:`invpipe.report.charts.weekly_units`; None: the section is left out, as for all frames below.
    fold_scores
        Rows of :func:`invpipe.forecast.scores.score_fold`, all folds.
    class_scores
        Rows of :func:`invpipe.forecast.classes.score_classes`, all folds.
    families, drivers, fan
        Frames of :func:`invpipe.forecast.explain.family_importance`, `drivers` and `forecast_fan`.
    order_lines, order_summary, capital_curve
        Lines and summary of an order plan; the summary's capital_price is drawn as a line. A column title of the lines is shown. What other
        sums of capital would earn, rows of :func:`invpipe.allocation.capital_curve`.
    changes
        What differs from the plan before, rows of :func:`invpipe.allocation.plan_changes`, maybe none.
    serving
        Row of the asset `serving_model`: day, model, why, held_back, gates.
    quarantine
        Rows per table and broken rule, of the asset `quarantine_counts`.
    ablation, bound, baseline
        Table of an ablation, the clairvoyant bound on the profit, and the policy the differences are taken to.
    days
        Per policy the frame of days of one backtest.
    backtest
        Replays of one policy, one per lead-time seed.
    notes
        Lines on where all of this comes from: versions, seeds, hashes, paths.
    """

    title: str
    shop: Mapping[str, object] = field(default_factory=dict)
    simulated: Sequence[str] = ()
    weekly: pl.DataFrame | None = None
    fold_scores: pl.DataFrame | None = None
    class_scores: pl.DataFrame | None = None
    families: pl.DataFrame | None = None
    drivers: pl.DataFrame | None = None
    fan: pl.DataFrame | None = None
    order_lines: pl.DataFrame | None = None
    order_summary: Mapping[str, str | int | float] = field(default_factory=dict)
    capital_curve: pl.DataFrame | None = None
    changes: pl.DataFrame | None = None
    serving: Mapping[str, object] = field(default_factory=dict)
    quarantine: pl.DataFrame | None = None
    ablation: pl.DataFrame | None = None
    bound: float = float("nan")
    baseline: str = ""
    days: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    backtest: Sequence[BacktestResult] = ()
    notes: Sequence[str] = ()


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _figure(chart: Chart, name: str, caption: str) -> str:
    drawn = svg(chart, caption, name)
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _figures(*figures: str) -> str:
    return f'<div class="figures">\n{"".join(figures)}</div>\n'


def _table(frame: pl.DataFrame, caption: str) -> str:
    return f'<div class="scroll" tabindex="0">\n{tables.html_table(frame, caption)}</div>\n'


def _lines(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f'<ul class="soft">\n{items}</ul>\n'


def _facts(facts: Mapping[str, object]) -> str:
    """Return the facts as a list of terms, each value written as in a table."""
    pairs = ((name, tables.cells(pl.DataFrame({name: [value]}))[0][0]) for name, value in facts.items() if value not in ("", None))
    rows = "".join(f"<div><dt>{escape(tables.heading(name))}</dt><dd>{escape(value)}</dd></div>\n" for name, value in pairs)
    return f"<dl>\n{rows}</dl>\n" if rows else ""


def _shop(report: Report) -> str:
    out = _facts(report.shop)
    if report.weekly is not None and not report.weekly.is_empty():
        out += _figures(_figure(charts.demand_chart(report.weekly), "demand", "Units per week over all SKUs."))
    return out


def _forecast(scores: pl.DataFrame) -> str:
    scored_on = " and ".join(scores["scored_on"].unique(maintain_order=True))
    out = _paragraph(
        f"Walk-forward over {scores['fold'].n_unique()} folds: every method knows the days up to a cutoff and is scored on those "
        f"after it ({scored_on}). Pinball loss: lower is better; 90 vs zero below 1 beats the forecast that nothing sells. A forecast is "
        "calibrated at .9 where P(y<q90) ≤ .9 ≤ P(y≤q90). Plain coverage of an 80 % interval says little where most days sell nothing: it "
        "stands beside that of the interval [0, 0]. A whole law has a randomised coverage, which should be .8."
    )
    out += _table(tables.fold_table(scores), "Mean scores over the folds, by target and method.")
    return out + _figures(
        _figure(charts.fold_scores_chart(scores), "folds", "Pinball loss at .9 per fold and method; 1 is the forecast that nothing sells."),
        _figure(charts.calibration_chart(scores), "bracket", "Bracket P(y<q90) to P(y≤q90) per fold; it should hold the line at .9."),
        _figure(charts.coverage_chart(scores), "coverage", "Randomised coverage of the 80 % interval of window demand; .8 is right."),
    )


def _classes(sums: pl.DataFrame) -> str:
    slab = whole_slab(sums)
    out = _paragraph(
        f"Window demand over {slab['window_days'][0]} days, pooled over the folds, by classes that are known at the cutoff. Misses: by how "
        "many percentage points tau lies outside P(y<q) to P(y≤q). Rps vs best: ranked probability score of the window law over that of "
        "the best baseline of the same row, below 1 is better. Cold start: SKUs without a sale before the cutoff."
    )
    for caption, scores in (
        ("By fold.", pool(slab, "cutoff")),
        ("By demand class: average demand interval against 1.32, squared variation of the units against .49.", pool(slab, "demand_class")),
        ("By volume decile: units per orderable day in the 91 days before the cutoff, 10 sells most.", pool(slab, "volume_decile")),
        ("By window length in days.", pool(sums, "window_days")),
    ):
        out += _table(tables.class_table(scores), caption)
    inside = "Share of cells below and up to each quantile by demand class, with cells; the diagonal should lie inside the band."
    flat = "Randomised PIT by demand class, with cells; a calibrated law is flat at 1, too narrow a law rises at both ends."
    best = "Ranked probability score per fold and demand class; the best baseline of the fold and class is 1."
    return out + _figures(
        _figure(forecast_charts.bracket_curve_chart(sums), "bracket-curve", inside),
        _figure(forecast_charts.pit_chart(sums), "pit", flat),
        _figure(forecast_charts.decile_chart(sums), "deciles", "Bracket P(y<q90) to P(y≤q90) per volume decile; it should hold .9."),
        _figure(forecast_charts.class_fold_chart(sums), "classes", best),
    )


def _explanation(report: Report) -> str:
    """Return why the forecasts are what they are, as far as the report knows."""
    figures = []
    if report.families is not None:
        moved = "Feature families: how far each moves the log rate of a SKU (mean of absolute Shapley values), and its share of the gain."
        figures.append(_figure(forecast_charts.family_chart(report.families), "families", moved))
    if report.fan is not None:
        ahead = "Units sold so far, and the median and 80 % interval of the units from the cutoff on, of SKUs of all sizes."
        figures.append(_figure(forecast_charts.fan_chart(report.fan), "fan", ahead))
    out = _figures(*figures) if figures else ""
    if report.drivers is not None:
        caption = "What drives the forecasts of the SKUs that are expected to sell most: feature, its value, factor of the rate."
        out += _table(tables.drivers_table(report.drivers, DRIVER_SKUS), caption)
    return out


def _orders(lines: pl.DataFrame, report: Report) -> str:
    out, figures = _facts(report.order_summary), []
    price, capital = (float(report.order_summary.get(name, 0.0)) for name in ("capital_price", "capital"))
    if lines.is_empty():
        out += _paragraph("Nothing is ordered.")
    else:
        shown = tables.order_lines_table(lines, ORDER_LINES)
        out += _table(shown, f"The first {len(shown):,} of {len(lines):,} order lines, highest value per capital of the last lot first.")
        caption = f"What the last lot of each line earns per unit of capital, best lines first; dashed: the capital price, {price:.3f}."
        figures.append(_figure(charts.vendor_chart(lines), "vendors", "Order value by vendor."))
        figures.append(_figure(charts.capital_chart(lines, price), "capital", caption))
    if report.capital_curve is not None:
        worth = f"What plans for other sums of capital would be worth, and one more unit of it; dashed: the day's capital, {capital:,.0f}."
        figures.append(_figure(charts.capital_curve_chart(report.capital_curve, capital), "curve", worth))
    return out + (_figures(*figures) if figures else "")


def _changes(changes: pl.DataFrame) -> str:
    if changes.is_empty():
        return _paragraph("Every line is as in the plan before, or there is no plan before.")
    counts = {f"lines {name}": changes.filter(change=name).height for name in ("new", "gone", "more", "fewer")}
    out = _facts({"since the plan of": changes["plan_before"][0], **counts, "value_difference": float(changes["value_difference"].sum())})
    most = changes.sort(pl.col("value_difference").abs(), descending=True, maintain_order=True).head(CHANGED_LINES)
    columns = ("sku", "vendor", "change", "order_units_before", "order_units", "value_difference", "reason")
    return out + _table(most.select(columns), f"The {len(most):,} of {len(changes):,} changed lines that move the most money.")


def _serving(row: Mapping[str, object]) -> str:
    out = _facts({name: row[name] for name in ("model", "why")})
    if row["held_back"]:
        out += f"<p><strong>{escape(str(row['held_back']))}.</strong> The last good model goes on.</p>\n"
    return out + _lines(str(row["gates"]).split("; "))


def _quarantine(counts: pl.DataFrame) -> str:
    failed = counts.filter(pl.col("failed_rows") > 0)
    if failed.is_empty():
        return _paragraph(f"Every row of the {counts['table'].n_unique()} tables keeps its contract.")
    return _table(failed, "Rows that broke a rule of their table's contract when it was validated last: nothing downstream has read them.")


def _arena(report: Report, table: pl.DataFrame) -> str:
    seeds = int(table["n_seeds"].max() or 0)  # type: ignore[arg-type]
    bound = f"No policy can earn more than the clairvoyant bound of {report.bound:,.0f}. " if report.bound == report.bound else ""
    out = _paragraph(
        f"Every policy replays the same days under the same {seeds} lead-time seed{'s' * (seeds != 1)}. {bound}Differences are to "
        f"{report.baseline or 'the baseline'}, with 95 % intervals over seeds and SKU blocks; an interval that holds 0 decides nothing."
    )
    out += _table(tables.ablation_table(table), "Policies by profit; ending stock counts at its liquidation value.")
    figures = [_figure(charts.ablation_chart(table), "difference", "Profit difference to the baseline with its 95 % interval.")]
    if table["share_of_clairvoyant_frac"].is_not_null().any():
        figures.append(_figure(charts.bound_share_chart(table), "share", "Profit as a share of the clairvoyant bound."))
    if report.days:
        figures.append(_figure(charts.days_chart(report.days), "days", "Profit to date and stock per day and policy, one lead-time seed."))
    return out + _figures(*figures)


def _backtest(results: Sequence[BacktestResult]) -> str:
    first, seeds = results[0], len(results)
    counted, worth = first.days.filter("counted")["day"], f"{first.params.liquidation_frac:.0%}"
    out = _paragraph(
        f"Policy {first.policy} replayed under {seeds} lead-time seed{'s' * (seeds != 1)}, {counted[0]} to {counted[-1]} after "
        f"{first.params.warm_up_days} days of warm-up. In the profit, ending stock and pipeline are worth {worth} of their cost."
    )
    out += _table(backtest_tables.kpi_table(results), "Key figures of the days that count; seeds differ in the vendors' lead times alone.")
    by_seed = {f"seed {result.seed}": result.days for result in results}
    by_day = charts.days_chart(by_seed, "profit", "stock", "ordered", "fill_rate")
    figures = [_figure(by_day, "replay-days", "Day by day, a line per seed; sums begin with the days that count.")]
    ordered = backtest_tables.vendor_orders(results)
    if not ordered.is_empty():
        figures.append(_figure(charts.vendor_chart(ordered), "replay-vendors", "Orders at cost by vendor, mean over the seeds."))
    out += _figures(*figures)
    skus = backtest_tables.sku_table(results)
    for what, part in (
        ("earned", skus.filter(pl.col("profit") > 0).head(EXTREME_SKUS)),
        ("lost", skus.filter(pl.col("profit") < 0).reverse().head(EXTREME_SKUS)),
    ):
        if not part.is_empty():
            out += _table(part, f"SKUs that {what} most, {len(part)} of {len(skus):,}, mean over the seeds.")
    return out + "<h3>Parameters</h3>\n" + _facts(backtest_tables.parameter_facts(first))


def _sections(report: Report) -> Iterator[tuple[str, str, str]]:
    """Yield id, heading and content of every section that has something to tell."""
    if report.shop or report.weekly is not None:
        yield "shop", "The shop", _shop(report)
    if report.order_lines is not None:
        yield "orders", "Order plan", _orders(report.order_lines, report)
    if report.changes is not None:
        yield "changes", "Changes", _changes(report.changes)
    if report.serving:
        yield "model", "Serving model", _serving(report.serving)
    if explanation := _explanation(report):
        yield "explanation", "Drivers of the forecast", explanation
    if report.fold_scores is not None:
        yield "forecast", "Forecast", _forecast(report.fold_scores)
    if report.class_scores is not None:
        yield "calibration", "Calibration", _classes(report.class_scores)
    if report.ablation is not None:
        yield "arena", "Replay of policies", _arena(report, report.ablation)
    if report.backtest:
        yield "backtest", "Backtest", _backtest(report.backtest)
    if report.quarantine is not None:
        yield "quarantine", "Quarantine", _quarantine(report.quarantine)
    if report.notes:
        yield "notes", "Provenance", _lines(report.notes)


def render_report(report: Report) -> str:
    """Return the page.

    Raises
    ------
    InvpipeError
        Where a frame lacks a column.
    """
    sections = list(_sections(report))
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in sections)
    simulated = ""
    if report.simulated:
        simulated = f'<p><strong class="simulated">Simulated</strong> tables: {escape(", ".join(report.simulated))}.</p>\n'
    body = "".join(f'<section id="{name}">\n<h2>{heading}</h2>\n{content}</section>\n' for name, heading, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(report.title)}</h1>\n{simulated}<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}</main>\n</body>\n</html>\n'
    )


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page to `path`, whole or not at all, making its directory where needed.

    Raises
    ------
    InvpipeError
        Where a frame lacks a column.
    """
    path = Path(path)
    page = render_report(report).encode()
    with atomic_replace(path) as draft:
        draft.write_bytes(page)
    return path
