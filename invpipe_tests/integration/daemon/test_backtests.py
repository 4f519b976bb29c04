"""Backtests by command line: one that fails takes no other with it, a killed call goes on, only complete sets are compared. No daemon."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invpipe import cli
from invpipe.arena import BacktestResult
from invpipe.defs.arena import assets
from invpipe.defs.operations import comparison_sensor
from invpipe.defs.partitions import VARIANTS, Partitions
from invpipe.errors import ArenaError, ProvenanceError
from invpipe.settings import write_settings
from invpipe_tests.integration.daemon.conftest import copied
from invpipe_tests.pipeline.conftest import Home, surroundings

BAD, GOOD, OTHER = "ewma_lp", "good", "poison"
Replay = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def home(planned_home: Home, tmp_path: Path) -> Home:
    """A copy of the home, on which nothing was replayed yet."""
    return copied(planned_home, tmp_path / "home")


@pytest.fixture
def replay(home: Home, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Call `invpipe backtest`; exit code and printed lines."""

    def call(*more: str) -> tuple[int, list[str]]:
        with surroundings():
            code = cli.main(["backtest", "--home", str(home.path), *more])
        return code, capsys.readouterr().out.splitlines()

    return call


@contextmanager
def broken(variant: str, error: type[BaseException]) -> Iterator[None]:
    """Let the replays of one policy fail."""
    whole = assets.run_backtest

    def fails(tape: Any, policy: Any, *more: Any) -> BacktestResult:
        if policy.name == variant:
            raise error("order at vendor V01 below zero")
        return whole(tape, policy, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "run_backtest", fails)
        yield


def failed_partitions(home: Home) -> set[str]:
    """What the UI shows as failed."""
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        log = instance.event_log_storage
        return set(log.get_latest_asset_partition_materialization_attempts_without_materializations(dg.AssetKey("backtest")))


def test_poison_backtest_is_visible_and_made_again_alone(home: Home, replay: Replay) -> None:
    """Prevents one bad backtest from spoiling a backfill, a comparison of old with new, and a repair that replays everything."""
    assert replay("--window", GOOD)[0] == 0
    first = home.artifacts()
    write_settings(home.path, backtest={"liquidation_frac": 0.4})
    with broken(BAD, ArenaError):
        code, said = replay("--window", GOOD)
    assert code == 1
    assert f"[3/12] {BAD}|{GOOD}: FAILED: ArenaError: order at vendor V01 below zero" in said
    assert said[-2:] == [
        f"{GOOD} is not compared: 1 of 12 backtests are open, first {BAD}",
        f"11 backtests made, 0 re-used, 1 failed: {BAD}|{GOOD}",
    ]
    assert failed_partitions(home) == {f"{BAD}|{GOOD}"}
    after = home.artifacts()
    assert {key.partition("|")[0] for (name, key) in after if name == "backtest" and after[name, key] != first[name, key] and key} == {
        *VARIANTS
    } - {BAD}
    assert after["ablation", GOOD] == first["ablation", GOOD]  # the newest complete set
    code, said = replay("--window", GOOD)
    assert (code, said[-2:]) == (0, [f"{GOOD} is compared", "1 backtests made, 11 re-used, 0 failed"])
    assert failed_partitions(home) == set()
    assert home.artifacts()["ablation", GOOD].settings_hash != first["ablation", GOOD].settings_hash


def test_killed_call_goes_on_where_it_stopped(home: Home, replay: Replay) -> None:
    """Prevents work done twice after an interruption, and a choice of windows and variants that is not kept."""
    chosen = ("--window", OTHER, "--variant", "order_nothing", "ewma_greedy", BAD, "ss")
    with broken(BAD, KeyboardInterrupt), pytest.raises(BaseException, match=r"interrupted|vendor V01"):
        replay(*chosen)
    code, said = replay(*chosen)
    assert code == 0
    assert [re.sub(r"made in .*", "made", line) for line in said[-6:]] == [
        f"[1/4] order_nothing|{OTHER}: unchanged and re-used",
        f"[2/4] ewma_greedy|{OTHER}: unchanged and re-used",
        f"[3/4] {BAD}|{OTHER}: made",
        f"[4/4] ss|{OTHER}: made",
        f"{OTHER} is not compared: 8 of 12 backtests are open, first ewma_marginal",
        "2 backtests made, 2 re-used, 0 failed",
    ]


@pytest.mark.parametrize(("option", "name"), [("--window", "godo"), ("--variant", "order_nothin")])
def test_wrong_names_are_refused(home: Home, capsys: pytest.CaptureFixture[str], option: str, name: str) -> None:
    """Prevents a misspelt name from replaying nothing, or everything."""
    assert cli.main(["backtest", "--home", str(home.path), option, name]) == 1
    assert f"SettingsError: there is no backtest {option[2:]} '{name}'" in capsys.readouterr().err


def asked(home: Home, instance: dg.DagsterInstance) -> list[str | None] | str:
    """Evaluate the sensor: windows to compare, or why none."""
    context = dg.build_sensor_context(instance=instance, repository_def=home.definitions().get_repository_def())
    data = comparison_sensor(Partitions.of(home.settings), home.settings).evaluate_tick(context)
    return [request.partition_key for request in data.run_requests or ()] or str(data.skip_message)


def test_only_complete_sets_are_compared(home: Home) -> None:
    """Prevents a comparison that nobody asks for, one that is made for ever, and one of replays under different settings."""
    keys = [f"{variant}|{window}" for variant in VARIANTS for window in (GOOD, OTHER)]
    with surroundings(), dg.DagsterInstance.ephemeral() as instance:
        assert asked(home, instance) == (
            f"{GOOD} lacks 12 of 12 backtests, first order_nothing; {OTHER} lacks 12 of 12 backtests, first order_nothing"
        )
        home.materialise(instance, "backtests", *keys)
        assert asked(home, instance) == [GOOD, OTHER]
        home.materialise(instance, "compare", GOOD)
        assert asked(home, instance) == [OTHER]
        home.materialise(instance, "compare", OTHER)
        assert asked(home, instance) == "the newest sets are compared"
        before = home.artifacts()["ablation", GOOD]
        write_settings(home.path, backtest={"liquidation_frac": 0.4})
        home.materialise(instance, "backtests", f"order_nothing|{GOOD}")
        assert str(asked(home, instance)).startswith(f"{GOOD} lacks 11 of 12 backtests, first ewma_greedy")
        wanted = (
            f"11 of the 12 backtests of {GOOD} are not of its newest tape, forecasts and settings, first ewma_greedy: a setting it depends"
        )
        with pytest.raises(ProvenanceError, match=wanted):
            home.materialise(instance, "compare", GOOD)
        assert home.artifacts()["ablation", GOOD] == before
