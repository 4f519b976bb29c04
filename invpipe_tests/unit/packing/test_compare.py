"""Plans side by side."""

import numpy as np
import pytest

from invpipe.errors import PackingError
from invpipe.packing import capacity_use, compare_plans, load_to_mean, pack, plan_figures, revenue_histogram, simulate_revenue
from invpipe_tests.oracles.packing import food_cart


def plans_of(problem):
    return {"optimum": pack(problem).units, "rule": load_to_mean(problem), "too much": np.array([0, 2000, 0])}


def test_rows_tell_exact_and_simulated_figures():
    """Prevents a comparison whose rows belong to other plans, and a plan over a capacity that looks like a fair one."""
    problem = food_cart()
    plans = plans_of(problem)
    simulated = {name: simulate_revenue(problem, units, 20_000) for name, units in plans.items()}
    table = compare_plans(problem, plans, simulated, bound=2300.0)
    assert table["plan"].to_list() == list(plans)
    assert table["fits"].to_list() == [True, True, False]
    for row, (name, units) in zip(table.iter_rows(named=True), plans.items(), strict=True):
        figures = plan_figures(problem, units)
        assert row["mean_revenue"] == figures.mean_revenue
        assert row["variance"] == figures.variance
        assert row["gap_frac"] == pytest.approx((2300 - figures.mean_revenue) / 2300)
        assert row["simulated_mean"] == simulated[name].mean
        assert row["simulated_mean_low"] < row["simulated_mean"] < row["simulated_mean_high"]
        assert np.mean(simulated[name].revenue <= row["revenue_05"]) >= 0.05
        assert np.mean(simulated[name].revenue >= row["revenue_95"]) >= 0.05
    use = capacity_use(problem, plans)
    assert use.select("plan", "capacity").n_unique() == len(use) == 9
    assert use["used"].to_list() == pytest.approx((use["available"] * use["utilisation_frac"]).to_list())
    assert use.filter(plan="too much", capacity="weight_g")["utilisation_frac"].item() == pytest.approx(1.6)


def test_plans_meet_the_same_draws():
    """Prevents a difference between plans that is one of luck: more of everything never earns less in any run."""
    problem = food_cart()
    less, more = (simulate_revenue(problem, np.array(units), 5_000, seed=3) for units in ([500, 300, 600], [501, 350, 672]))
    assert (more.revenue >= less.revenue).all()


def test_histogram_counts_every_run():
    """Prevents runs lost outside the bins, and plans on different bins."""
    problem = food_cart()
    simulated = {name: simulate_revenue(problem, units, 20_000) for name, units in plans_of(problem).items()}
    table = revenue_histogram(simulated, 40)
    for name in simulated:
        rows = table.filter(plan=name)
        assert rows["share_frac"].sum() == pytest.approx(1.0)
        assert rows["revenue"].to_list() == table["revenue"][:40].to_list()
        mean = (rows["share_frac"] * rows["revenue"]).sum()
        assert mean == pytest.approx(simulated[name].mean, abs=(table["revenue"][1] - table["revenue"][0]))


def test_wrong_calls_are_refused():
    """Prevents a table with the simulation of another plan, and one without bins."""
    problem = food_cart()
    with pytest.raises(PackingError, match=r"plans are \['a'\], simulations \['b'\]; give one simulation for each plan"):
        compare_plans(problem, {"a": np.zeros(3, dtype=np.int64)}, {"b": simulate_revenue(problem, np.zeros(3, dtype=np.int64), 10)}, 1.0)
    with pytest.raises(PackingError, match="n_bins is 60 for 0 plans"):
        revenue_histogram({})
