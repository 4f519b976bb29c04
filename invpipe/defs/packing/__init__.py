"""Dagster assets of the packing room."""
