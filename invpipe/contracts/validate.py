"""Hold tables against their contracts: structure is an error, bad rows go to quarantine, counted by rule.

Order: (1) :func:`conform` checks that every column is there and has the wanted type, converting only where nothing can be lost;
(2) dataframely's `filter` takes out rows with nulls, values out of bounds and duplicate keys (all rows of a duplicate: which one is
right cannot be known); (3) rows that name an unknown SKU or vendor, lie after the as-of day, or overlap an earlier span are taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import dataframely as dy
import polars as pl

from invpipe.contracts.spans import SPAN_FAILURES, spans_from_days
from invpipe.contracts.tables import CONTRACTS, OPTIONAL_TABLES, Contract, OrderableDays
from invpipe.errors import ContractError

#: One row per quarantined row: the table, every rule it broke ("; "-joined), the row itself as JSON.
QUARANTINE_SCHEMA = {"table": pl.String, "rules": pl.String, "row_json": pl.String}

#: How many rows of a table failed which rule.
COUNT_SCHEMA = {"table": pl.String, "rule": pl.String, "failed_rows": pl.Int64, "total_rows": pl.Int64, "example": pl.String}


@dataclass(frozen=True)
class Validation:
    """Outcome of :func:`validate_tables`.

    Parameters
    ----------
    tables
        Good rows of every table given, sorted by key; `orderable_daily` in span form.
    quarantine
        Rows that broke a rule, columns of QUARANTINE_SCHEMA.
    counts
        Failed rows per table and rule, with an example, columns of COUNT_SCHEMA.
    failed_frac
        Share of each table's rows in quarantine, 0-1.
    """

    tables: dict[str, pl.DataFrame]
    quarantine: pl.DataFrame
    counts: pl.DataFrame
    failed_frac: dict[str, float]

    def raise_above(self, threshold_frac: float) -> None:
        """Raise a ContractError for the first table whose share of quarantined rows exceeds `threshold_frac`."""
        for table, frac in self.failed_frac.items():
            if frac > threshold_frac:
                worst = self.counts.filter(table=table).sort("failed_rows", "rule", descending=[True, False]).row(0, named=True)
                column = worst["rule"].split("|")[0]
                hint = CONTRACTS[table].hints.get(column, "Correct the rows at their source.")
                msg = (
                    f"{worst['failed_rows']:,} of {worst['total_rows']:,} rows of {table} break {_rule_text(table, worst['rule'])}, "
                    f"first {worst['example']}. {hint} (at most {threshold_frac:.2%} of rows may be quarantined)"
                )
                raise ContractError(msg)


def _rule_text(table: str, rule: str) -> str:
    """Return the rule in words, `sales_units > 0`, next to its name."""
    column, _, kind = rule.partition("|")
    fixed = {
        "primary_key": "the key is unique",
        "nullability": f"{column} is not null",
        "nan": f"{column} is a number",
        "inf": f"{column} is finite",
        "unknown_sku": "sku stands in items",
        "unknown_vendor": "vendor stands in vendors",
        "future": f"{column} is not in the future",
        "overlap": "spans of a SKU do not overlap",
        "before_from_day": "to_day >= from_day",
    }
    words = fixed.get(kind or column)
    if words is None:
        bound = getattr(CONTRACTS[table].schema.columns().get(column), kind, None)
        sign = {"min": ">=", "min_exclusive": ">", "max": "<=", "max_exclusive": "<", "min_length": "of a length >="}.get(kind, kind)
        words = f"{column} {sign} {bound}"
    return f"[{words}]"


_LOSSLESS: dict[type[pl.DataType], tuple[type[pl.DataType], ...]] = {
    pl.Int32: (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    pl.Float64: (pl.Float32, pl.Float64, pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.Int64),
    pl.String: (pl.String, pl.Categorical, pl.Enum),
    pl.Date: (pl.Date,),
    pl.Boolean: (pl.Boolean,),
    pl.Datetime: (pl.Datetime,),
}


def _advice(found: pl.DataType, wanted: pl.DataType) -> str:
    if isinstance(found, pl.Datetime) and found.time_zone is not None:
        local = ".dt.convert_time_zone(zone).dt.replace_time_zone(None)"
        return f"convert from {found.time_zone} to the shop's local time and drop the zone: {local}"
    if isinstance(found, pl.Datetime) and wanted == pl.Date:
        return "give the shop's local day: .dt.date()"
    return f"cast it where the table is read, to {wanted}"


def conform(frame: pl.DataFrame | pl.LazyFrame, schema: type[dy.Schema], table: str, source: str = "frame") -> pl.DataFrame:
    """Return the frame with exactly the columns and types of the schema, converting only where no value can change.

    Raises
    ------
    ContractError
        Where a column is missing, has a type that cannot be taken without loss, or a value does not fit; names source, table,
        column, what was found and what to do.
    """
    frame = frame.lazy().collect()
    where = f"{source}: table {table}"
    missing = [c for c in schema.column_names() if c not in frame.columns]
    if missing:
        msg = f"{where} lacks column {missing[0]!r} ({len(missing)} missing: {missing}); found {frame.columns}; add it or map it"
        raise ContractError(msg)
    casts = []
    for name, column in schema.columns().items():
        found, wanted = frame.schema[name], column.dtype
        if found == pl.Null:  # a column of nulls carries no type; the null rule decides
            casts.append(pl.col(name).cast(wanted))
            continue
        ok = type(found) in _LOSSLESS[type(wanted)]
        if isinstance(found, pl.Datetime) and found.time_zone is not None:
            ok = False
        if not ok:
            msg = f"{where}, column {name!r}: found {found}, wanted {wanted}; {_advice(found, wanted)}"
            raise ContractError(msg)
        if found != wanted:
            back = pl.col(name).cast(wanted, strict=False).cast(found, strict=False)
            changed = frame.select(name).filter(back.ne_missing(pl.col(name)))
            if len(changed):
                advice = "truncate them to microseconds" if isinstance(found, pl.Datetime) else "correct them at the source"
                msg = f"{where}, column {name!r}: {len(changed)} values do not fit {wanted}, first {changed.item(0, 0)}; {advice}"
                raise ContractError(msg)
            casts.append(pl.col(name).cast(wanted))
    return frame.with_columns(casts).select(schema.column_names())


def _example(row: Mapping[str, object], key: list[str], rule: str) -> str:
    column = rule.split("|")[0]
    shown = ", ".join(f"{k}={row[k]}" for k in key)
    return f"({shown})" if column in (*key, "primary_key") or column not in row else f"({shown}): {row[column]}"


class _Sieve:
    """Collects failures of one validation run."""

    def __init__(self) -> None:
        self.quarantine: list[pl.DataFrame] = []
        self.counts: list[dict[str, object]] = []
        self.failed: dict[str, int] = {}

    def _add(self, table: str, key: list[str], total: int, broken: pl.DataFrame, rules: list[str]) -> None:
        """Book `broken`: the rows plus one Boolean column per rule, true where the row breaks it."""
        for rule in rules:
            hit = broken.filter(pl.col(rule))
            if len(hit):
                self.counts.append(
                    {
                        "table": table,
                        "rule": rule,
                        "failed_rows": len(hit),
                        "total_rows": total,
                        "example": _example(hit.row(0, named=True), key, rule),
                    }
                )
        names = pl.concat_list(pl.when(rule).then(pl.lit(rule)) for rule in rules).list.drop_nulls().list.join("; ")
        values = [c for c in broken.columns if c not in rules]
        # floats as text: JSON has no word for nan and inf, and the operator must see which it was
        as_text = [pl.col(c).cast(pl.String) for c in values if broken.schema[c].is_float()]
        rows = broken.with_columns(names.alias("rules"), *as_text)
        self.quarantine.append(rows.select(pl.lit(table).alias("table"), "rules", pl.struct(values).struct.json_encode().alias("row_json")))
        self.failed[table] = self.failed.get(table, 0) + len(broken)

    def schema(self, table: str, frame: pl.DataFrame, schema: type[dy.Schema]) -> pl.DataFrame:
        """Return the rows that hold the schema's own rules."""
        key = schema.primary_key()
        total = len(frame)
        good, failure = schema.filter(frame)
        if len(good) < total:
            details = failure.details()
            rules = [c for c in details.columns if c not in frame.columns]
            broken = details.with_columns(pl.col(c).cast(pl.String) == "invalid" for c in rules)
            self._add(table, key, total, broken.with_columns(pl.col(rules).fill_null(value=False)), rules)
        return pl.DataFrame(good).sort(key)

    def rules(self, table: str, frame: pl.DataFrame, key: list[str], total: int, rules: dict[str, pl.Expr]) -> pl.DataFrame:
        """Return the rows no expression is true for."""
        if not rules:
            return frame
        marked = frame.with_columns(**rules)
        names = list(rules)
        bad = pl.any_horizontal(names)
        broken = marked.filter(bad)
        if len(broken):
            self._add(table, key, total, broken, names)
        return marked.filter(~bad).drop(names)


