"""The command `invpipe backtest`: replay windows under variants, one by one, and compare the windows that are complete.

It is the backfill of the UI without a daemon. What is current is re-used, so a command that was killed goes on where it stopped; a backtest
that fails takes no other with it, is named at the end with its reason, and is the only one a second call makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from invpipe.defs.arena.assets import arena_specs, open_replays
from invpipe.defs.build import build_definitions
from invpipe.defs.partitions import VARIANTS, Partitions
from invpipe.defs.run import Outcome, materialise, prepare_home, progress_logger, unsynced_event_log
from invpipe.errors import InvpipeError, SettingsError
from invpipe.settings import Settings

Say = Callable[[str], object]


@dataclass(frozen=True)
class Replayed:
    """What a call did: backtests made and re-used, those that failed with the reason, and the windows that were compared."""

    made: int
    reused: int
    failed: dict[str, str]
    compared: tuple[str, ...]


def replay_windows(settings: Settings, windows: Sequence[str], variants: Sequence[str], say: Say) -> Replayed:
    """Bring backtests up to date, then the comparison of every window whose variants are all of its newest tape.

    Parameters
    ----------
    settings
        Settings of the home.
    windows, variants
        Which backtests; all where empty.
    say
        Told a line per backtest and window.

    Raises
    ------
    SettingsError
        Where there is no such window or variant.
    """
    keys = chosen_backtests(settings, windows, variants)
    failed: dict[str, str] = {}
    outcomes, compared = [], []
    with _runner(settings) as run:
        for number, key in enumerate(keys, start=1):
            try:
                outcomes.append(run("backtests", key))
                what = f"made in {outcomes[-1].seconds:.1f} s" if outcomes[-1].made else "unchanged and re-used"
            except (InvpipeError, dg.DagsterError, ArithmeticError, OSError, RuntimeError, TypeError, ValueError, LookupError) as error:
                failed[key] = f"{type(error).__name__}: {error}"
                what = f"FAILED: {failed[key]}"
            say(f"[{number}/{len(keys)}] {key}: {what}")
        replays = arena_specs(Partitions.of(settings))["backtest"]
        for window in dict.fromkeys(key.partition("|")[2] for key in keys):
            if missing := open_replays(replays, window, settings):
                say(f"{window} is not compared: {len(missing)} of {len(VARIANTS)} backtests are open, first {next(iter(missing))}")
                continue
            anew = run("compare", window).made
            compared.append(window)
            say(f"{window} is {'compared' if anew else 'compared already'}")
    made = sum(bool(one.made) for one in outcomes)
    done = Replayed(made, len(outcomes) - made, failed, tuple(compared))
    say(f"{done.made} backtests made, {done.reused} re-used, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}")
    return done


def chosen_backtests(settings: Settings, windows: Sequence[str], variants: Sequence[str]) -> list[str]:
    """Return the partition keys of windows x variants, window by window.

    Raises
    ------
    SettingsError
        Where there is no such window or variant.
    """
    known = [window.name for window in settings.backtest.windows]
    for what, given, names in (("window", windows, known), ("variant", variants, list(VARIANTS))):
        if strange := [name for name in given if name not in names]:
            msg = f"there is no backtest {what} {strange[0]!r} in {settings.home}; choose one of {names}"
            raise SettingsError(msg)
    return [f"{variant}|{window}" for window in windows or known for variant in variants or VARIANTS]


@contextmanager
def _runner(settings: Settings) -> Iterator[Callable[[str, str], Outcome]]:
    """Give a function that runs a job for one partition where it is stale."""
    dagster_home = prepare_home(settings.home)
    loggers = {"progress": progress_logger(lambda _: None)}
    definitions = dg.Definitions.merge(build_definitions(str(settings.home)), dg.Definitions(loggers=loggers))
    with unsynced_event_log(), dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield lambda job, key: materialise(definitions, instance, settings, job, [key])
