"""The day's allocation problem: offers, stock and windows against their definitions, and every refusal."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from invpipe.allocation import PlanningParams, allocate, daily_problem, protection_windows
from invpipe.allocation.daily import cheapest_offers, closing_stock, stock_value
from invpipe.errors import AllocationError
from invpipe.forecast import WindowDemand
from invpipe.history import ShopHistory
from invpipe_tests.unit.history.worlds import Frames, day, history, poisoned, random_shop

#: Last day of the random shops but ten, so that a future exists.
DAY = day(49)
REVIEW_DAYS = 7


def shop(seed: int, n_sku: int = 12) -> Frames:
    """A random shop whose first offers stand from the first day."""
    return random_shop(seed, n_sku=n_sku)


def forecast(past: ShopHistory, cutoff: date, review_period_days: int = REVIEW_DAYS, seed: int = 0) -> WindowDemand:
    """A made-up law over the protection windows, one mean and size per cell, none twice."""
    windows = tuple(protection_windows(past, review_period_days))
    rng = np.random.default_rng(seed)
    shape = (len(past.skus), len(windows))
    return WindowDemand(past.skus, cutoff, windows, rng.uniform(0.1, 6.0, shape), rng.uniform(0.3, 5.0, shape))


def offers_by_hand(frames: Frames, sku: str, last: date) -> dict[str, tuple[Any, ...]]:
    """Latest offer per vendor at the end of a day: (unit_cost, in_stock, min_order_units, pack_units)."""
    latest: dict[str, tuple[Any, ...]] = {}
    for row in frames["offers"].filter(pl.col("sku") == sku).sort("observed_at").iter_rows(named=True):
        if row["observed_at"].date() <= last:
            latest[row["vendor"]] = (row["unit_cost"], row["in_stock"], row["min_order_units"], row["pack_units"])
    return latest


def stock_by_hand(frames: Frames, sku: str, last: date) -> int:
    """Opening stock of the last row less the sales of the last day, never below 0."""
    opening = 0
    for row in frames["stock_daily"].filter(pl.col("sku") == sku).sort("day").iter_rows(named=True):
        if row["day"] <= last:
            opening = row["on_hand_units"]
    sold = frames["sales_daily"].filter((pl.col("sku") == sku) & (pl.col("day") == last))["sales_units"].sum()
    return max(0, opening - int(sold))


LEAD_DAYS = {"V0": 3, "V1": 8, "V2": 20}  # of random_shop: 3, 7.5 and 20 days, rounded up


@pytest.mark.parametrize("seed", range(6))
def test_cheapest_offer_is_the_latest_of_the_cheapest_vendor_in_stock(seed: int) -> None:
    """Prevents an old price, a vendor without stock, a dearer vendor, or a cost from the future."""
    frames = shop(seed)
    found = {row["sku"]: row for row in cheapest_offers(history(frames).until(DAY)).iter_rows(named=True)}
    expected = {}
    for sku in frames["items"]["sku"]:
        in_stock = [(offer[0], vendor, *offer[2:]) for vendor, offer in offers_by_hand(frames, sku, DAY).items() if offer[1]]
        if in_stock:
            expected[sku] = min(in_stock)
    assert {sku: (r["unit_cost"], r["vendor"], r["min_order_units"], r["pack_units"]) for sku, r in found.items()} == expected
    assert all(row["lead_days"] == LEAD_DAYS[row["vendor"]] for row in found.values())
    assert list(found) == sorted(found)


def test_equal_costs_go_to_the_vendor_first_in_the_alphabet() -> None:
    """Prevents a plan that depends on the order of the rows."""
    frames = shop(0, n_sku=1)
    first = frames["offers"].head(1).with_columns(in_stock=pl.lit(value=True), unit_cost=pl.lit(2.0))
    stamp = frames["offers"]["observed_at"].max()
    tie = [first.with_columns(vendor=pl.lit(vendor), observed_at=pl.lit(stamp, pl.Datetime("us"))) for vendor in ("V2", "V0", "V1")]
    known = history(frames | {"offers": pl.concat(tie)})
    assert cheapest_offers(known)["vendor"].to_list() == ["V0"]


@pytest.mark.parametrize("seed", range(6))
def test_closing_stock_is_opening_less_sales_of_the_last_day(seed: int) -> None:
    """Prevents stock that was sold today from being counted, or sales of earlier days from being taken off twice."""
    frames = shop(seed)
    found = closing_stock(history(frames).until(DAY))
    assert dict(found.iter_rows()) == {sku: stock_by_hand(frames, sku, DAY) for sku in frames["items"]["sku"]}
    assert found["sku"].to_list() == sorted(frames["items"]["sku"])


@pytest.mark.parametrize("seed", range(6))
def test_stock_value_uses_the_lowest_known_cost_else_the_price(seed: int) -> None:
    """Prevents a capital limit measured on prices where costs are known, or on nothing where they are not."""
    frames = shop(seed)
    value = 0.0
    for sku, price in frames["items"].select("sku", "list_price").iter_rows():
        costs = [offer[0] for offer in offers_by_hand(frames, sku, DAY).values()]
        value += stock_by_hand(frames, sku, DAY) * (min(costs) if costs else price)
    assert stock_value(history(frames).until(DAY)) == pytest.approx(value)


def test_stock_value_without_offers_is_at_list_price() -> None:
    """Prevents an error, or a value of nothing, in a shop that keeps no offers."""
    frames = shop(1)
    known = history(frames, offers=None).until(DAY)
    prices = dict(frames["items"].select("sku", "list_price").iter_rows())
    assert stock_value(known) == pytest.approx(sum(prices[sku] * units for sku, units in closing_stock(known).iter_rows()))


@pytest.mark.parametrize(("review", "windows"), [(7, [(1, 10), (1, 15), (1, 27)]), (1, [(1, 4), (1, 9), (1, 21)])])
def test_protection_windows_are_lead_time_rounded_up_plus_review(review: int, windows: list[tuple[int, int]]) -> None:
    """Prevents a window a day short, in which an order of half a day's more lead time does not arrive."""
    assert protection_windows(history(shop(0)), review) == windows


