"""Offer deltas and their replay by the definition, one event at a time in plain Python.

Shares no code with `invpipe.sources.databases.offer_deltas`. Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

VALUES = ("unit_cost", "in_stock", "min_order_units", "pack_units")
Row = dict[str, Any]
State = dict[tuple[str, str], Row]


def in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["observed_at"], row["sku"], row["vendor"]))


def state_after(events: Iterable[Row]) -> State:
    """The last event of each offer, in full."""
    return {(event["sku"], event["vendor"]): {name: event[name] for name in VALUES} for event in in_order(events)}


def deltas_of(events: Iterable[Row]) -> list[Row]:
    """What changed, in order of time, then sku, then vendor."""
    seen: State = {}
    changes = []
    for event in in_order(events):
        key = (event["sku"], event["vendor"])
        before = seen.get(key, dict.fromkeys(VALUES))
        changed = {name: event[name] if event[name] != before[name] else None for name in VALUES}
        if any(value is not None for value in changed.values()):
            changes.append({"sku": event["sku"], "vendor": event["vendor"], "observed_at": event["observed_at"]} | changed)
        seen[key] = {name: event[name] for name in VALUES}
    return changes


def replayed(deltas: Iterable[Row]) -> State:
    """The state after deltas, in the order given."""
    state: State = {}
    for delta in deltas:
        now = state.setdefault((delta["sku"], delta["vendor"]), dict.fromkeys(VALUES))
        now.update({name: delta[name] for name in VALUES if delta[name] is not None})
    return state
