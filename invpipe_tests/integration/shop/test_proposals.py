"""Plans written back to MariaDB: whole days, as often as one likes, by a user of their own."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from invpipe.errors import SourceError
from invpipe.settings import write_settings
from invpipe.sources.databases.shop import DatabaseShop
from invpipe_tests.integration.shop.conftest import Home

DAY = date(2024, 4, 1)
TABLE = "invpipe_order_proposals"


def lines(*units: int) -> pl.DataFrame:
    keys = {"vendor": "v", "unit_cost": 1.25, "value_per_capital": 0.1}
    rows = [keys | {"sku": f"s{k}", "order_units": n, "order_value": 1.25 * n, "reason": f"é 'n' {n}"} for k, n in enumerate(units)]
    schema = {"sku": pl.String, "vendor": pl.String, "order_units": pl.Int64, "unit_cost": pl.Float64, "order_value": pl.Float64}
    return pl.DataFrame(rows, schema=schema | {"value_per_capital": pl.Float64, "reason": pl.String})


@pytest.fixture
def writer(home: Home, monkeypatch: pytest.MonkeyPatch) -> DatabaseShop:
    """A home whose proposals are written by a user that may."""
    server = home.databases.mariadb
    server.execute(
        f"DROP TABLE IF EXISTS {TABLE}; CREATE OR REPLACE USER writer@'127.0.0.1' IDENTIFIED BY 'wr1te';"
        f"GRANT CREATE, SELECT, INSERT, DELETE ON shop.{TABLE} TO writer@'127.0.0.1'"
    )
    monkeypatch.setenv("INVPIPE_PROPOSALS__PASSWORD", "wr1te")
    write_settings(home.path, proposals={"write": True, "user": "writer"}, extract={"retries": 0})
    return DatabaseShop(home.settings, print)


def stored(home: Home) -> list[str]:
    return home.databases.mariadb.execute(f"SELECT day, sku, order_units, reason FROM {TABLE} ORDER BY 1, 2").splitlines()


def test_a_day_is_replaced_and_no_other(home: Home, writer: DatabaseShop) -> None:
    """Prevents a repeated night from ordering twice, and one day from taking another's proposals away."""
    assert writer.write_proposals(DAY, lines(3, 4)) == 2
    assert writer.write_proposals(date(2024, 4, 2), lines(9)) == 1
    for _ in range(2):
        assert writer.write_proposals(DAY, lines(5)) == 1
    assert stored(home) == ["2024-04-01\ts0\t5\té 'n' 5", "2024-04-02\ts0\t9\té 'n' 9"]
    assert writer.write_proposals(DAY, lines()) == 0
    assert stored(home) == ["2024-04-02\ts0\t9\té 'n' 9"]


def test_half_a_plan_is_never_seen(home: Home, writer: DatabaseShop) -> None:
    """Prevents a failed write from leaving the day without its old plan: a unit too many for the column breaks the second line."""
    writer.write_proposals(DAY, lines(1, 2))
    with pytest.raises(SourceError, match=rf"table {TABLE}: MariaDB at .* refused it \(1264: Out of range value for column 'order_units'"):
        writer.write_proposals(DAY, lines(7, 2**40))
    assert stored(home) == ["2024-04-01\ts0\t1\té 'n' 1", "2024-04-01\ts1\t2\té 'n' 2"]


def test_a_user_that_may_not_write_is_told(home: Home, writer: DatabaseShop) -> None:
    """Prevents proposals that silently are not written."""
    write_settings(home.path, proposals={"user": ""})
    with pytest.raises(SourceError, match=rf"table {TABLE}: .*1142.*grant the user"):
        DatabaseShop(home.settings, print).write_proposals(DAY, lines(1))


def test_a_table_with_other_columns_is_refused(home: Home, writer: DatabaseShop) -> None:
    """Prevents another program's table of the same name from being emptied."""
    home.databases.mariadb.execute(f"CREATE TABLE {TABLE} (day DATE, note TEXT); INSERT INTO {TABLE} VALUES ('2024-04-01', 'mine')")
    with pytest.raises(SourceError, match=r"it exists with other columns, day, note: sku, .* are missing; name another table"):
        writer.write_proposals(DAY, lines(1))
    assert home.databases.mariadb.execute(f"SELECT note FROM {TABLE}") == "mine\n"


def test_the_plan_of_the_day_ends_in_the_table(home: Home, writer: DatabaseShop) -> None:
    """Prevents a plan that stays in the pipeline although the shop wants it written: through Dagster, twice."""
    write_settings(home.path, forecast={"window_days": [7], "daily_days": 7}, planning={"capital_limit": 100_000.0})
    first, last = home.days[0], home.days[-1]
    home.run("extract", first, last)
    home.run("validate_tables_again")
    home.run("weekly", last)
    for _ in range(2):
        said = home.run("plan", last)
    plan = pl.read_parquet(home.store.frame_path(("order_plan", last.isoformat())))
    assert len(plan) > 0
    assert any(f"order_proposals: {len(plan)} lines of {last} written to {TABLE}" in line for line in said)
    found = home.databases.mariadb.execute(f"SELECT COUNT(*), SUM(order_units) FROM {TABLE} WHERE day = '{last}'").split()
    assert [int(number) for number in found] == [len(plan), plan["order_units"].sum()]
