"""Gates of a candidate: scores on the right days, the stability index from its definition, verdicts that say what to do."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.features import FEATURES
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast.gates import CALENDAR, SCORE_SCHEMA, feature_drift, judge, population_stability, score_candidate
from invpipe.forecast.window import least_history_days
from invpipe.history import ShopHistory
from invpipe.settings.gates import GateSettings
from invpipe_tests.oracles.gates import stability_index

VALUES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=40)


# --- drift


@given(VALUES, VALUES)
def test_index_is_that_of_the_definition(reference: list[float], now: list[float]) -> None:
    """Prevents bins of the wrong sample, a missing value that falls out, and a decile that belongs to two bins."""
    found = population_stability(np.array(reference), np.array(now))
    assert found == pytest.approx(stability_index(reference, now), abs=1e-12)
    assert found >= 0.0


@given(VALUES, st.randoms(use_true_random=False))
def test_index_of_the_same_values_is_zero(values: list[float], random: object) -> None:
    """Prevents an index that depends on the order of the SKUs."""
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert population_stability(np.array(values), np.array(shuffled)) == pytest.approx(0.0, abs=1e-12)


def test_index_of_a_known_shift() -> None:
    """Prevents a sign or a factor: half of the cells leave the upper half of the deciles and go missing."""
    reference = np.arange(1000.0)
    now = np.where(reference < 500, reference, np.nan)
    p = np.append(np.full(10, 100.5), 0.5) / 1005.5
    q = np.append(np.concatenate([np.full(5, 100.5), np.full(5, 0.5)]), 500.5) / 1005.5
    assert population_stability(reference, now) == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=0.02)


def test_empty_sample_is_refused() -> None:
    """Prevents an index of nothing that looks like no drift."""
    with pytest.raises(ForecastError, match="compares 3 with 0 values; both samples need at least one"):
        population_stability(np.ones(3), np.zeros(0))


def test_drift_leaves_the_calendar_out_and_reads_no_later_day(history: ShopHistory, cutoff: date) -> None:
    """Prevents a gate that fails every January because Christmas is far, and one that knows days after the candidate's."""
    day = cutoff - timedelta(days=28)
    drift = feature_drift(history, day, cutoff, {"rate_28": 0.5})
    assert set(drift["feature"]) == set(FEATURES) - CALENDAR
    assert set(FEATURES) >= CALENDAR
    assert drift["gain_frac"].sum() == 0.5
    assert drift.equals(feature_drift(history.until(cutoff), day, cutoff, {"rate_28": 0.5}))
    assert feature_drift(history, day, day, {})["psi"].sum() == pytest.approx(0.0, abs=1e-9)


# --- scores


@pytest.fixture(scope="module")
def serving(history: ShopHistory, cutoff: date, quick: ForecastParams) -> DemandForecaster:
    """A model fitted a week before the cutoff."""
    return DemandForecaster.fit(history, cutoff - timedelta(days=7), quick)


@pytest.fixture(scope="module")
def scores(history: ShopHistory, cutoff: date, quick: ForecastParams, serving: DemandForecaster) -> pl.DataFrame:
    """Scores of a candidate of the cutoff beside that model."""
    return score_candidate(history, cutoff, quick, 28, serving).scores


def test_candidate_and_rivals_are_scored_on_the_same_days(scores: pl.DataFrame, cutoff: date) -> None:
    """Prevents a comparison on different days, or of a model on days it was fitted on."""
    assert dict(scores.schema) == SCORE_SCHEMA
    against = {key[0]: part for key, part in scores.group_by("against", maintain_order=True)}
    assert against["baselines"]["method"].to_list() == ["candidate", "gamma-Poisson", "EWMA + negative binomial", "zero"]
    assert against["serving model"]["method"].to_list() == ["candidate", "serving model"]
    for part, first in ((against["baselines"], cutoff - timedelta(days=27)), (against["serving model"], cutoff - timedelta(days=6))):
        assert set(part["first_day"]) == {first}
        assert set(part["last_day"]) == {cutoff}
        assert part["cells"].n_unique() == 1
    assert (scores["fitted_on"] < scores["first_day"]).drop_nulls().all()
    assert set(scores.filter(method="candidate")["fitted_on"]) == {cutoff - timedelta(days=28)}