def _cross_rules(
    contract: Contract, frame: pl.DataFrame, skus: pl.Series | None, vendors: pl.Series | None, as_of: date
) -> dict[str, pl.Expr]:
    rules: dict[str, pl.Expr] = {}
    if skus is not None and "sku" in frame.columns:
        rules["sku|unknown_sku"] = ~pl.col("sku").is_in(skus.implode())
    if vendors is not None and "vendor" in frame.columns:
        rules["vendor|unknown_vendor"] = ~pl.col("vendor").is_in(vendors.implode())
    if contract.dated_by is not None:
        rules[f"{contract.dated_by}|future"] = pl.col(contract.dated_by).cast(pl.Date) > as_of
    return rules


def validate_tables(tables: Mapping[str, pl.DataFrame | pl.LazyFrame | None], *, as_of: date, source: str = "frame") -> Validation:
    """Hold all tables of a shop against their contracts.

    Parameters
    ----------
    tables
        Table name -> frame, names of CONTRACTS; optional tables may be None or absent. `orderable_daily` either as spans
        (sku, from_day, to_day) or as days (sku, day, orderable).
    as_of
        Last day the tables may speak of; later rows are quarantined as future.
    source
        Where the tables come from, for the messages.

    Raises
    ------
    ContractError
        Where a required table is absent or empty, a column is missing, or a type is wrong.
    """
    unknown = sorted(set(tables) - set(CONTRACTS))
    if unknown:
        msg = f"{source}: no contract for table {unknown[0]!r}; tables are {sorted(CONTRACTS)}"
        raise ContractError(msg)
    sieve = _Sieve()
    good: dict[str, pl.DataFrame] = {}
    totals: dict[str, int] = {}
    skus: pl.Series | None = None
    vendors: pl.Series | None = None
    for table in CONTRACTS:
        raw = tables.get(table)
        if raw is None:
            if table not in OPTIONAL_TABLES:
                msg = f"{source}: table {table} is absent; it is required (only {sorted(OPTIONAL_TABLES)} may be)"
                raise ContractError(msg)
            continue
        raw = raw.lazy().collect()
        if len(raw) == 0 and table not in OPTIONAL_TABLES:
            msg = f"{source}: table {table} is empty; there is nothing to plan. Check the query and its date range"
            raise ContractError(msg)
        totals[table] = len(raw)
        frame = _held(sieve, table, raw, skus, vendors, as_of, source)
        good[table] = frame
        if table == "items":
            skus = frame["sku"]
        if table == "vendors":
            vendors = frame["vendor"]
    return _validation(sieve, good, totals)


