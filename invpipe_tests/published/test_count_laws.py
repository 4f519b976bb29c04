"""Count laws, their fit, decisions and scores against numbers and formulas in print."""

import numpy as np
import pytest
from scipy import special, stats

from invpipe.forecast.dispersion import fit_size
from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import ranked_probability_score


def law(mean: float, size: float = np.inf, rows: int = 1) -> CountLaw:
    """The same law in each row; Poisson unless a size is given."""
    return CountLaw(np.full(rows, float(mean)), np.full(rows, float(size)))


def expected_counts(demand: CountLaw, total: int) -> np.ndarray:
    """Expected number of cells with 0, 1, 2, ... units, one per row of the law."""
    n = np.arange(len(demand))
    return total * (demand.survival(n) - demand.survival(n + 1))


def test_deaths_by_horse_kick_are_poisson() -> None:
    """Prevents a wrong Poisson law.

    Bortkiewicz (1898), *Das Gesetz der kleinen Zahlen*: 122 deaths in 200 corps-years, on 109, 65, 22, 3 and 1 of them 0 to 4. Poisson
    with mean .61 expects 108.7, 66.3, 20.2, 4.1 and 0.6.
    """
    observed = np.array([109, 65, 22, 3, 1])
    mean = observed @ np.arange(5) / observed.sum()
    assert mean == pytest.approx(0.61)
    np.testing.assert_allclose(expected_counts(law(mean, rows=5), 200), [108.7, 66.3, 20.2, 4.1, 0.6], atol=0.05)


def test_mites_on_apple_leaves_are_negative_binomial() -> None:
    """Prevents a wrong fit of the size, and a negative binomial in another form than NB2.

    Bliss and Fisher (1953), Fitting the negative binomial distribution to biological data, *Biometrics* 9, 176-200: European red mites
    on 150 apple leaves, 70, 38, 17, 10, 9, 3, 2, 1 of them with 0 to 7; maximum likelihood gives k = 1.02459 and expects 69.49, 37.60,
    20.10, 10.70, 5.69, 3.02, 1.60, 0.85 leaves.
    """
    observed = np.array([70, 38, 17, 10, 9, 3, 2, 1])
    units = np.repeat(np.arange(8.0), observed)
    mean = float(units.mean())
    size = float(np.exp(fit_size(np.full(150, mean), units)))
    assert size == pytest.approx(1.02459, abs=5e-5)
    expected = expected_counts(law(mean, size, rows=8), 150)
    np.testing.assert_allclose(expected, [69.49, 37.60, 20.10, 10.70, 5.69, 3.02, 1.60, 0.85], atol=0.006)


def test_gamma_poisson_posterior_of_the_asthma_example() -> None:
    """Prevents a wrong update of the gamma-Poisson baseline.

    Gelman et al. (2013), *Bayesian Data Analysis*, 3rd ed., section 2.6: prior Gamma(3, 5); 3 deaths at exposure 2 give Gamma(6, 7) with
    mean .86 and P(theta > 1) = .30; 30 deaths at exposure 20 give Gamma(33, 25) with mean 1.32 and P(theta > 1) = .93. A gamma tail is a
    Poisson sum, P(Gamma(k, b) > 1) = P(Poisson(b) <= k - 1). The predictive of y at exposure L is the mixture, negative binomial of size 6
    and mean 6 L / 7.
    """
    assert law(7).cdf(np.array([5]))[0] == pytest.approx(0.30, abs=0.005)
    assert law(25).cdf(np.array([32]))[0] == pytest.approx(0.93, abs=0.005)
    theta, weights = special.roots_genlaguerre(80, 5.0)  # integrates over Gamma(6, 1); theta / 7 is Gamma(6, 7)
    for exposure in (0.5, 2.0, 10.0):
        for y in range(12):
            mixture = weights @ stats.poisson.pmf(y, exposure * theta / 7) / special.gamma(6)
            predictive = law(6 / 7 * exposure, 6)
            found = (predictive.survival(np.array([y])) - predictive.survival(np.array([y + 1])))[0]
            assert found == pytest.approx(mixture, rel=1e-9, abs=1e-14)


def test_newsvendor_with_poisson_demand() -> None:
    """Prevents a quantile off by one unit and wrong expected sales.

    Snyder and Shen (2019), *Fundamentals of Supply Chain Theory*, 2nd ed., section 4.3, as computed by the authors' stockpyl
    (`newsvendor_poisson(0.18, 0.70, 50)`): holding cost .18, stock-out cost .70, Poisson demand with mean 50: base-stock level 56, expected
    cost 1.797235211809178.
    """
    holding, stockout, demand = 0.18, 0.70, law(50)
    level = demand.quantile(stockout / (stockout + holding))
    assert level.tolist() == [56]
    sales = demand.expected_sales(level)
    assert float((holding * (level - sales) + stockout * (50 - sales))[0]) == pytest.approx(1.797235211809178, rel=1e-10)


@pytest.mark.parametrize(
    ("mean", "units"), [(0.2, 0), (2.5, 0), (2.5, 4), (10.0, 7), (40.0, 60), (1200.0, 1260), (1200.0, 0), (2e5, 200_100)]
)
def test_ranked_probability_score_of_a_poisson_law(mean: float, units: int) -> None:
    """Prevents a wrong or cut-off score.

    Wei and Held (2014), Calibration tests for count data, *TEST* 23, 787-805, in the form of Jordan, Krueger and Lerch (2019),
    *J. Stat. Softw.* 90(12): (y - m)(2 F(y) - 1) + 2 m f(y) - m e^{-2m} (I_0(2m) + I_1(2m)).
    """
    published = (
        (units - mean) * (2 * stats.poisson.cdf(units, mean) - 1)
        + 2 * mean * stats.poisson.pmf(units, mean)
        - mean * (special.ive(0, 2 * mean) + special.ive(1, 2 * mean))
    )
    assert ranked_probability_score(law(mean), np.array([float(units)])) == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize(("mean", "size", "units"), [(0.2, 0.5, 0), (2.5, 1.3, 0), (2.5, 0.7, 4), (10.0, 3.0, 7), (5.0, 20.0, 25)])
def test_ranked_probability_score_of_a_negative_binomial_law(mean: float, size: float, units: int) -> None:
    """Prevents a wrong or cut-off score.

    The same sources, with p = n / (n + m): y (2 F_{n,p}(y) - 1) - n (1-p)/p^2 (p (2 F_{n+1,p}(y-1) - 1) + 2F1(n+1, 1/2; 2; -4 (1-p)/p^2)).
    """
    p = size / (size + mean)
    published = units * (2 * stats.nbinom.cdf(units, size, p) - 1) - size * (1 - p) / p**2 * (
        p * (2 * stats.nbinom.cdf(units - 1, size + 1, p) - 1) + special.hyp2f1(size + 1, 0.5, 2, -4 * (1 - p) / p**2)
    )
    assert ranked_probability_score(law(mean, size), np.array([float(units)])) == pytest.approx(published, rel=1e-8)
