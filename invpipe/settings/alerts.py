"""Sections of the settings for the people who run the chain: who is told when something fails, what is caught up, what is kept."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from invpipe.settings.databases import Login, Port, Seconds
from invpipe.settings.sections import Days, Section

#: Dagster gives a sensor 60 s; all tries of both channels have to end before.
LONGEST_SENDING_S = 50.0

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
Occasion = Literal["run_failure", "failed_check", "stale_plan"]
Address = Annotated[str, Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$")]


class AlertSettings(Login):
    """Who is told that something failed; without a webhook and without a receiver of e-mail nobody is.

    Parameters
    ----------
    webhook_url, webhook_url_file
        Address of a webhook that takes JSON with a text, as Slack's do. It is a secret: whoever knows it may post. It comes from
        the environment, or from a file that only the user of the pipeline can read.
    email_to, email_from
        Receivers, and the sender they see.
    smtp_host, smtp_port, smtp_security
        Mail server; "starttls" encrypts after the greeting (port 587), "tls" from the start (port 465), "none" never.
    user, password, password_file
        Login at the mail server; without a user there is none. The password comes from the environment, or from a file.
    occasions
        What is told: "run_failure", "failed_check" (a blocking check that stopped a run), "stale_plan" (no plan at `operations.plan_by`).
    ui_url
        Address of the Dagster UI for links in the messages, "https://dagster.example.com"; empty for none.
    timeout_s
        Longest wait for an answer, seconds.
    retries, retry_wait_s
        How often a failed sending is tried again, and the wait before the first time, seconds; it doubles every time.
    """

    webhook_url: SecretStr | None = None
    webhook_url_file: Path | None = None
    email_to: tuple[Address, ...] = ()
    email_from: Address = "invpipe@localhost"
    smtp_host: str = "127.0.0.1"
    smtp_port: Port = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    occasions: tuple[Occasion, ...] = ("run_failure", "failed_check", "stale_plan")
    ui_url: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$")
    timeout_s: Seconds = 5
    retries: int = Field(default=2, ge=0)
    retry_wait_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def channels(self) -> int:
        """How many ways there are to tell somebody."""
        return int(self.webhook_url is not None or self.webhook_url_file is not None) + int(bool(self.email_to))

    def webhook(self) -> str:
        """Return the address of the webhook, empty without one.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is no address; the message does not show it.
        """
        if self.webhook_url_file is not None:
            url = self.webhook_url_file.read_text(encoding="utf-8").strip()
        else:
            url = "" if self.webhook_url is None else self.webhook_url.get_secret_value()
        if url:
            _check_address(url)
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.webhook_url is not None and self.webhook_url_file is not None:
            msg = "webhook_url and webhook_url_file are both set; keep one"
            raise ValueError(msg)
        if self.webhook_url is not None:
            _check_address(self.webhook_url.get_secret_value())
        if self.user and self.smtp_security == "none" and self.smtp_host not in LOCAL_HOSTS:
            msg = f'the password of {self.user!r} would cross the network in the clear; set smtp_security to "starttls" or "tls"'
            raise ValueError(msg)
        longest_s = 2 * ((self.retries + 1) * self.timeout_s + self.retry_wait_s * (2**self.retries - 1))
        if longest_s > LONGEST_SENDING_S:
            msg = f"all tries may take {longest_s:.0f} s, a sensor may send for {LONGEST_SENDING_S:.0f} s; lower timeout_s or retries"
            raise ValueError(msg)
        return self


def _check_address(url: str) -> None:
    """Raise a ValueError, which does not show it, for what is no address."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or any(sign.isspace() for sign in url):
        msg = "the webhook's address must be https://host/path, without a login in it"
        raise ValueError(msg) from None
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        msg = "the webhook's address is a secret and http:// sends it in the clear; use https://"
        raise ValueError(msg)


class OperationSettings(Section):
    """When a plan is due, what is caught up, what is kept.

    Parameters
    ----------
    plan_by
        Local time at which the plan of the day before has to be there; later it is stale and its day counts as missed.
    catch_up_days
        Missed days, counted from yesterday, that are planned later, oldest first; 0 never.
    catch_up_attempts
        How often a missed day is tried before the ones after it go on without it.
    keep_run_days
        `invpipe prune` deletes finished runs and their events after so many days.
    keep_artifact_days
        `invpipe prune` deletes the artifacts of days that lie so far back and that nothing reads any more: features, forecasts, plans.
    min_free_gib
        `invpipe doctor` warns where less disk space is free, GiB.
    """

    plan_by: time = time(7)
    catch_up_days: int = Field(default=7, ge=0, le=366)
    catch_up_attempts: int = Field(default=2, ge=1, le=10)
    keep_run_days: Days = 90
    keep_artifact_days: Days = 400
    min_free_gib: float = Field(default=5.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _after_midnight(self) -> Self:
        if self.plan_by.replace(second=0, microsecond=0) != self.plan_by or self.plan_by == time(0) or self.plan_by.tzinfo is not None:
            msg = f"plan_by is {self.plan_by}; give hour and minute after midnight in the shop's time zone, 07:00:00"
            raise ValueError(msg)
        return self