def test_vendors_of_one_lead_time_share_a_window() -> None:
    """Prevents the same window from being forecast once per vendor."""
    frames = shop(0)
    same = frames["vendors"].with_columns(lead_time_days_mean=pl.Series([2.1, 2.9, 3.0]))
    assert protection_windows(history(frames | {"vendors": same}), 4) == [(1, 7)]


@pytest.mark.parametrize("seed", range(4))
def test_problem_holds_every_row_as_defined(seed: int) -> None:
    """Prevents a law of another SKU or window, a cost of another day count, and a capital that ignores the stock."""
    frames = shop(seed)
    past = history(frames)
    demand = forecast(past, DAY)
    params = PlanningParams(review_period_days=REVIEW_DAYS, holding_cost_frac_per_year=0.3, leftover_value_frac=0.8, capital_limit=500.0)
    problem = daily_problem(past, DAY, demand, params)
    offers = {row["sku"]: row for row in cheapest_offers(past.until(DAY)).iter_rows(named=True)}
    prices = dict(frames["items"].select("sku", "list_price").iter_rows())
    assert problem.skus == tuple(sku for sku, offer in offers.items() if offer["unit_cost"] < prices[sku])
    for i, sku in enumerate(problem.skus):
        offer = offers[sku]
        days = offer["lead_days"] + REVIEW_DAYS
        at = demand.skus.index(sku), demand.windows.index((1, days))
        assert (problem.demand.mean[i], problem.demand.size[i]) == (demand.mean[at], demand.size[at])
        assert (problem.vendors[i], problem.unit_cost[i], problem.unit_price[i]) == (offer["vendor"], offer["unit_cost"], prices[sku])
        assert problem.holding_cost[i] == pytest.approx(0.3 * days / 365 * offer["unit_cost"])
        assert problem.salvage_value[i] == pytest.approx(0.8 * offer["unit_cost"])
        assert problem.inventory_position_units[i] == stock_by_hand(frames, sku, DAY)
        assert (problem.min_order_units[i], problem.pack_units[i]) == (offer["min_order_units"], offer["pack_units"])
    assert problem.capital == pytest.approx(max(0.0, 500.0 - stock_value(past.until(DAY))))


