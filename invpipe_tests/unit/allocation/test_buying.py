"""Tables for the people who order: totals, order, and what has changed."""

import polars as pl

from invpipe.allocation.buying import BUYER_COLUMNS, CHANGE_COLUMNS, TOTAL, buyer_table, plan_changes, vendor_totals


def lines(*rows):
    """Order lines of (sku, vendor, units, unit cost, position, mean demand)."""
    columns = ("sku", "vendor", "order_units", "unit_cost", "position_units", "demand_mean_units")
    schema = {"sku": pl.String, "vendor": pl.String, "order_units": pl.Int64, "unit_cost": pl.Float64, "position_units": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema | {"demand_mean_units": pl.Float64}, orient="row").select(columns)
    return frame.with_columns(
        order_value=pl.col("order_units") * pl.col("unit_cost"),
        position_after_units=pl.col("position_units") + pl.col("order_units"),
        capital_price=pl.lit(0.5),
        reason=pl.format("because of {}", "sku"),
    )


TODAY = lines(("B", "V2", 3, 2.0, 0, 4.0), ("A", "V1", 1, 5.0, 1, 2.0), ("C", "V1", 2, 1.5, 0, 1.0))


def test_buyer_table_stands_by_vendor_with_totals() -> None:
    """Prevents a total over the wrong lines, or one that hides among them."""
    table = buyer_table(TODAY)
    assert table.columns == list(BUYER_COLUMNS)
    assert table.select("vendor", "sku", "order_units", "order_value").rows() == [
        ("V1", "A", 1, 5.0), ("V1", "C", 2, 3.0), ("V1", TOTAL, 3, 8.0), ("V2", "B", 3, 6.0), ("V2", TOTAL, 3, 6.0),
    ]  # fmt: skip
    assert table.filter(pl.col("sku") == TOTAL)["reason"].to_list() == ["2 lines", "1 line"]
    assert table.filter(pl.col("sku") == TOTAL)["unit_cost"].is_null().all()
    assert vendor_totals(TODAY).rows() == [("V1", 2, 3, 8.0), ("V2", 1, 3, 6.0)]
    assert buyer_table(TODAY.clear()).is_empty()


def test_changes_name_every_line_that_differs_and_why() -> None:
    """Prevents a change that is missed, units with the wrong sign, and a reason that is not the figure that moved."""
    before = lines(
        ("A", "V1", 1, 5.0, 1, 2.0),  # the same: no change
        ("B", "V2", 1, 2.0, 0, 2.5),  # more, demand rose
        ("D", "V1", 4, 1.0, 0, 3.0),  # gone, stock has come
        ("E", "V1", 2, 1.0, 0, 3.0),  # gone, no offer any more
        ("F", "V2", 2, 1.0, 3, 3.0),  # gone, nothing moved
    )
    known = lines(("D", "V1", 0, 1.0, 6, 3.0), ("F", "V2", 0, 1.0, 3, 3.0))
    offered = pl.concat([TODAY, known]).select("sku", "vendor", "demand_mean_units", "position_units", "unit_cost", "capital_price")
    found = plan_changes(before, TODAY, offered)
    assert found.columns == list(CHANGE_COLUMNS)
    assert found.select("vendor", "sku", "change", "units_difference", "value_difference").rows() == [
        ("V1", "C", "new", 2, 3.0), ("V1", "D", "gone", -4, -4.0), ("V1", "E", "gone", -2, -2.0),
        ("V2", "B", "more", 2, 4.0), ("V2", "F", "gone", -2, -2.0),
    ]  # fmt: skip
    assert found["reason"].to_list() == [
        "because of C",
        "position 0 to 6",
        "not offered any more at a usable price",
        "mean demand 2.5 to 4",
        "its money, or its vendor's minimum, went to other lines",
    ]
    assert found["value_difference"].sum() == TODAY["order_value"].sum() - before["order_value"].sum()


def test_equal_plans_have_no_changes_and_a_plan_after_nothing_is_new() -> None:
    """Prevents noise where nothing has changed, and lost lines on the first day."""
    offered = TODAY.select("sku", "vendor", "demand_mean_units", "position_units", "unit_cost", "capital_price")
    assert plan_changes(TODAY, TODAY, offered).is_empty()
    assert plan_changes(TODAY.clear(), TODAY, offered)["change"].to_list() == ["new"] * 3
    assert plan_changes(TODAY, TODAY.clear(), offered)["change"].to_list() == ["gone"] * 3
