"""Dagster assets of the forecast room."""
