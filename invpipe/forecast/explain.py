r"""Why a forecast is what it is: what each feature adds to the logarithm of a SKU's rate.

The rate boosters have a log link, so their trees add up to :math:`\log \lambda(x) = c + \sum_j \phi_j(x)`, with c the boosters' own
expectation and :math:`\phi_j` the Shapley value of feature j (TreeSHAP, Lundberg et al. 2020, Nature Machine Intelligence 2; LightGBM's
`pred_contrib`). :math:`e^{\phi_j}` is the factor by which feature j moves the rate. Values of a family's features add up.

Contributions are averaged over the boosters of the ensemble; the forecast is the mean of the boosters' rates, not of their logarithms,
so that the factors multiply to the boosters' geometric mean, which lies a little below it, and what the window model does to the mean
after its boosters is not in them. A contribution says what the model used, not what
caused the demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.features import FAMILIES, FEATURES
from invpipe.forecast.booster import inputs_of
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import WindowDemand
from invpipe.forecast.window import INPUTS, CountModel, window_inputs
from invpipe.history import ShopHistory

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Family of the booster's inputs that are no features: what the question is.
QUESTION = "window"

DRIVER_SCHEMA: dict[str, pl.DataType] = {
    "sku": pl.String(),
    "cutoff": pl.Date(),
    "window_first": pl.Int64(),
    "window_last": pl.Int64(),
    "rank": pl.Int64(),
    "feature": pl.String(),
    "family": pl.String(),
    "feature_value": pl.Float64(),
    "log_contribution": pl.Float64(),
    "factor": pl.Float64(),
    "base_rate": pl.Float64(),
    "rate": pl.Float64(),
    "mean_units": pl.Float64(),
}


@dataclass(frozen=True)
class Contributions:
    """What each input adds to the log rate of some SKUs in one window.

    Parameters
    ----------
    inputs
        Names of the inputs, k.
    values
        Inputs, NaN where missing, shape (n, k).
    log_contribution
        Shapley values, shape (n, k).
    log_base
        What the boosters expect knowing nothing, log units per day, shape (n,).
    """

    inputs: tuple[str, ...]
    values: FloatArray
    log_contribution: FloatArray
    log_base: FloatArray

    @property
    def log_rate(self) -> FloatArray:
        """Log units per day the inputs add up to, shape (n,)."""
        return np.asarray(self.log_base + self.log_contribution.sum(axis=1))


def family_of(name: str) -> str:
    """Return the feature family of an input, :data:`QUESTION` where it is no feature."""
    return next((family for family, names in FAMILIES.items() if name in names), QUESTION)


def contributions(forecaster: DemandForecaster, window: tuple[int, int], rows: IntArray) -> Contributions:
    """Return what each input adds to the rate of some SKUs.

    Parameters
    ----------
    forecaster
        Fitted forecaster.
    window
        (first_day, last_day) counted from the cutoff.
    rows
        Rows of the SKUs in the catalogue, shape (n,).
    """
    first, last = (np.full(len(rows), day) for day in window)
    store, model = forecaster.store, forecaster.window
    matrix = window_inputs(store, rows, np.full(len(rows), store.history.n_days - 1), first, last)
    never = np.isnan(matrix[:, FEATURES.index("days_since_sale")])
    matrix = inputs_of(model.sold.boosters[0], matrix, INPUTS)
    parts = np.zeros((len(rows), matrix.shape[1] + 1))
    for count_model, chosen in ((model.sold, ~never), (model.unsold or model.sold, never)):
        if chosen.any():
            parts[chosen] = _log_parts(count_model, matrix[chosen])
    names = tuple(model.sold.boosters[0].feature_name())
    return Contributions(names, matrix.astype(np.float64), parts[:, :-1], parts[:, -1])


def _log_parts(model: CountModel, matrix: npt.NDArray[np.float32]) -> FloatArray:
    """Return the Shapley values and, last, the expectation, averaged over the boosters, shape (n, k + 1)."""
    parts = np.array([booster.predict(matrix, pred_contrib=True, num_threads=1) for booster in model.boosters], dtype=np.float64)
    mean = parts.mean(axis=0)
    mean[:, -1] += model.log_base_rate
    return np.asarray(mean)


def top_rows(demand: WindowDemand, n: int) -> IntArray:
    """Return the rows of the n SKUs with the highest expected demand in the first window, highest first, ties by SKU."""
    return np.argsort(-demand.mean[:, 0], kind="stable")[:n]


def drivers(forecaster: DemandForecaster, window: tuple[int, int], rows: IntArray, n: int = 5) -> pl.DataFrame:
    """Return the n inputs that move each SKU's rate most, largest first, key (sku, rank), columns DRIVER_SCHEMA.

    `factor` is what the rate is multiplied by, `base_rate` what the boosters expect knowing nothing and `rate` what all inputs together
    make of it, units per orderable day; `mean_units` is the window's forecast itself. SKUs are in the order of `rows`.

    Raises
    ------
    ForecastError
        Where n is below 1.
    """
    if n < 1:
        msg = f"{n} drivers per SKU asked for; ask for at least 1"
        raise ForecastError(msg)
    found = contributions(forecaster, window, rows)
    n = min(n, len(found.inputs))
    order = np.argsort(-np.abs(found.log_contribution), axis=1, kind="stable")[:, :n].ravel()
    row = np.repeat(np.arange(len(rows)), n)
    names, skus = np.array(found.inputs), forecaster.store.history.skus
    families = np.array([family_of(name) for name in found.inputs])
    moved = found.log_contribution[row, order]
    return pl.DataFrame(
        {
            "sku": [skus[rows[i]] for i in row],
            "cutoff": [forecaster.cutoff] * len(row),
            "window_first": [window[0]] * len(row),
            "window_last": [window[1]] * len(row),
            "rank": np.tile(np.arange(1, n + 1), len(rows)),
            "feature": names[order].tolist(),
            "family": families[order].tolist(),
            "feature_value": found.values[row, order],
            "log_contribution": moved,
            "factor": np.exp(moved),
            "base_rate": np.exp(found.log_base)[row],
            "rate": np.exp(found.log_rate)[row],
            "mean_units": forecaster.window_demand([window]).mean[rows[row], 0],
        },
        schema=DRIVER_SCHEMA,
    ).with_columns(pl.col("feature_value").fill_nan(None))


def family_importance(forecaster: DemandForecaster, window: tuple[int, int], rows: IntArray) -> pl.DataFrame:
    """Return what each feature family is worth to the window model, largest contribution first, key family.

    `gain_frac` is the family's share of the gain in training; `mean_log_contribution` the mean over the SKUs of the absolute sum of
    its features' contributions: how far the family moves a log rate.
    """
    found = contributions(forecaster, window, rows)
    gain = forecaster.window.gain_by_feature()
    table = []
    for family in (*FAMILIES, QUESTION):
        columns = [j for j, name in enumerate(found.inputs) if family_of(name) == family]
        moved = np.abs(found.log_contribution[:, columns].sum(axis=1))
        gained = sum(gain[found.inputs[j]] for j in columns)
        table.append({"family": family, "gain_frac": gained, "mean_log_contribution": float(moved.mean()) if len(rows) else 0.0})
    schema = {"family": pl.String, "gain_frac": pl.Float64, "mean_log_contribution": pl.Float64}
    return pl.DataFrame(table, schema=schema).sort(["mean_log_contribution", "family"], descending=[True, False])


def fan_rows(demand: WindowDemand, n: int = 10) -> IntArray:
    """Return n rows for a forecast fan: SKUs spread evenly over the logarithm of the rank by expected demand, the highest first.

    Only SKUs that expect at least one unit in the first window are shown, if there are so many: most others would be flat lines.
    """
    order = top_rows(demand, len(demand.skus))
    worth = max(int((demand.mean[:, 0] >= 1.0).sum()), min(n, len(order)))
    ranks = np.unique(np.round(np.geomspace(1, max(worth, 1), n)).astype(np.int64))
    missing = np.setdiff1d(np.arange(1, worth + 1), ranks)[: n - len(ranks)]  # ranks that fell together make room for the next ones
    return np.asarray(order[np.union1d(ranks, missing)[:worth] - 1])


def forecast_fan(demand: WindowDemand, history: ShopHistory, rows: IntArray, past_days: int = 60) -> pl.DataFrame:
    """Return what SKUs sold before the cutoff, and quantiles of what they will from it on, key (sku, day), SKUs in the order of `rows`.

    Parameters
    ----------
    demand
        Laws of windows that start on day 1.
    history
        History up to the cutoff or longer; nothing after it is read.
    rows
        Rows of the SKUs shown.
    past_days
        Days up to the cutoff.

    Returns
    -------
    pl.DataFrame
        Up to the cutoff `sales_units` of the day, after it null; on the last day of each window q10, q50, q90 and mean_units of the
        units from the cutoff to it, before null. The cutoff has both, its quantiles are 0.

    Raises
    ------
    ForecastError
        Where a window starts after day 1: what comes before it would be missing.
    """
    late = [window for window in demand.windows if window[0] != 1]
    if late:
        msg = f"{len(late)} of {len(demand.windows)} windows do not start on day 1, first {late[0]}; a fan needs windows (1, k)"
        raise ForecastError(msg)
    skus = pl.DataFrame({"sku": [demand.skus[row] for row in rows]}, schema={"sku": pl.String})
    past = pl.DataFrame({"day": [demand.cutoff - timedelta(days=k) for k in range(past_days - 1, -1, -1)]}, schema={"day": pl.Date})
    sales = history.sales_daily.select("sku", "day", pl.col("sales_units").cast(pl.Int64))
    before = skus.join(past, how="cross").join(sales, on=["sku", "day"], how="left", maintain_order="left")
    before = before.with_columns(pl.col("sales_units").fill_null(0))
    ahead = pl.DataFrame({"day": [demand.cutoff + timedelta(days=k) for k in (0, *(last for _, last in demand.windows))]})
    columns = {f"q{round(100 * tau)}": demand.quantile(tau)[rows] for tau in (0.1, 0.5, 0.9)} | {"mean_units": demand.mean[rows]}
    start = np.zeros((len(rows), 1))
    quantiles = [pl.Series(name, np.column_stack([start, column]).astype(np.float64).ravel()) for name, column in columns.items()]
    after = skus.join(ahead, how="cross").with_columns(quantiles)
    both = before.join(after, on=["sku", "day"], how="full", coalesce=True)
    return skus.with_row_index("row").join(both, on="sku").sort("row", "day").select("sku", "day", "sales_units", *columns)
