"""Window law on the yardsticks: mean over origins of the mean pinball loss per SKU, beside baselines.

Run it with ``python -m invpipe_tests.benchmarks.window_law``; ``--online-retail FILE`` adds the second shop (columns sku, day, orders,
unit_price; UCI Online Retail II, not part of the project). `invpipe bench forecast` scores all shops, methods and figures; this is the
quick look while the window law is worked on, and the place where the prototype stands with targets that reach past the cutoff.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from invpipe.bench.yardsticks import Yardstick, complete_journey, online_retail
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast.baselines import gamma_poisson, zero
from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import bracket, pinball_loss, randomised_coverage
from invpipe.grid import window_labels
from invpipe_tests.benchmarks.prototype import Prototype

#: What was handed down of a 60-line prototype on the same cells: pinball at .5 and .9. For 60 days it comes out only with targets that
#: reach past the cutoff (`--prototype` shows both).
PROTOTYPE = {"Complete Journey 28 d": (0.6156, 0.4363), "Online Retail 28 d": (1.697, 1.000), "Online Retail 60 d": (3.547, 2.202)}


def run(yardstick: Yardstick, params: ForecastParams, reaches: tuple[int, ...] = ()) -> Iterator[dict[str, float | str]]:
    """Yield one row per (origin, method); `reaches`: how far past the cutoff the targets of prototypes reach, in days."""
    history, days = yardstick.history, yardstick.window_days
    prototype = Prototype(history) if reaches else None
    n = len(history.skus)
    for day in yardstick.cutoffs:
        cutoff = history.day_index(day)
        label = window_labels(history.arrays, np.arange(n), np.full(n, cutoff), np.ones(n, dtype=np.int64), np.full(n, days))
        recent = history.sales_daily.filter(pl.col("day").is_between(day - timedelta(days=yardstick.sold_within_days - 1), day))
        rows = history.items["sku"].is_in(recent["sku"].unique().implode()).to_numpy()
        start = time.perf_counter()
        forecaster = DemandForecaster.fit(history, day, params)
        laws = {"window law": forecaster.window_demand([(1, days)])}
        seconds = time.perf_counter() - start
        laws["gamma-Poisson all"] = gamma_poisson(history, day, [(1, days)], exposure_days=365)
        laws["gamma-Poisson 91 d"] = gamma_poisson(history, day, [(1, days)])
        laws["zero"] = zero(history, day, [(1, days)])
        if prototype:
            laws |= {f"prototype, targets {reach} d past": prototype.window_demand(cutoff, days, reach) for reach in reaches}
        units = label.units[rows]
        for method, demand in laws.items():
            law: CountLaw = demand.law(0).take(rows)
            q90 = law.quantile(0.9)
            low, high, _ = bracket(units, q90, 0.9)
            yield {
                "yardstick": yardstick.name,
                "method": method,
                "cutoff": day,
                "pinball_50": pinball_loss(units, law.quantile(0.5), 0.5),
                "pinball_90": pinball_loss(units, q90, 0.9),
                "bracket_90_low": low,
                "bracket_90_high": high,
                "randomised_coverage_80": randomised_coverage(law, units),
                "bias": law.mean.sum() / units.sum(),
                "seconds": seconds if method == "window law" else 0.0,
            }


def main(argv: list[str] | None = None) -> None:
    """Print one row per yardstick and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--online-retail", type=Path)
    parser.add_argument("--skip-complete-journey", action="store_true")
    parser.add_argument("--params", default="{}", help="ForecastParams as JSON")
    parser.add_argument("--prototype", action="store_true", help="add the prototype, honest and with targets past the cutoff")
    parser.add_argument("--window-only", action="store_true", help="train on the yardstick's window length alone")
    args = parser.parse_args(argv)
    base = ForecastParams.model_validate_json(args.params).model_copy(update={"daily_taus": ()})
    yardsticks = [] if args.skip_complete_journey else [complete_journey()]
    if args.online_retail:
        yardsticks += online_retail(args.online_retail)
    pl.Config.set_tbl_cols(20).set_tbl_width_chars(200).set_float_precision(4).set_tbl_hide_dataframe_shape(True)
    for yardstick in yardsticks:
        params = base.model_copy(update={"window_days": (yardstick.window_days,)}) if args.window_only else base
        reaches = ((0, 32) if yardstick.window_days > 32 else (0,)) if args.prototype else ()
        rows = pl.DataFrame(list(run(yardstick, params, reaches)))
        table = rows.group_by("yardstick", "method", maintain_order=True).agg(pl.exclude("cutoff").mean())
        print(table.drop("yardstick"))
        print(f"{yardstick.name}: prototype .5 {PROTOTYPE[yardstick.name][0]}, .9 {PROTOTYPE[yardstick.name][1]}")


if __name__ == "__main__":
    main()
