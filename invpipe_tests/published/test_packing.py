"""The food cart of Crews (2020) against its published figures, its optimum, and where the two part.

Crews (2020), Food cart series, parts 1 and 2 (blog posts): three items with Poisson demand, three capacities, 1,000,000 simulated runs.
"""

import numpy as np
import pytest
from scipy import stats

from invpipe.forecast.law import CountLaw
from invpipe.packing import load_to_mean, pack, plan_figures, simulate_revenue
from invpipe_tests.oracles.packing import FOOD_CART_MEANS, food_cart

RULE_OF_THUMB, PUBLISHED, OPTIMUM = [0, 900, 466], [572, 355, 669], [576, 350, 672]

#: Plan, exact mean and variance, share of storage, fridge and weight in percent.
FIGURES = [
    (RULE_OF_THUMB, 2073.2525, 775.162, [40.93, 62.10, 99.96]),
    (PUBLISHED, 2244.1019, 110.556, [42.43, 70.86, 100.00]),
    (OPTIMUM, 2244.196448, 148.712, [42.443, 70.930, 100.000]),
]


def test_rule_of_thumb_is_the_published_one() -> None:
    """Prevents another rule from passing as the one the optimum is compared with: pizza first, then tacos, no burger fits."""
    assert load_to_mean(food_cart()).tolist() == RULE_OF_THUMB


def test_optimum_is_certified() -> None:
    """Prevents the published plan, or any other, from passing as the optimum; weight is the one capacity that binds."""
    plan = pack(food_cart())
    assert plan.units.tolist() == OPTIMUM
    assert (plan.status, plan.gap <= 1e-9) == ("optimal", True)
    assert plan.objective == pytest.approx(2244.196448, abs=5e-7)
    assert plan.figures.mean_revenue == pytest.approx(plan.objective, rel=1e-12)
    # one gram more for the fractional pizza of the relaxation: 1.60 / 800 g
    np.testing.assert_allclose(plan.capacity_price, [0.0, 0.0, 0.002], atol=1e-9)


@pytest.mark.parametrize(("units", "mean", "variance", "percent"), FIGURES)
def test_figures_of_the_plans(units: list[int], mean: float, variance: float, percent: list[float]) -> None:
    """Prevents wrong sums of the survival: mean, variance and utilisation of the three plans."""
    figures = plan_figures(food_cart(), np.array(units))
    assert figures.mean_revenue == pytest.approx(mean, abs=5e-5)
    assert figures.variance == pytest.approx(variance, abs=5e-4)
    np.testing.assert_allclose(100 * figures.utilisation_frac, percent, atol=0.006)


@pytest.mark.parametrize("units", [RULE_OF_THUMB, PUBLISHED, OPTIMUM])
def test_variance_is_that_of_the_closed_form(units: list[int]) -> None:
    """Prevents sums that agree with each other only: Poisson moments of min(D, x) by lambda F(x - 2) + x P(D >= x) and its square's."""
    mean, x = FOOD_CART_MEANS, np.array(units)
    below, sells = stats.poisson(mean).cdf, stats.poisson(mean).sf(x - 1)
    first = mean * below(x - 2) + x * sells
    second = mean**2 * below(x - 3) + mean * below(x - 2) + x**2 * sells
    figures, revenue = plan_figures(food_cart(), x), np.array([1.3, 1.6, 1.4])
    assert figures.mean_revenue == pytest.approx(float(revenue @ first), rel=1e-12)
    assert figures.variance == pytest.approx(float(revenue**2 @ (second - first**2)), rel=1e-8)


def test_published_plan_is_the_optimum_of_shifted_demand() -> None:
    """Prevents the docstring's explanation from being a guess.

    1 - F(n; lambda - 1) in place of 1 - F(n - 1; lambda) gives exactly the published plan, which under the right values earns 2244.10.
    """
    shifted = np.array([stats.poisson(mean - 1).sf(np.arange(1, 1001)) for mean in FOOD_CART_MEANS])
    plan = pack(food_cart(shifted))
    assert plan.units.tolist() == PUBLISHED
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(2243.4045, abs=5e-5)


@pytest.mark.parametrize(
    ("units", "mean", "half_width", "published_variance"), [(RULE_OF_THUMB, 2073.25, 0.07, 776.27), (PUBLISHED, 2244.10, 0.03, 110.34)]
)
def test_a_million_runs(units: list[int], mean: float, half_width: float, published_variance: float) -> None:
    """Prevents a simulation that sells other demand than the closed form: mean, 99 % interval and variance of 1,000,000 runs.

    The published variances are samples; their own error is about 1.6 and .4 (two samples: times the root of 2).
    """
    problem, n_runs = food_cart(), 1_000_000
    simulated, exact = simulate_revenue(problem, np.array(units), n_runs, seed=7), plan_figures(problem, np.array(units))
    low, high = simulated.mean_interval(0.99)
    assert low < exact.mean_revenue < high
    assert low < mean + 0.005
    assert high > mean - 0.005
    assert (high - low) / 2 == pytest.approx(half_width, abs=0.005)
    error = (np.mean((simulated.revenue - simulated.mean) ** 4) / n_runs - simulated.variance**2 / n_runs) ** 0.5
    assert abs(simulated.variance - exact.variance) < 3 * error
    assert abs(simulated.variance - published_variance) < 3 * 2**0.5 * error


def test_laws_agree_with_their_survival() -> None:
    """Prevents a count law and its own survival, given as a matrix, from leading to different plans."""
    law = CountLaw(FOOD_CART_MEANS, np.full(3, np.inf))
    survival = np.column_stack([law.survival(np.full(3, n)) for n in range(1, 1001)])
    assert pack(food_cart(survival)).units.tolist() == OPTIMUM
