"""The settings of packing and the problem they become."""

import pytest
from pydantic import ValidationError

from invpipe.defs.packing.assets import comparison_table, packing_problem
from invpipe.defs.packing.checks import packing_faults
from invpipe.packing import capacity_use, compare_plans, pack, simulate_revenue
from invpipe.settings.packing import PackedItem, PackingSettings
from invpipe_tests.oracles.packing import food_cart


def test_default_is_the_food_cart():
    """Prevents a default whose figures differ from the published ones."""
    made, published = packing_problem(PackingSettings()), food_cart()
    assert (made.items, made.capacities) == (published.items, published.capacities)
    for name in ("unit_revenue", "unit_use", "capacity", "max_units"):
        assert getattr(made, name).tolist() == getattr(published, name).tolist()
    assert made.demand.mean.tolist() == published.demand.mean.tolist()
    assert made.demand.size.tolist() == published.demand.size.tolist()


def test_published_plan_is_compared_with_the_food_cart_only():
    """Prevents a plan of burgers beside somebody else's items."""
    assert PackingSettings().plans == {"published": {"burger": 572, "pizza": 355, "taco": 669}}
    other = (PackedItem(item="a", unit_revenue=1, mean_units=4, unit_use={}),)
    assert PackingSettings(items=other).plans == {}


def test_what_is_left_out_uses_nothing_and_has_no_limit():
    """Prevents capacities in another order than their uses, and a limit nobody set."""
    items = (
        PackedItem(item="a", unit_revenue=1, mean_units=4, size=2.0, unit_use={"weight": 2.0}),
        PackedItem(item="b", unit_revenue=2, mean_units=4, max_units=3, unit_use={"space": 1.0}),
    )
    made = packing_problem(PackingSettings(capacities={"space": 10, "weight": 7}, items=items))
    assert made.unit_use.tolist() == [[0.0, 2.0], [1.0, 0.0]]
    assert made.demand.size.tolist() == [2.0, float("inf")]
    assert pack(made).units.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"capacities": {"weight_g": 1.0}}, "item 'burger' uses 'fridge_cm3', which is no capacity; capacities are weight_g"),
        ({"compare": {"mine": {"salad": 1}}}, "plan 'mine' has units of 'salad', which is no item; items are burger, pizza, taco"),
        ({"items": (PackedItem(item="a", unit_revenue=1, mean_units=1, unit_use={}),) * 2, "compare": {}}, "items name 'a' more than once"),
        ({"runs": 1}, "greater than or equal to 2"),
        ({"capacities": {"weight_g": float("inf")}}, "finite number"),
    ],
)
def test_bad_sections_are_refused(given, message):
    """Prevents a misspelt name from passing as a use or a unit of nothing."""
    with pytest.raises(ValidationError, match=message):
        PackingSettings(**given)


def test_check_finds_overload_and_a_bound_that_is_none():
    """Prevents a blocking check that always passes, and a table that rounds the difference away."""
    problem = food_cart()
    plans = {"optimum": pack(problem).units}
    simulated = {"optimum": simulate_revenue(problem, plans["optimum"], 1000)}
    use = capacity_use(problem, plans)
    table = compare_plans(problem, plans, simulated, 2244.1965)
    assert packing_faults(table, use) == []
    assert comparison_table(table)["mean revenue"].to_list() == ["2,244.1964"]
    over = use.with_columns(available=use["available"] * 0.999)
    assert packing_faults(table, over) == ["weight_g: 1,000,000.0 of 999,000.0 used"]
    assert packing_faults(compare_plans(problem, plans, simulated, 2000.0), use) == [
        "plan 'optimum' earns more than the bound, by 1.22e-01"
    ]
