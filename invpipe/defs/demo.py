"""The demo: the whole chain on the embedded shop, through Dagster, so that lineage and history exist afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from invpipe.defs.build import build_definitions
from invpipe.defs.io import CONTENT_NAME
from invpipe.defs.partitions import VARIANTS, Partitions
from invpipe.defs.provenance import ArtifactStore
from invpipe.defs.report.pages import FILE_NAME, PAGES
from invpipe.defs.run import materialise, prepare_home, progress_logger, unsynced_event_log
from invpipe.report.tables import ablation_table, fold_table, order_lines_table, text
from invpipe.settings import Settings

#: Order lines printed.
SHOWN_LINES = 10


@dataclass(frozen=True)
class Phase:
    """One job of the demo, what it does in words, and the partitions it runs on."""

    job: str
    what: str
    partitions: tuple[str, ...] = ()


def phases(settings: Settings) -> list[Phase]:
    """Return the jobs in order."""
    partitions = Partitions.of(settings)
    days = tuple(partitions.day.get_partition_keys())
    windows = tuple(window.name for window in settings.backtest.windows)
    return [
        Phase("extract", f"extract {len(days)} days of the shop", days),
        Phase("validate_tables_again", "hold the tables against their contracts, build the training grid"),
        Phase("validate", f"score {settings.folds.n_folds} walk-forward folds", tuple(partitions.fold.get_partition_keys())),
        Phase("summarise_folds", "summarise the folds"),
        Phase("weekly", f"train and gate the model of {days[-1]}", days[-1:]),
        Phase("plan", f"forecast, plan and explain the orders of {days[-1]}", days[-1:]),
        Phase("record", "record the tape, forecast along it", windows),
        Phase("backtests", f"replay {len(VARIANTS)} policies", tuple(f"{v}|{w}" for v in VARIANTS for w in windows)),
        Phase("compare", "compare the policies", windows),
        Phase("write_report", "write the report"),
    ]


def show_results(home: Path, settings: Settings, say: Callable[[str], object]) -> int:
    """Bring every artifact of the demo up to date, say what was made and what was re-used, print the results.

    Parameters
    ----------
    home
        Directory of all state.
    settings
        Settings of the home.
    say
        Told every line.

    Returns
    -------
    int
        Artifacts made anew.
    """
    dagster_home = prepare_home(home)
    loaded = build_definitions(str(home.absolute()))
    definitions = dg.Definitions.merge(loaded, dg.Definitions(loggers={"progress": progress_logger(say)}))
    made = 0
    with unsynced_event_log(), dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        steps = phases(settings)
        for number, phase in enumerate(steps, start=1):
            say(f"[{number}/{len(steps)}] {phase.what}")
            outcome = materialise(definitions, instance, settings, phase.job, phase.partitions)
            made += outcome.made
            say(f"    {outcome.made} artifacts made, {outcome.reused} unchanged and re-used, {outcome.seconds:.1f} s")
    _print_results(home, settings, steps, say)
    return made


def _print_results(home: Path, settings: Settings, steps: list[Phase], say: Callable[[str], object]) -> None:
    store = ArtifactStore.of(settings)
    partitions = {phase.job: phase.partitions for phase in steps}
    day, window = partitions["plan"][0], partitions["compare"][0]

    def frame(asset: str, partition: str | None = None) -> pl.DataFrame:
        return pl.read_parquet(store.frame_path((asset, partition)))

    say("\nForecast: mean scores over the walk-forward folds (window: units per SKU over the whole slab, against the true demand)\n")
    scores = pl.concat(frame("fold_scores", key) for key in partitions["validate"])
    say(text(fold_table(scores)))
    summary = frame("order_plan_summary", day).row(0, named=True)
    say(f"\nOrder plan of {day}: {summary['order_lines']} lines for {summary['order_value']:,.2f} of {summary['capital']:,.2f} capital,")
    say(f"{summary['status']}, gap {summary['gap_frac']:.1e}, the next unit of capital would earn {summary['capital_price']:.3f}\n")
    lines = frame("order_plan", day)
    say(text(order_lines_table(lines, SHOWN_LINES)))
    worth = f"{settings.backtest.liquidation_frac:.0%}"
    say(f"\nAblation on {window}: real demand, simulated supply; profit with ending stock at {worth} of its cost\n")
    say(text(ablation_table(frame("ablation", window))))
    page = store.directory_path(("report", None)) / CONTENT_NAME / FILE_NAME
    say(f"\nReport:     {page}\nPages:      {home / PAGES}\nArtifacts:  {store.root}\nDagster UI: invpipe ui --home {home}")
