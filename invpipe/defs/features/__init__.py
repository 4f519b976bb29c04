"""Dagster assets of the features room."""
