"""Result of a backtest: KPIs per day, totals per SKU, orders, and the summary over the KPI span.

Over the KPI span (the days from `warm_up_days` on)::

    profit(f) = revenue - cogs - holding cost - inbound cost - (1 - f) (ending stock + pipeline at cost)

with f = 0 (ending stock is lost), the liquidation share (headline ``profit``), or 1 (worth its cost). Cost of goods sold is at moving
average cost; an order pays its inbound cost when it is placed. Sums are exactly rounded (`math.fsum`), so they do not depend on order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena.params import BacktestParams
from invpipe.atomic import atomic_replace
from invpipe.errors import ProvenanceError

FloatArray = npt.NDArray[np.float64]

_FRAMES = ("days", "orders", "sku_totals")
_SUMMED_MONEY = ("revenue", "cogs", "holding_cost", "inbound_cost", "order_value", "lost_estimate_units")
_SUMMED_UNITS = ("demand_units", "sales_units", "lost_sales_units", "order_units", "order_lines", "refused_lines")


def profit_at(value: Mapping[str, float], ending_value: float, frac: float) -> float:
    """Return the profit with ending stock and pipeline worth `frac` of their cost."""
    return value["revenue"] - value["cogs"] - value["holding_cost"] - value["inbound_cost"] - (1.0 - frac) * ending_value


def summarise(days: pl.DataFrame, sku_totals: pl.DataFrame, params: BacktestParams) -> dict[str, float]:
    """Return the key figures over the KPI span.

    Parameters
    ----------
    days
        KPIs per day of the whole tape.
    sku_totals
        Totals per SKU; its ending values enter the profit.
    params
        Gives the warm-up and the liquidation share.
    """
    span = days[params.warm_up_days :]
    out: dict[str, float] = {"n_days": len(span)}
    out |= {name: int(span[name].sum()) for name in _SUMMED_UNITS}
    out |= {name: math.fsum(span[name].to_list()) for name in _SUMMED_MONEY}
    out["fill_rate"] = out["sales_units"] / out["demand_units"] if out["demand_units"] else 1.0
    out["ending_stock_value"] = math.fsum(sku_totals["ending_stock_value"].to_list())
    out["ending_pipeline_value"] = math.fsum(sku_totals["ending_pipeline_value"].to_list())
    out["capital_used_mean"] = math.fsum(span["inventory_value"].to_list() + span["on_order_value"].to_list()) / len(span)
    out["capital_used_max"] = float((span["inventory_value"] + span["on_order_value"]).max())  # type: ignore[arg-type]
    ending = out["ending_stock_value"] + out["ending_pipeline_value"]
    for name, frac in (("profit", params.liquidation_frac), ("profit_ending_at_zero", 0.0), ("profit_ending_at_cost", 1.0)):
        out[name] = profit_at(out, ending, frac)
    return out


@dataclass(frozen=True)
class BacktestResult:
    """Outcome of one policy on one tape.

    Parameters
    ----------
    policy, seed, params, tape_fingerprint
        What was run; the seed drives the lead times.
    days
        KPIs per day, key day; money and units of the whole tape, warm-up included (`counted` is false there).
    orders
        Placed orders in order of placement: day, sku, vendor, order_units, unit_cost, arrival_day.
    sku_totals
        Totals per SKU over the KPI span, key sku.
    summary
        Key figures of the KPI span; see the module docstring.
    phase_seconds
        Wall-clock seconds per phase; not part of the fingerprint.
    """

    policy: str
    seed: int
    params: BacktestParams
    tape_fingerprint: str
    days: pl.DataFrame
    orders: pl.DataFrame
    sku_totals: pl.DataFrame
    summary: dict[str, float]
    phase_seconds: dict[str, float]

    def fingerprint(self) -> str:
        """Return the SHA-256 over every output byte: days, orders, totals per SKU, summary."""
        sha = hashlib.sha256()
        for name in _FRAMES:
            frame: pl.DataFrame = getattr(self, name)
            for column in frame:
                sha.update(f"{name}.{column.name}:{column.dtype}[{len(column)}]".encode())
                if column.dtype == pl.String:
                    sha.update("\0".join(column).encode())
                else:
                    sha.update(column.to_physical().to_numpy().tobytes())
        for key in sorted(self.summary):
            sha.update(f"{key}={float(self.summary[key]).hex()}".encode())
        return sha.hexdigest()

    def profit_per_sku(self, liquidation_frac: float | None = None) -> FloatArray:
        """Return the profit per SKU over the KPI span, money, shape (n_sku,); `liquidation_frac` is the params' one where None."""
        frac = self.params.liquidation_frac if liquidation_frac is None else liquidation_frac
        t = {name: self.sku_totals[name].to_numpy() for name in self.sku_totals.columns if name != "sku"}
        ending = t["ending_stock_value"] + t["ending_pipeline_value"]
        return np.asarray(t["revenue"] - t["cogs"] - t["holding_cost"] - t["inbound_cost"] - (1.0 - frac) * ending)

    def save(self, path: str | Path) -> Path:
        """Write the result as directory `path` (parquet frames, result.json, phase_seconds.json), replacing one that is there; atomic.

        Raises
        ------
        ProvenanceError
            Where something else than a result is at `path`.
        """
        path = Path(path)
        if path.exists() and not (path / "result.json").is_file():
            msg = f"{path} exists and is not a backtest result (no result.json); choose another path or remove it"
            raise ProvenanceError(msg)
        record = {name: getattr(self, name) for name in ("policy", "seed", "tape_fingerprint", "summary")}
        record |= {"params": dataclasses.asdict(self.params), "fingerprint": self.fingerprint()}
        with atomic_replace(path) as folder:
            folder.mkdir()
            for name in _FRAMES:
                getattr(self, name).write_parquet(folder / f"{name}.parquet")
            (folder / "result.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            (folder / "phase_seconds.json").write_text(json.dumps(self.phase_seconds), encoding="utf-8")
        return path

    @classmethod
    def open(cls, path: str | Path) -> BacktestResult:
        """Read a result written by :meth:`save`.

        Raises
        ------
        ProvenanceError
            Where a file is missing, or what is read is not what was written.
        """
        path = Path(path)
        try:
            record = json.loads((path / "result.json").read_text(encoding="utf-8"))
            frames: dict[str, Any] = {name: pl.read_parquet(path / f"{name}.parquet") for name in _FRAMES}
            fingerprint = record.pop("fingerprint")
            seconds = json.loads((path / "phase_seconds.json").read_text(encoding="utf-8"))
            record |= frames | {"params": BacktestParams(**record["params"]), "phase_seconds": seconds}
            result = cls(**record)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            msg = f"{path} is not a whole backtest result: {error}; run the backtest again"
            raise ProvenanceError(msg) from error
        if result.fingerprint() != fingerprint:
            msg = f"{path} is damaged: its content has another fingerprint than result.json records; run the backtest again"
            raise ProvenanceError(msg)
        return result
