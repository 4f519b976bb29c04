"""Contracts of the tables a shop hands over: columns, types, keys, bounds, and what happens to rows that break them."""

from invpipe.contracts.spans import spans_from_days, spans_from_stock
from invpipe.contracts.tables import CONTRACTS, OPTIONAL_TABLES, Contract
from invpipe.contracts.validate import QUARANTINE_SCHEMA, Validation, conform, validate_table, validate_tables

__all__ = [
    "CONTRACTS",
    "OPTIONAL_TABLES",
    "QUARANTINE_SCHEMA",
    "Contract",
    "Validation",
    "conform",
    "spans_from_days",
    "spans_from_stock",
    "validate_table",
    "validate_tables",
]