def test_capital_is_a_share_of_the_stock_without_a_limit_and_never_negative() -> None:
    """Prevents a negative capital, which no plan satisfies, and a limit that hides the share or the other way round."""
    past = history(shop(2))
    value = stock_value(past.until(DAY))
    demand = forecast(past, DAY)
    assert value > 0

    def capital(params: PlanningParams) -> float:
        return daily_problem(past, DAY, demand, params).capital

    assert capital(PlanningParams(capital_limit_frac=1.5)) == pytest.approx(0.5 * value)
    assert capital(PlanningParams(capital_limit=value + 3.0, capital_limit_frac=9.0)) == pytest.approx(3.0)
    assert capital(PlanningParams(capital_limit=value / 2)) == 0.0
    assert capital(PlanningParams(capital_limit_frac=0.5)) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_poison_after_the_day_changes_no_byte_of_the_plan(seed: int) -> None:
    """Prevents a plan that reads an offer, a sale or a stock count from after its day."""
    frames = shop(seed)
    past, future = history(frames), history(poisoned(frames, DAY, seed))
    demand, params = forecast(past, DAY), PlanningParams(capital_limit=1e4)
    one, two = (daily_problem(h, DAY, demand, params) for h in (past, future))
    assert one.skus == two.skus
    assert one.vendors == two.vendors
    for name in ("unit_price", "unit_cost", "holding_cost", "salvage_value", "inventory_position_units", "min_order_units", "pack_units"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
    assert (one.capital, one.demand.mean.tobytes()) == (two.capital, two.demand.mean.tobytes())
    assert allocate(one).lines.equals(allocate(two).lines)


def test_order_of_the_rows_changes_no_byte_of_the_problem() -> None:
    """Prevents a problem that depends on how the source sorted its tables."""
    frames = shop(3)
    past = history(frames)
    shuffled = history({name: frame.sample(fraction=1.0, shuffle=True, seed=5) for name, frame in frames.items()})
    demand, params = forecast(past, DAY), PlanningParams()
    one, two = (daily_problem(h, DAY, demand, params) for h in (past, shuffled))
    assert (one.skus, one.vendors, one.capital) == (two.skus, two.vendors, two.capital)
    assert one.unit_cost.tobytes() == two.unit_cost.tobytes()


def test_review_periods_of_forecast_and_plan_must_agree() -> None:
    """Prevents an order that covers another span than the one that was forecast."""
    past = history(shop(0))
    message = r"the forecast lacks \d windows?, first \(1, \d+\); forecast protection_windows\(history, review_period_days\)"
    with pytest.raises(AllocationError, match=message):
        daily_problem(past, DAY, forecast(past, DAY, review_period_days=5), PlanningParams(review_period_days=7))


def test_forecast_of_another_day_is_refused() -> None:
    """Prevents a plan on yesterday's forecast."""
    past = history(shop(0))
    eve = DAY - timedelta(days=1)
    with pytest.raises(AllocationError, match=f"forecast at the end of {eve}, the plan is for {DAY}; forecast at the plan's day"):
        daily_problem(past, DAY, forecast(past, eve), PlanningParams())


@pytest.mark.parametrize("table", ["vendors", "offers", "stock_daily"])
def test_absent_table_is_named(table: str) -> None:
    """Prevents an AttributeError where the shop has not mapped a table that only planning needs."""
    frames = shop(0)
    past = history(frames)
    changes: dict[str, Any] = {table: None}
    without = replace(past, **changes)
    with pytest.raises(AllocationError, match=f"table {table} is absent; an order plan needs vendors, offers and stock_daily. Map it"):
        daily_problem(without, DAY, forecast(past, DAY), PlanningParams())


def test_nothing_to_order_is_an_error() -> None:
    """Prevents an empty plan from being taken for the advice to order nothing."""
    frames = shop(0)
    for change in ({"in_stock": pl.lit(value=False)}, {"unit_cost": pl.lit(100.0)}):
        past = history(frames | {"offers": frames["offers"].with_columns(**change)})
        message = f"no vendor has stock of any of 12 SKUs below its list price at the end of {DAY}; check offers.in_stock, offers.unit_cost"
        with pytest.raises(AllocationError, match=message):
            daily_problem(past, DAY, forecast(past, DAY), PlanningParams())


def test_one_sku_dearer_than_its_price_does_not_stop_the_plan() -> None:
    """Prevents a single loss leader, whose left-over unit is worth more than a sold one, from refusing the whole shop's plan."""
    frames = shop(0)
    prices = pl.when(pl.col("sku") == "S00").then(0.01).otherwise(1000.0)
    past = history(frames | {"items": frames["items"].with_columns(list_price=prices)})
    problem = daily_problem(past, DAY, forecast(past, DAY), PlanningParams())
    assert "S00" in cheapest_offers(past.until(DAY))["sku"]
    assert problem.skus == tuple(sku for sku in cheapest_offers(past.until(DAY))["sku"] if sku != "S00")


def test_limit_prefers_money_over_the_share() -> None:
    """Prevents a capital limit in money that is silently scaled."""
    assert PlanningParams(capital_limit=10.0).limit(1e9) == 10.0
    assert PlanningParams().limit(100.0) == 125.0
    assert math.isinf(PlanningParams(capital_limit=math.inf).limit(1.0))
