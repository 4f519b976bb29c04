"""Years of offer deltas from full events: seconds, and the peak memory of the process.

Run it with ``python -m invpipe_tests.benchmarks.offer_deltas``. The events are simulated and seeded: on the first day every offer is
stated, on every later day a fixed number of offers, most of them with one changed value, one in twenty with none. Deltas are written to
Parquet span by span. Making the events is not timed, but its memory counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from invpipe.sources.databases.offer_deltas import OFFER_SCHEMA, OfferState, deltas

START = datetime(2020, 1, 1)
DAY_US = 86_400_000_000
VENDORS = 40


def events(offers: int, days: int, events_per_day: int, days_per_span: int, seed: int) -> Iterator[pl.DataFrame]:
    """Yield spans of full events; simulated. An offer has at most one event a day."""
    rng = np.random.default_rng(seed)
    numbers = pl.Series(np.arange(offers))
    skus, vendors = pl.select(
        sku=pl.format("S{}", (numbers // 2).cast(pl.String).str.zfill(7)), vendor=pl.format("V{}", (numbers * 7 % VENDORS + numbers % 2))
    ).get_columns()
    cost, in_stock = np.round(rng.gamma(2.0, 5.0, offers) + 0.5, 2), rng.random(offers) < 0.8
    least, pack = rng.choice([1, 1, 1, 5, 10], offers).astype(np.int32), rng.choice([1, 1, 6, 12], offers).astype(np.int32)
    start_us = int((START - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    for first_day in range(0, days, days_per_span):
        parts = []
        for day in range(first_day, min(first_day + days_per_span, days)):
            chosen = np.arange(offers) if day == 0 else rng.choice(offers, events_per_day, replace=False)
            kind = rng.random(chosen.size)
            moved, switched, other = chosen[kind < 0.7], chosen[(kind >= 0.7) & (kind < 0.9)], chosen[(kind >= 0.9) & (kind < 0.95)]
            cost[moved] = np.round(cost[moved] * rng.uniform(0.9, 1.1, moved.size) + 0.01, 2)
            in_stock[switched] = ~in_stock[switched]
            least[other] = least[other] % 10 + 1
            at = start_us + day * DAY_US + rng.integers(0, DAY_US, chosen.size)
            values = {"unit_cost": cost[chosen], "in_stock": in_stock[chosen], "min_order_units": least[chosen], "pack_units": pack[chosen]}
            named = {"sku": skus.gather(chosen), "vendor": vendors.gather(chosen), "observed_at": pl.Series(at).cast(pl.Datetime("us"))}
            parts.append(pl.DataFrame(named | values, schema=OFFER_SCHEMA))
        yield pl.concat(parts)


def run(offers: int, days: int, events_per_day: int, days_per_span: int, seed: int) -> dict[str, float]:
    """Return the figures of one build."""
    state, seconds, counts = OfferState(), 0.0, {"events": 0, "deltas": 0}
    with tempfile.TemporaryDirectory() as directory:
        for n, span in enumerate(events(offers, days, events_per_day, days_per_span, seed)):
            start = time.perf_counter()
            (changes,) = deltas([span], state)
            changes.write_parquet(Path(directory) / f"{n}.parquet")
            seconds += time.perf_counter() - start
            counts["events"] += span.height
            counts["deltas"] += changes.height
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    sizes = {"offers": offers, "days": days, "days_per_span": days_per_span, "seed": seed}
    return sizes | counts | {"seconds": seconds, "events_per_second": counts["events"] / seconds, "peak_memory_mib": peak}


def main(argv: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offers", type=int, default=300_000)
    parser.add_argument("--days", type=int, default=2_000)
    parser.add_argument("--events-per-day", type=int, default=20_000)
    parser.add_argument("--days-per-span", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(run(**vars(parser.parse_args(argv))), indent=2))


if __name__ == "__main__":
    main()
