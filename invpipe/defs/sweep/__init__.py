"""Dagster assets of the room sweep."""