def validate_table(
    table: str, frame: pl.DataFrame, *, as_of: date, skus: pl.Series | None = None, vendors: pl.Series | None = None, source: str = "frame"
) -> Validation:
    """Hold one table against its contract; it may be empty.

    Parameters
    ----------
    table
        Name of the table.
    frame
        Its rows.
    as_of
        Last day the table may speak of.
    skus, vendors
        Keys that its rows may name; without them every key is known.
    source
        Where the table comes from, for the messages.

    Raises
    ------
    ContractError
        Where a column is missing, or a type is wrong.
    """
    sieve = _Sieve()
    good = _held(sieve, table, frame, skus, vendors, as_of, source)
    return _validation(sieve, {table: good}, {table: len(frame)})


def _held(
    sieve: _Sieve, table: str, raw: pl.DataFrame, skus: pl.Series | None, vendors: pl.Series | None, as_of: date, source: str
) -> pl.DataFrame:
    """Return the good rows of a table, `orderable_daily` as spans; book the others."""
    contract, schema = CONTRACTS[table], CONTRACTS[table].schema
    if table == "orderable_daily" and "orderable" in raw.columns:
        days = sieve.schema(table, conform(raw, OrderableDays, table, source), OrderableDays)
        day_rules = _cross_rules(Contract(OrderableDays, "day", {}), days, skus, None, as_of)
        return spans_from_days(sieve.rules(table, days, ["sku", "day"], len(raw), day_rules))
    frame = sieve.schema(table, conform(raw, schema, table, source), schema)
    rules = _cross_rules(contract, frame, skus if table != "items" else None, vendors if table != "vendors" else None, as_of)
    if table == "orderable_daily":
        rules |= SPAN_FAILURES
    return sieve.rules(table, frame, schema.primary_key(), len(raw), rules)


def _validation(sieve: _Sieve, good: dict[str, pl.DataFrame], totals: dict[str, int]) -> Validation:
    return Validation(
        tables=good,
        quarantine=pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *sieve.quarantine]),
        counts=pl.DataFrame(sieve.counts, schema=COUNT_SCHEMA, orient="row"),
        failed_frac={table: sieve.failed.get(table, 0) / max(total, 1) for table, total in totals.items()},
    )
