"""Dagster assets of the arena room."""
