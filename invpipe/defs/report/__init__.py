"""Dagster assets of the report room."""
