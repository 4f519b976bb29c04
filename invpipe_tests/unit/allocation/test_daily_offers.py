"""A day's problem with all usable offers: which are usable, what a plan of them says, and which method "auto" takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from invpipe.allocation import AllocationParams, DailyOffers, PlanningParams, allocate, daily_offers, expected_values
from invpipe.allocation import daily as daily_module
from invpipe_tests.unit.allocation.test_daily import DAY, LEAD_DAYS, forecast, offers_by_hand, shop
from invpipe_tests.unit.history.worlds import history

PARAMS = AllocationParams(mip_gap_frac=1e-6)


def offers_of(seed: int, n_sku: int = 12, least: float = 0.0, capital: float = 300.0) -> DailyOffers:
    """The offers of a random shop whose vendors all have the same minimum order value."""
    frames = shop(seed, n_sku)
    past = history(frames | {"vendors": frames["vendors"].with_columns(min_order_value=pl.lit(least))})
    return daily_offers(past, DAY, forecast(past, DAY), PlanningParams(capital_limit=1e5 + capital))


@pytest.mark.parametrize("seed", range(6))
def test_offers_are_those_no_slower_than_the_cheapest_below_the_list_price(seed: int) -> None:
    """Prevents an offer without stock, above the price or too late, a missing one, and a wrong cost, pack or vendor."""
    frames = shop(seed)
    past = history(frames)
    found = daily_offers(past, DAY, forecast(past, DAY), PlanningParams())
    prices = dict(frames["items"].select("sku", "list_price").iter_rows())
    wanted = set()
    for sku in frames["items"]["sku"]:
        in_stock = [(offer[0], vendor, *offer[2:]) for vendor, offer in offers_by_hand(frames, sku, DAY).items() if offer[1]]
        fastest = LEAD_DAYS[min(in_stock)[1]] if in_stock else 0
        wanted |= {(sku, *offer) for offer in in_stock if LEAD_DAYS[offer[1]] <= fastest and offer[0] < prices[sku]}
    problem = found.problem
    rows = zip(problem.offer_sku, problem.offer_vendor, problem.unit_cost, problem.min_order_units, problem.pack_units, strict=True)
    assert {(problem.skus[i], cost, problem.vendors[v], least, pack) for i, v, cost, least, pack in rows} == wanted
    assert problem.skus == found.cheapest.skus
    assert problem.capacity_limit[0] == found.cheapest.capital


@pytest.mark.parametrize("seed", range(6))
def test_units_are_worth_what_they_are_worth_in_the_exact_method(seed: int) -> None:
    """Prevents another worth of the same units: a plan of cheapest offers alone has the value of the exact method's terms."""
    found = offers_of(seed)
    exact = allocate(found.cheapest)
    units = np.zeros(len(found.problem), dtype=np.int64)
    first = found.problem.offer_start[:-1]
    units[first] = exact.order_units
    assert found.problem.unit_cost[first].tolist() == found.cheapest.unit_cost.tolist()
    assert found.problem.objective(units) == pytest.approx(float(expected_values(found.cheapest, exact.order_units).sum()))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [0.0, 60.0, 150.0])
def test_all_offers_earn_no_less_than_the_cheapest_with_vendors_deferred(seed: int, least: float) -> None:
    """Prevents a richer problem with a poorer plan, and a vendor below its minimum."""
    found = offers_of(seed, least=least)
    plan = found.plan("mip", PARAMS)
    assert plan.problem is found.problem
    assert plan.objective >= found.plan("exact", PARAMS).expected_value * (1 - 1e-5)
    assert plan.bound >= plan.objective
    spent = found.lines(plan).group_by("vendor").agg(pl.col("order_value").sum())["order_value"]
    assert (spent >= least - 1e-9).all()


def test_lines_have_the_same_columns_and_money_for_both_problems() -> None:
    """Prevents a report, a file or a table of proposals that only one kind of plan can fill."""
    found = offers_of(1, least=60.0)
    plans = [found.plan(method, PARAMS) for method in ("exact", "mip")]
    one, two = (found.lines(plan) for plan in plans)
    assert one.schema == two.schema
    for lines, plan in zip((one, two), plans, strict=True):
        assert len(lines) > 0
        assert lines["order_value"].sum() == pytest.approx(plan.order_value)
        assert lines["reason"].str.contains("raises? the position from").all()
        assert lines["value_per_capital"].is_sorted(descending=True)


def test_second_vendor_of_a_sku_goes_on_where_the_first_ended() -> None:
    """Prevents two lines of one SKU that both start at its stock, and count the same demand twice."""
    found = offers_of(2)
    problem = found.problem
    sku = int(np.flatnonzero(np.diff(problem.offer_start) > 1)[0])
    units = np.zeros(len(problem), dtype=np.int64)
    units[problem.offer_start[sku] : problem.offer_start[sku] + 2] = problem.first_lot_units[problem.offer_start[sku] :][:2]
    lines = found.lines(replace(found.plan("mip", PARAMS), order_units=units)).sort("unit_cost")
    assert lines["order_units"].to_list() == units[units > 0].tolist()
    assert lines["position_units"][0] == found.cheapest.inventory_position_units[sku]
    assert lines["position_units"][1] == lines["position_after_units"][0]


def test_auto_takes_the_exact_method_where_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents branch and bound where a sort is exact, a sort where vendors have minimums, and a model beyond memory."""
    one_vendor = shop(0)
    only = one_vendor["offers"].filter(pl.col("vendor") == "V0").with_columns(in_stock=pl.lit(value=True), unit_cost=pl.lit(1.0))
    past = history(one_vendor | {"offers": only, "vendors": one_vendor["vendors"].with_columns(min_order_value=pl.lit(0.0))})
    plain = daily_offers(past, DAY, forecast(past, DAY), PlanningParams())
    assert plain.is_plain
    assert plain.plan("auto", PARAMS).method == "exact"
    rich = offers_of(1, least=60.0)
    assert not rich.is_plain
    assert rich.plan("auto", PARAMS).method == "mip"
    monkeypatch.setattr(daily_module, "MOST_MIP_OFFERS", 1)
    assert rich.plan("auto", PARAMS).method == "lagrangian"
