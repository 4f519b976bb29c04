"""Dagster assets of the grid room."""
