"""Dagster assets of the sources room."""