def test_scores_read_nothing_after_the_cutoff(
    scores: pl.DataFrame, history: ShopHistory, cutoff: date, quick: ForecastParams, serving: DemandForecaster
) -> None:
    """Prevents a gate that is passed with knowledge of the days the model is to forecast."""
    assert score_candidate(history.until(cutoff), cutoff, quick, 28, serving).scores.equals(scores)


def test_older_model_is_scored_on_the_whole_span(history: ShopHistory, cutoff: date, quick: ForecastParams) -> None:
    """Prevents an old model from being scored from its own cutoff, with features of that day."""
    old = DemandForecaster.fit(history, cutoff - timedelta(days=60), quick)
    scores = score_candidate(history, cutoff, quick, 28, old).scores
    assert set(scores["first_day"]) == {cutoff - timedelta(days=27)}
    own = scores.filter(method="candidate").drop("against")
    assert own[0].equals(own[1])


def test_model_of_yesterday_is_not_compared(history: ShopHistory, cutoff: date, quick: ForecastParams) -> None:
    """Prevents a verdict from a handful of days."""
    young = DemandForecaster.fit(history, cutoff - timedelta(days=6), quick)
    assert set(score_candidate(history, cutoff, quick, 28, young).scores["against"]) == {"baselines"}


def test_young_shop_is_scored_on_what_fits(history: ShopHistory, quick: ForecastParams) -> None:
    """Prevents a new shop without a model for a month, though one could be fitted, scored and gated; too young a shop is told the day."""
    needed = least_history_days(quick)
    cutoff = history.first_day + timedelta(days=needed + 9)
    scores = score_candidate(history, cutoff, quick, 28).scores
    assert set(scores["first_day"]) == {cutoff - timedelta(days=9)}
    assert set(scores.filter(method="candidate")["fitted_on"]) == {cutoff - timedelta(days=10)}
    first = history.first_day + timedelta(days=needed + 6)
    with pytest.raises(ForecastError, match=rf"at least {needed} and scored on 7 after them: train from {first} on"):
        score_candidate(history, first - timedelta(days=2), quick, 28)
    assert score_candidate(history, first, quick, 28).scores["first_day"][0] == first - timedelta(days=6)


# --- verdicts


def table(*, serving: bool = True, **changed: float) -> pl.DataFrame:
    """Scores of a good candidate; `changed` are figures of the candidate's rows, or of another method as method__figure."""
    day = date(2025, 3, 31)
    figures = {"pinball_50": 1.0, "pinball_90": 1.0, "bracket_90_violation_points": 0.0, "bias_frac": 0.0, "drift_psi": 0.0}
    keys = [("baselines", "candidate"), ("baselines", "gamma-Poisson"), ("baselines", "EWMA + negative binomial"), ("baselines", "zero")]
    keys += [("serving model", "candidate"), ("serving model", "serving model")] if serving else []
    rows = []
    for against, method in keys:
        row = {
            "against": against,
            "method": method,
            "fitted_on": day,
            "first_day": day,
            "last_day": day,
            "cells": 1,
            "moved_most": "rate_7 1.0",
        }
        row |= figures | ({"pinball_90": 9.0} if method == "zero" else {})
        prefix = "" if method == "candidate" else f"{method.split()[0]}__"
        row |= {
            name.removeprefix(prefix): value for name, value in changed.items() if name.startswith(prefix) and (prefix or "__" not in name)
        }
        rows.append(row)
    return pl.DataFrame(rows, schema=SCORE_SCHEMA)


