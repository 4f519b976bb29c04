"""The command `invpipe sweep`: a grid or a study on a tape that lies in the home, with a progress bar and the table of the best variants.

It reads artifacts and keeps its runs where the sweep assets keep theirs, so neither replays what the other has; it makes no artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from invpipe.arena import ScheduledForecast, Tape
from invpipe.defs.arena.assets import backtest_params
from invpipe.defs.io import CONTENT_NAME
from invpipe.defs.provenance import ArtifactId, ArtifactStore, check_content, cure_of, directory_hash, name_of
from invpipe.defs.sweep.assets import SHOWN, store_of, sweep_space, swept_values
from invpipe.errors import ProvenanceError, SettingsError
from invpipe.forecast import ForecastSchedule
from invpipe.report.tables import text
from invpipe.settings import Settings
from invpipe.sweep import PolicyMaker, named_distributions, policy_maker, progress_bar, run_sweep, tune


def sweep_window(settings: Settings, window: str | None, n_trials: int | None, shown_rows: int, say: Callable[[str], object]) -> None:
    """Try what the settings of sweeps ask for and say the variants that earned most.

    Parameters
    ----------
    settings
        Settings of the home.
    window
        Backtest window whose tape is replayed; the first one where None.
    n_trials
        None runs the grid of the settings. A number runs a study per policy of that many trials, in which Optuna chooses the policy's own
        parameters between the lowest and the highest value of the settings.
    shown_rows
        Variants to say, at least 1.
    say
        Told the table.

    Raises
    ------
    SettingsError
        Where there is no such window, or `shown_rows` or `n_trials` is below 1.
    ProvenanceError
        Where tape or forecasts are not there or damaged.
    ArenaError
        As :func:`~invpipe.sweep.run_sweep` and :func:`~invpipe.sweep.tune`.
    """
    names = [known.name for known in settings.backtest.windows]
    chosen = names[0] if window is None else window
    if chosen not in names:
        msg = f"there is no backtest window {chosen!r} in {settings.home}; choose one of {names}"
        raise SettingsError(msg)
    for name, given in (("--trials", n_trials), ("--rows", shown_rows)):
        if given is not None and given < 1:
            msg = f"{name} is {given}; give at least 1"
            raise SettingsError(msg)
    tried = _grid(settings, chosen) if n_trials is None else _studies(settings, chosen, n_trials)
    best = tried.sort("profit", descending=True, maintain_order=True).head(shown_rows)
    say(
        f"Best {len(best)} of {len(tried)} variants on {chosen}, profit as mean over {settings.sweep.lead_time_seeds} seeds of lead times\n"
    )
    say(text(best))


def _grid(settings: Settings, window: str) -> pl.DataFrame:
    tape, make = _opened(settings, window, settings.sweep.policies)
    space, seeds = sweep_space(settings), range(settings.sweep.lead_time_seeds)
    with progress_bar("sweep") as progress:
        trials = run_sweep(
            tape, make, space, backtest_params(settings, tape), seeds, store_of(settings), threads=settings.threads, progress=progress
        )
    return trials.select(*space[0], *SHOWN)


def _studies(settings: Settings, window: str, n_trials: int) -> pl.DataFrame:
    """Return the trials of all studies that were not pruned."""
    tape, make = _opened(settings, window, settings.sweep.policies)
    tables = []
    for policy in settings.sweep.policies:
        space = named_distributions(policy, swept_values(settings))
        with progress_bar(policy) as progress:
            trials = tune(
                tape,
                partial(make, policy),
                space,
                backtest_params(settings, tape),
                range(settings.sweep.lead_time_seeds),
                store_of(settings),
                n_trials=n_trials,
                threads=settings.threads,
                progress=progress,
            )
        tables.append(trials.filter(state="complete").select(pl.lit(policy).alias("policy"), *space, *SHOWN))
    return pl.concat(tables, how="diagonal")


def _opened(settings: Settings, window: str, policies: Sequence[str]) -> tuple[Tape, PolicyMaker]:
    """Return tape and policy maker; the forecasts are read only where a policy needs them."""
    tape = Tape.open(_content(settings, ("tape", window)))
    forecast = None
    if any(policy.startswith("forecast_") for policy in policies):
        forecast = ScheduledForecast(ForecastSchedule.open(_content(settings, ("scheduled_forecasts", window))))
    return tape, policy_maker(forecast)


def _content(settings: Settings, artifact: ArtifactId) -> Path:
    """Return where the checked content of an artifact lies."""
    store = ArtifactStore.of(settings)
    record, path = store.record(artifact), store.directory_path(artifact)
    if record is None:
        msg = f"the sweep needs the artifact {name_of(artifact)}, which is not there ({path}); {cure_of(artifact)}"
        raise ProvenanceError(msg)
    check_content(record, directory_hash(path), path)
    return path / CONTENT_NAME
