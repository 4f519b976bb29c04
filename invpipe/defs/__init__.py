"""All Dagster code: assets, jobs, schedules, IO managers and provenance."""