def failed(scores: pl.DataFrame, **limits: float) -> dict[str, bool]:
    """Gates that failed, and whether they block."""
    gates = judge(scores, GateSettings(**limits))
    return dict(gates.filter(~pl.col("passed")).select("gate", "blocks").rows())


def test_good_candidate_passes_all(scores: pl.DataFrame) -> None:
    """Prevents gates that fail on their limit, and one that is left out."""
    gates = judge(
        table(pinball_50=1.25, bias_frac=-0.5, bracket_90_violation_points=5.0, drift_psi=0.25, serving__pinball_50=1.25), GateSettings()
    )
    assert gates["passed"].all()
    names = ["beats_zero", "pinball_against_baselines", "bracket", "volume_bias", "feature_drift", "pinball_against_serving"]
    assert gates["gate"].to_list() == names
    assert judge(scores, GateSettings())["gate"].to_list() == names


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"pinball_90": 9.0, "gamma-Poisson__pinball_90": 9.0, "EWMA__pinball_90": 9.0, "serving__pinball_90": 9.0}, "beats_zero"),
        ({"EWMA__pinball_50": 0.79}, "pinball_against_baselines"),
        ({"gamma-Poisson__pinball_90": 0.79}, "pinball_against_baselines"),
        ({"bracket_90_violation_points": 5.1}, "bracket"),
        ({"bias_frac": -0.51}, "volume_bias"),
        ({"bias_frac": 0.51}, "volume_bias"),
        ({"drift_psi": 0.26}, "feature_drift"),
        ({"serving__pinball_50": 0.95}, "pinball_against_serving"),
        ({"serving__pinball_90": 0.0}, "pinball_against_serving"),
    ],
)
def test_each_gate_blocks_what_is_over_its_limit(changed: dict[str, float], gate: str) -> None:
    """Prevents a gate that looks at another figure, or at one side only."""
    assert failed(table(**changed)) == {gate: True}


def test_limits_are_those_of_the_settings() -> None:
    """Prevents a limit in the file that has no effect."""
    worse = {"EWMA__pinball_50": 0.7, "bias_frac": 0.6, "bracket_90_violation_points": 6.0, "drift_psi": 0.3, "serving__pinball_50": 0.9}
    wide = {"baseline_worse_frac": 0.5, "bias_frac": 0.6, "bracket_points": 6.0, "drift_psi": 0.3, "pinball_worse_frac": 0.12}
    assert len(failed(table(**worse))) == 5
    assert failed(table(**worse), **wide) == {}
    for name in wide:
        assert len(failed(table(**worse), **{**wide, name: 0.01})) == 1, name


def test_first_model_is_only_warned_by_baselines() -> None:
    """Prevents a shop without any forecast because a simple rate would do better, while nothing else can serve."""
    assert failed(table(serving=False, EWMA__pinball_50=0.5)) == {"pinball_against_baselines": False}
    assert failed(table(serving=False, pinball_90=9.5, EWMA__pinball_90=9.5))["beats_zero"]


@pytest.mark.parametrize("figure", ["pinball_50", "pinball_90", "bracket_90_violation_points", "bias_frac", "drift_psi"])
def test_a_figure_that_is_no_number_fails(figure: str) -> None:
    """Prevents a model whose forecasts are not finite from passing because no comparison with NaN holds."""
    assert any(failed(table(**{figure: float("nan")})).values())


def test_message_says_figure_limit_and_what_to_do() -> None:
    """Prevents a red check that tells nobody what is wrong."""
    messages = dict(judge(table(bias_frac=-0.6), GateSettings()).select("gate", "message").rows())
    assert messages["volume_bias"] == (
        "volume_bias: bias of the volume on 2025-03-31 .. 2025-03-31 (-60.0%) is 0.600, limit 0.5; "
        "look for a promotion, a season or missing sales in the span; train again when it is over"
    )
    assert messages["beats_zero"].endswith("as a share of that of a forecast of nothing is 0.111, limit below 1")
    assert "look" not in messages["bracket"]
