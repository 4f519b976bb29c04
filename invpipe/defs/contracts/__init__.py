"""Dagster assets of the contracts room."""
