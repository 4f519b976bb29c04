"""Alerts: tell people outside Dagster that something failed, by webhook and e-mail."""

from invpipe.alerts.send import Alert, Sent, send

__all__ = ["Alert", "Sent", "send"]
