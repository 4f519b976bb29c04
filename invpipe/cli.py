"""The `invpipe` command: demo, ui, graph, check-sources, sweep, backtest, models, init, doctor, prune, bench."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from invpipe.errors import InvpipeError
from invpipe.settings import Settings, find_home, write_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 an error of invpipe, 2 a wrong call."""
    parser = argparse.ArgumentParser(
        prog="invpipe", description="From a shop's raw tables to a certified order plan and an honest backtest."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run the whole chain on the embedded shop and print what comes out")
    demo.add_argument("--skus", type=int, help="size of the sample of SKUs; 0 takes all 67,845 (default: as before, at first 2,000)")
    ui = commands.add_parser("ui", help="open the Dagster UI on the same state")
    ui.add_argument("--port", type=int, default=3000)
    ui.add_argument("--host", default="127.0.0.1")
    graph = commands.add_parser("graph", help="print the asset graph as a Mermaid diagram")
    check = commands.add_parser("check-sources", help="look at every table of your databases before the first extract; writes nothing")
    check.add_argument("--day", type=date.fromisoformat, help="day to read (default: yesterday in the shop's time zone)")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    sweep = commands.add_parser("sweep", help="try the policies of the settings on a recorded tape and print the best variants")
    sweep.add_argument("--window", help="backtest window (default: the first one of the settings)")
    sweep.add_argument("--trials", type=int, help="search each policy's parameters with Optuna, so many trials (default: the whole grid)")
    sweep.add_argument("--rows", type=int, default=10, help="variants to print (default: 10)")
    backtest = commands.add_parser(
        "backtest", help="replay recorded windows under variants, one by one; re-uses what is current, and goes on"
    )
    backtest.add_argument("--window", nargs="+", default=[], metavar="NAME", help="backtest windows (default: all of the settings)")
    backtest.add_argument("--variant", nargs="+", default=[], metavar="NAME", help="policies (default: all of the ablation)")
    models = commands.add_parser("models", help="list the trained models, their gates and the days they served; pin one or roll back")
    chosen = models.add_mutually_exclusive_group()
    chosen.add_argument("--serve", metavar="DAY", help="let the model of this day serve from now on; newest lifts the pin")
    chosen.add_argument("--roll-back", action="store_true", help="let the model before the one that serves now serve")
    init = commands.add_parser("init", help="write a commented invpipe.toml with every setting and its default into the home")
    doctor = commands.add_parser("doctor", help="look at Python, disk, settings, databases and Dagster, and say how to mend each")
    doctor.add_argument("--json", action="store_true", help="print what was found as JSON")
    prune = commands.add_parser("prune", help="say which old runs and artifacts could go, and how many bytes; delete with --delete")
    prune.add_argument("--delete", action="store_true", help="delete them (default: a dry run)")
    for command in (demo, ui, graph, check, sweep, backtest, models, init, doctor, prune):
        command.add_argument("--home", type=Path, help="directory of all state (default: INVPIPE_HOME, else .invpipe)")
    bench = commands.add_parser("bench", help="measure speed on fixed, seeded work", add_help=False)
    bench.add_argument("rest", nargs=argparse.REMAINDER)
    if argv is None:
        argv = sys.argv[1:]
    if argv and argv[0] == "bench":  # its own parser knows its names and sizes
        from invpipe.bench import main as bench_main

        return bench_main(list(argv[1:]))
    args = parser.parse_args(argv)
    home = find_home(args.home)
    try:
        if args.command == "demo":
            return run_demo(home, args.skus)
        if args.command == "ui":
            return open_ui(home, args.host, args.port)
        if args.command == "init":
            return init_home(home)
        if args.command == "doctor":
            return examine_home(home, as_json=args.json)
        if args.command == "prune":
            return prune_home(home, delete=args.delete)
        if args.command == "check-sources":
            return check_sources(home, args.day, as_json=args.json)
        if args.command == "sweep":
            return run_sweep(home, args.window, args.trials, args.rows)
        if args.command == "backtest":
            return run_backtests(home, args.window, args.variant)
        if args.command == "models":
            return show_models(home, args.serve, roll_back=args.roll_back)
        return print_graph(home)
    except InvpipeError as error:
        print(f"invpipe: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def run_demo(home: Path, skus: int | None) -> int:
    """Materialise the chain through Dagster, then print scores, plan and ablation."""
    began = time.perf_counter()
    if skus is not None:
        write_settings(home, embedded={"skus": skus})
    settings = Settings.load(home)
    from invpipe.defs.demo import show_results  # heavy imports after the quick checks

    made = show_results(home, settings, say=lambda line: print(line, flush=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\n{made} artifacts made; {time.perf_counter() - began:.0f} s, peak memory {peak:.2f} GiB")
    return 0


def open_ui(home: Path, host: str, port: int) -> int:
    """Serve the Dagster UI with its daemon on the home until it is interrupted or terminated."""
    Settings.load(home)  # refuse bad settings before a server starts
    from invpipe.defs.serve import serve_ui  # heavy imports after the quick checks

    return serve_ui(home, host, port, say=lambda line: print(line, flush=True))


def print_graph(home: Path) -> int:
    """Print the asset graph, one box per asset, one frame per room."""
    from invpipe.defs.build import build_definitions
    from invpipe.defs.graph import mermaid

    print(mermaid(build_definitions(str(home))))
    return 0


def run_sweep(home: Path, window: str | None, n_trials: int | None, shown_rows: int) -> int:
    """Sweep the tape of a window that lies in the home and print the best variants."""
    settings = Settings.load(home)
    from invpipe.defs.sweep.command import sweep_window  # heavy imports after the quick checks

    sweep_window(settings, window, n_trials, shown_rows, say=lambda line: print(line, flush=True))
    return 0


def run_backtests(home: Path, windows: Sequence[str], variants: Sequence[str]) -> int:
    """Replay windows under variants and compare the complete ones; return 1 where a backtest failed, else 0."""
    settings = Settings.load(home)
    from invpipe.defs.arena.command import replay_windows  # heavy imports after the quick checks

    return int(bool(replay_windows(settings, windows, variants, say=lambda line: print(line, flush=True)).failed))


def show_models(home: Path, serve: str | None, *, roll_back: bool) -> int:
    """List the models of the home; pin one, lift the pin or roll back before that where asked for."""
    settings = Settings.load(home)
    from invpipe.defs.forecast.registry import models_command  # heavy imports after the quick checks

    models_command(settings, serve, roll_back=roll_back, say=lambda line: print(line, flush=True))
    return 0


def check_sources(home: Path, day: date | None, *, as_json: bool) -> int:
    """Look at every mapped table; return 0 where all can be read and their day holds its contract, else 1."""
    from invpipe.report.source_check import check_document, check_lines
    from invpipe.sources.databases.check import SourceCheck, day_to_check

    settings = Settings.load(home)
    check = SourceCheck(settings, day_to_check(settings, day), log=lambda line: print(line, file=sys.stderr, flush=True))
    found = []
    for table in check.tables():
        found.append(table)
        if not as_json:
            print("\n".join(check_lines(table)), flush=True)
    if as_json:
        print(check_document(found))
    return int(any(table.error or table.failures for table in found))


def init_home(home: Path) -> int:
    """Write the commented settings."""
    from invpipe.settings.template import write_template

    file = write_template(home)
    print(f"wrote {file}; every setting is a comment until you change it. Next: invpipe doctor --home {home}")
    return 0


def examine_home(home: Path, *, as_json: bool) -> int:
    """Print what is found about the home, line by line; return 1 where something is broken, else 0."""
    from invpipe.defs.doctor import examine
    from invpipe.doctor import document

    found = []
    for finding in examine(home, datetime.now(UTC), log=lambda line: print(line, file=sys.stderr, flush=True)):
        found.append(finding)
        if not as_json:
            print(finding.line(), flush=True)
    if as_json:
        print(document(found))
    return int(any(finding.state == "broken" for finding in found))


def prune_home(home: Path, *, delete: bool) -> int:
    """Say what retention would delete, and delete it where asked to."""
    settings = Settings.load(home)
    from invpipe.defs.build import build_definitions
    from invpipe.defs.retention import opened_instance, plan_pruning

    with opened_instance(home) as instance:
        plan = plan_pruning(build_definitions(str(home)), instance, settings, datetime.now(UTC))
        for leaving in (*plan.artifacts, *plan.runs):
            print(f"{leaving.size_bytes:>12,} bytes  {leaving.name}")
        if delete:
            plan.carry_out()
    done = "deleted" if delete else "would go (nothing was deleted; prune --delete does)"
    print(f"{len(plan.artifacts):,} artifacts and {len(plan.runs):,} runs, {plan.size_bytes:,} bytes, {done}")
    if plan.old_runs_kept:
        print(f"{plan.old_runs_kept:,} older runs stay: they hold the newest record of an artifact or a check")
    return 0
