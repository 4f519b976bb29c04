"""Dagster assets of the allocation room."""
