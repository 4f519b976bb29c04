"""`invpipe check-sources` on real servers: what it prints, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from invpipe import cli
from invpipe.settings import write_settings
from invpipe_tests.integration.shop.conftest import Home


def check(home: Home, *more: str) -> int:
    return cli.main(["check-sources", "--home", str(home.path), "--day", home.days[-1].isoformat(), *more])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {table["table"]: table for table in json.loads(capsys.readouterr().out)["tables"]}


def test_a_good_shop_is_ok(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents figures that are not those of the databases."""
    assert check(home) == 0
    printed = capsys.readouterr().out
    assert printed.count("  ok\n") == 6
    assert "FAILED" not in printed
    assert "rows in all, from 2024-03-1" in printed
    assert check(home, "--json") == 0
    found = document(capsys)
    tables = home.databases.shop.tables
    assert list(found) == ["items", "vendors", "sales_daily", "stock_daily", "page_views_daily", "offers"]
    assert found["items"]["total_rows"] == len(tables.items)
    assert found["offers"]["total_rows"] == len(tables.offers)
    assert found["sales_daily"]["day_rows"] == len(tables.sales_daily.filter(day=tables.last_day))
    assert found["sales_daily"]["total_rows"] >= len(tables.sales_daily)  # lines, not yet added up
    assert found["sales_daily"]["first"].startswith(str(tables.first_day))
    assert all(table["load_seconds"] > 0 for table in found.values())


def test_bad_rows_are_shown_with_an_example(home: Home, restored: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a first full load that ends in quarantine."""
    sku, price = home.databases.shop.tables.items.select("sku", "list_price").row(0)
    restored(f"UPDATE products SET price = -1 WHERE sku = '{sku}'", f"UPDATE products SET price = {price} WHERE sku = '{sku}'")
    assert check(home) == 1
    printed = capsys.readouterr().out
    assert "items  (query of MariaDB)  BAD ROWS" in printed
    assert f"! 1 of 40 rows break list_price|min_exclusive, first (sku={sku}): -1.0" in printed


def test_a_table_that_cannot_be_read_does_not_hide_the_others(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents an operator from mending one error per run."""
    write_settings(
        home.path,
        tables={"stock_daily": {"sql": "SELECT sku FROM nowhere WHERE :start < :end"}},
        mongodb={"port": 1, "connect_timeout_s": 0.5},
    )
    assert check(home) == 1
    printed = capsys.readouterr().out
    assert "stock_daily  (query of MariaDB)  FAILED\n    table stock_daily: " in printed
    assert "1146" in printed
    assert "offers  (collection vendor_offers of MongoDB)  FAILED\n    MongoDB at 127.0.0.1:1 is absent" in printed
    assert printed.count("  ok\n") == 4


def test_no_password_is_printed(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a secret on a screen or in a ticket."""
    monkeypatch.setenv("INVPIPE_MARIADB__PASSWORD", "wr0ng-one")
    assert check(home) == 1
    printed = capsys.readouterr()
    assert "correct user and password" in printed.out
    assert "wr0ng-one" not in printed.out + printed.err
