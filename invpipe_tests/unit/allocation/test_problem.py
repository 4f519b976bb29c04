"""AllocationProblem and AllocationParams refuse what no method could answer."""

from dataclasses import replace

import numpy as np
import pytest

from invpipe.allocation import AllocationParams, AllocationProblem, allocate
from invpipe.errors import AllocationError
from invpipe.forecast.law import CountLaw

GOOD = {
    "skus": ("A", "B", "C"),
    "vendors": ("V", "V", "W"),
    "unit_price": np.array([10.0, 20.0, 30.0]),
    "unit_cost": np.array([6.0, 12.0, 18.0]),
    "holding_cost": np.array([0.1, 0.2, 0.3]),
    "salvage_value": np.array([3.0, 6.0, 9.0]),
    "inventory_position_units": np.array([0, 1, 2]),
    "demand": CountLaw(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.inf, 2.0])),
    "capital": 100.0,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vendors": ("V", "V")}, r"3 skus, 2 vendors and 3 demand laws; give one of each per row"),
        ({"demand": CountLaw(np.ones(2), np.ones(2))}, r"3 skus, 3 vendors and 2 demand laws"),
        ({"skus": ("A", "B", "A")}, r"1 of 3 skus are repeated, first 'A'; choose one offer per SKU"),
        ({"capital": -1.0}, r"capital is -1.0; it must be >= 0"),
        ({"capital": np.nan}, r"capital is nan; it must be >= 0"),
        ({"unit_price": np.ones(2)}, r"unit_price has shape \(2,\); 3 SKUs need \(3,\)"),
        ({"unit_price": np.ones(1)}, r"unit_price has shape \(1,\); 3 SKUs need \(3,\)"),
        ({"unit_cost": np.array(["6", "7", "8"])}, r"unit_cost has type <U1; give numbers"),
        ({"inventory_position_units": np.array([0.0, 1.5, 2.0])}, r"inventory_position_units has type float64; give whole numbers"),
        ({"unit_cost": np.array([6.0, np.nan, np.inf])}, r"2 of 3 rows have unit_cost not finite, first 'B': nan"),
        ({"unit_price": np.array([10.0, -1.0, 30.0])}, r"1 of 3 rows have unit_price below 0, first 'B': -1.0"),
        ({"unit_cost": np.array([6.0, -2.0, 0.0])}, r"2 of 3 rows have unit_cost not above 0, first 'B': -2.0; leave out offers"),
        ({"holding_cost": np.array([0.1, 0.2, -0.3])}, r"1 of 3 rows have holding_cost below 0, first 'C': -0.3"),
        (
            {"salvage_value": np.array([3.0, 21.0, 9.0])},
            r"1 of 3 rows have salvage_value - holding_cost above unit_price, first 'B': 21.0 - 0.2 > 20.0; a left-over unit",
        ),
        (
            {"salvage_value": np.array([3.0, 13.0, 9.0])},
            r"1 of 3 rows have salvage_value - holding_cost not below unit_cost, first 'B': 13.0 - 0.2 >= 12.0; buying without limit",
        ),
        ({"inventory_position_units": np.array([0, -1, 2])}, r"1 of 3 rows have inventory_position_units below 0, first 'B': -1"),
        ({"min_order_units": np.array([1, 0, 1])}, r"1 of 3 rows have min_order_units below 1, first 'B': 0"),
        ({"pack_units": np.array([1, 1, -6])}, r"1 of 3 rows have pack_units below 1, first 'C': -6"),
        ({"vendor_min_order_value": np.array([0.0, 0.0, -5.0])}, r"1 of 3 rows have vendor_min_order_value below 0, first 'C': -5.0"),
        (
            {"vendor_min_order_value": np.array([50.0, 40.0, 0.0])},
            r"1 of 3 rows have vendor_min_order_value unlike other rows of the same vendor, first 'B': 40.0 v 50.0 of vendor 'V'",
        ),
        ({"median_units": np.ones(3)}, r"only one of median_units and upper_units is given"),
        ({"median_units": np.array([0.0, -1.0, 0.0]), "upper_units": np.ones(3)}, r"1 of 3 rows have median_units below 0, first 'B'"),
        (
            {"median_units": np.array([0.0, 3.0, 0.0]), "upper_units": np.ones(3)},
            r"1 of 3 rows have upper_units below median_units, first 'B': 1.0 < 3.0; sort the quantiles",
        ),
    ],
)
def test_malformed_problem_is_refused(changes, message):
    """Prevents a plan from numbers that mean nothing: each fault is named with its first SKU and its value."""
    with pytest.raises(AllocationError, match=message):
        AllocationProblem(**(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stockout_penalty_frac": -0.1}, r"stockout_penalty_frac is -0.1; it must be finite and >= 0"),
        ({"stockout_penalty_frac": np.inf}, r"stockout_penalty_frac is inf"),
        ({"median_tau": 0.95}, r"median_tau is 0.95, upper_tau is 0.9; give 0 < median_tau <= upper_tau < 1"),
        ({"upper_tau": 1.0}, r"upper_tau is 1.0"),
        ({"time_limit_seconds": 0.0}, r"time_limit_seconds is 0.0; it must be above 0"),
    ],
)
def test_malformed_params_are_refused(changes, message):
    """Prevents a solve with parameters out of their bounds."""
    with pytest.raises(AllocationError, match=message):
        AllocationParams(**changes)


def test_unknown_method_is_refused():
    """Prevents a misspelt method from falling back to another one."""
    with pytest.raises(AllocationError, match=r"method is 'simplex'; choose 'exact', 'lp', 'mip', 'lagrangian' or 'greedy'"):
        allocate(AllocationProblem(**GOOD), "simplex")


def test_price_below_cost_is_accepted_and_not_bought():
    """Prevents a clearance SKU from stopping the whole catalogue, and from being bought at a loss."""
    problem = AllocationProblem(**(GOOD | {"unit_price": np.array([5.0, 20.0, 30.0])}))
    for method in ("exact", "greedy"):
        assert allocate(problem, method).order_units[0] == 0


def test_defaults_count_for_all_rows_and_lots_are_whole_packs():
    """Prevents a minimum order that is no multiple of the pack from being ordered as it is."""
    problem = AllocationProblem(**GOOD)
    assert problem.first_lot_units.tolist() == [1, 1, 1]
    packed = replace(problem, min_order_units=np.array([5, 1, 4]), pack_units=np.array([3, 6, 2]))
    assert packed.first_lot_units.tolist() == [6, 6, 4]
    assert packed.floor_to_lots(np.array([5.9, 11.0, 7.0])).tolist() == [0, 6, 6]
    assert packed.next_lot_units(np.array([0, 6, 6])).tolist() == [6, 6, 2]
    assert packed.last_lot_units(np.array([0, 6, 6])).tolist() == [0, 6, 2]


def test_take_keeps_rows_together():
    """Prevents a sub-problem whose arrays are picked by different rows."""
    problem = AllocationProblem(**(GOOD | {"median_units": np.array([0.0, 1.0, 2.0]), "upper_units": np.array([1.0, 3.0, 5.0])}))
    part = problem.take(np.array([2, 0]))
    assert part.skus == ("C", "A")
    assert part.unit_cost.tolist() == [18.0, 6.0]
    assert part.demand.mean.tolist() == [3.0, 1.0]
    assert part.upper_units.tolist() == [5.0, 1.0]
    assert part.capital == problem.capital
