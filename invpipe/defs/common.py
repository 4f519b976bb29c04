"""What every asset declares: its room as group, owners, code version, and the settings it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from invpipe.defs.provenance import code_version_of, depends_on
from invpipe.settings import Settings

OWNERS = ("team:operations",)
#: Significant digits of a figure in the UI; artifacts keep all of them.
FIGURE_DIGITS = 6

#: Any range of partitions in one run: every body loops over its keys and returns a dict of partition key -> artifact.
ONE_RUN = dg.BackfillPolicy.single_run()

#: Tags of a step that waits until no other one can run: what is read about a plan must not hold the plan up.
AFTER_THE_PLAN = {"dagster/priority": "-1"}


class ShopSettings(dg.ConfigurableResource["ShopSettings"]):
    """Settings of the home the run works on.

    Parameters
    ----------
    home
        Directory of all state; without it what `Settings.load` finds.
    """

    home: str | None = None

    def get(self) -> Settings:
        """Return the settings that hold now."""
        return Settings.load(self.home)


def declared(room: str, file: str, *settings: str, kinds: set[str] | None = None) -> dict[str, Any]:
    """Return the arguments of `dg.asset` that every asset of a room shares.

    Parameters
    ----------
    room
        Room whose code the asset runs; also its group.
    file
        `__file__` of the module that defines it.
    settings
        Top-level settings it depends on.
    kinds
        Kinds shown in the UI, at most three; polars and parquet where None.
    """
    return {
        "group_name": room,
        "owners": list(OWNERS),
        "code_version": code_version_of(room, file),
        "metadata": depends_on(*settings),
        "kinds": kinds if kinds is not None else {"polars", "parquet"},
    }


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with every float rounded to `FIGURE_DIGITS` significant digits, for reading: nothing may decide by them."""
    return {name: float(f"{value:.{FIGURE_DIGITS}g}") if isinstance(value, float) else value for name, value in values.items()}


def known(true_demand: pl.DataFrame) -> pl.DataFrame | None:
    """Return the true demand, None where nobody knows it."""
    return None if true_demand.is_empty() else true_demand
