"""Dagster entry point: the definitions of the home that INVPIPE_HOME names."""

from invpipe.defs.build import build_definitions

defs = build_definitions()
