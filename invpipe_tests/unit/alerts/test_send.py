"""Sending alerts to receivers on this machine: what arrives, what is tried again, and that no secret gets out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invpipe.alerts import Alert, send
from invpipe.alerts.send import TEXT_CHARS
from invpipe.errors import SettingsError
from invpipe.settings import Settings
from invpipe.settings.alerts import AlertSettings
from invpipe_tests.receivers import Receiver, mail_receiver, webhook_receiver

PATH = "/services/T0/s3cretpath"
ALERT = Alert("daily of 2025-03-02 failed", "step plan_orders: no capital")


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    """A webhook."""
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[Receiver]:
    """A mail server."""
    with mail_receiver() as receiver:
        yield receiver


@pytest.fixture
def lines() -> list[str]:
    """The log."""
    return []


def with_webhook(receiver: Receiver, **more: Any) -> Settings:
    return Settings(alerts=AlertSettings(webhook_url=f"http://127.0.0.1:{receiver.port}{PATH}", **more))


def with_mail(receiver: Receiver, **more: Any) -> Settings:
    given = {"email_to": ("ops@example.com",), "smtp_port": receiver.port, "smtp_security": "none"} | more
    return Settings(alerts=AlertSettings(**given))


def test_webhook_gets_title_and_text_as_json(webhook: Receiver, lines: list[str]) -> None:
    """Prevents a body that Slack and its kin do not take."""
    assert send(ALERT, with_webhook(webhook), lines.append).taken == ("webhook",)
    assert webhook.got == [(PATH, {"text": f"{ALERT.title}\n{ALERT.text}"})]
    assert lines == []


def test_mail_reaches_every_receiver(mail: Receiver, lines: list[str]) -> None:
    """Prevents a mail without subject, or to the first receiver only."""
    receivers = ("ops@example.com", "night@example.com")
    assert send(Alert("plan\nmissing", "Größe"), with_mail(mail, email_to=receivers), lines.append).taken == ("e-mail",)
    assert [line for word, line in mail.got if word == "RCPT"] == [f"<{receiver}>" for receiver in receivers]
    (message,) = [text for word, text in mail.got if word == "DATA"]
    assert "Subject: plan missing" in message
    assert "To: ops@example.com, night@example.com" in message
    assert lines == []


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_busy_webhook_is_tried_again_with_doubled_waits(webhook: Receiver, lines: list[str], status: int) -> None:
    """Prevents an alert that is lost because the receiver hiccuped once."""
    webhook.answers, waits = [status, status, 200], []
    assert send(ALERT, with_webhook(webhook, retry_wait_s=0.5), lines.append, waits.append).taken == ("webhook",)
    assert (len(webhook.got), waits, len(lines)) == (3, [0.5, 1.0], 2)
    assert f"try 1 of 3 failed: OSError: the webhook answered {status}" in lines[0]


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (404, 1), (302, 1)])
def test_tries_are_bounded_and_a_failure_is_not_fatal(webhook: Receiver, lines: list[str], status: int, tries: int) -> None:
    """Prevents a sensor that tries for ever or dies, one that knocks again on a closed door, and one that carries alerts elsewhere."""
    webhook.answers = [status]
    sent = send(ALERT, with_webhook(webhook), lines.append, lambda _: None)
    assert (sent.taken, sent.failed) == ((), ("webhook",))
    assert [path for path, _ in webhook.got] == [PATH] * tries
    assert lines[-1].startswith("alert by webhook was given up")


def test_one_dead_channel_does_not_silence_the_other(webhook: Receiver, mail: Receiver, lines: list[str]) -> None:
    """Prevents a mistyped webhook from keeping the mail back."""
    settings = with_mail(mail, webhook_url="http://127.0.0.1:1/x")
    sent = send(ALERT, settings, lines.append, lambda _: None)
    assert (sent.taken, sent.failed) == (("e-mail",), ("webhook",))
    assert "Connection refused" in lines[0]


def test_mail_server_that_refuses_is_told_by_number(mail: Receiver, lines: list[str]) -> None:
    """Prevents a log that hides why nobody was told, and a second try at a receiver who does not exist."""
    mail.answers = [550]
    assert send(ALERT, with_mail(mail), lines.append, lambda _: None).failed == ("e-mail",)
    assert lines[0].endswith("try 1 of 3 failed: the mail server refused 1 receivers (answer 550)")
    assert len(lines) == 2


@pytest.mark.parametrize("status", [535, 454])
def test_password_is_used_and_never_logged(mail: Receiver, lines: list[str], status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Prevents the password in the log when the server refuses it - this one repeats it in its answer."""
    mail.answers = [status]
    settings = with_mail(mail, user="ops", password="s3cretword")
    assert send(ALERT, settings, lines.append, lambda _: None).failed == ("e-mail",)
    assert mail.got[0][0] == "AUTH"  # the server saw it
    everything = "\n".join([*lines, caplog.text, repr(settings)])
    assert f"the mail server answered {status}" in everything
    assert "s3cret" not in everything
    assert mail.got[0][1].split()[-1] not in everything  # nor in base64


@pytest.mark.parametrize("answers", [[500], [404], []])
def test_address_of_the_webhook_is_never_logged(
    webhook: Receiver, lines: list[str], answers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Prevents the secret part of a Slack address in a log that many read."""
    webhook.answers = answers
    settings = with_webhook(webhook) if answers else Settings(alerts=AlertSettings(webhook_url="http://127.0.0.1:1/s3cretpath"))
    send(ALERT, settings, lines.append, lambda _: None)
    assert lines
    assert "s3cret" not in "\n".join([*lines, caplog.text, repr(settings), settings.model_dump_json()])


def test_secrets_are_blotted_out_of_messages(webhook: Receiver, tmp_path: Path, lines: list[str]) -> None:
    """Prevents a database's password, from the environment or a file, from being posted with an error that quotes it."""
    (tmp_path / "word").write_text("fr0mfile\n")
    base = with_webhook(webhook)
    databases = {"mariadb": {"password": "s3cret"}, "mongodb": {"password_file": str(tmp_path / "word")}}
    settings = Settings(alerts=base.alerts, **databases)
    send(Alert("login s3cret", f"mongodb://me:fr0mfile@host and http://127.0.0.1:{webhook.port}{PATH}"), settings, lines.append)
    assert webhook.got[0][1] == {"text": "login ***\nmongodb://me:***@host and ***"}


def test_long_text_is_cut(webhook: Receiver, lines: list[str]) -> None:
    """Prevents a refused message because a traceback was too long."""
    send(Alert("t", "x" * (TEXT_CHARS + 1)), with_webhook(webhook), lines.append)
    assert len(webhook.got[0][1]["text"]) < TEXT_CHARS + 100
    assert webhook.got[0][1]["text"].endswith("(cut; the rest is in the Dagster UI)")


def test_address_and_password_come_from_files(webhook: Receiver, tmp_path: Path, lines: list[str]) -> None:
    """Prevents a newline at a file's end in the address, and a missing file that raises."""
    file = tmp_path / "address"
    settings = Settings(alerts=AlertSettings(webhook_url_file=file))
    assert send(ALERT, settings, lines.append).failed == ("webhook",)
    assert "webhook_url_file cannot be read: No such file or directory" in lines[0]
    file.write_text(f"http://127.0.0.1:{webhook.port}{PATH}\n")
    assert send(ALERT, settings, lines.append).taken == ("webhook",)
    assert webhook.got[0][0] == PATH


def test_nobody_is_told_without_a_channel(lines: list[str]) -> None:
    """Prevents an error in a shop that wants no alerts."""
    sent = send(ALERT, Settings(), lines.append)
    assert (sent.taken, sent.failed, lines) == ((), (), [])


# --- settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"webhook_url": "ftp://s3cret"}, "must be https://host/path"),
        ({"webhook_url": "https://me:s3cret@host/x"}, "without a login in it"),
        ({"webhook_url": "https://host:99999/s3cret"}, "must be https://host/path"),
        ({"webhook_url": "http://example.com/s3cret"}, "in the clear; use https://"),
        ({"webhook_url": "https://host/s3cret", "webhook_url_file": "f"}, "are both set; keep one"),
        ({"user": "ops", "smtp_security": "none", "smtp_host": "mail.example.com"}, "would cross the network in the clear"),
        ({"retries": 9}, r"all tries may take \d+ s, a sensor may send for 50 s; lower timeout_s or retries"),
        ({"email_to": ("ops@example.com, x",)}, "should match pattern"),
        ({"ui_url": "dagster"}, "should match pattern"),
    ],
)
def test_bad_settings_are_refused_without_showing_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], message: str
) -> None:
    """Prevents alerts that could never arrive, and a secret in the message that says so."""
    monkeypatch.setenv("INVPIPE_ALERTS", json.dumps(values))
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.load(tmp_path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["password", "webhook_url"])
def test_secret_in_the_file_is_refused(tmp_path: Path, name: str) -> None:
    """Prevents secrets in a file that is copied and committed."""
    (tmp_path / "invpipe.toml").write_text(f"[alerts]\n{name} = 's3cret'\n")
    with pytest.raises(SettingsError, match=rf"alerts\.{name} stands in .*, and set INVPIPE_ALERTS__{name.upper()} or") as caught:
        Settings.load(tmp_path)
    assert "s3cret" not in str(caught.value)


def test_alerts_and_operations_make_nothing_stale() -> None:
    """Prevents years of artifacts that are made again because a receiver of e-mail changed."""
    changed = Settings(alerts=AlertSettings(email_to=("a@b.c",)), operations={"catch_up_days": 3})
    assert changed.settings_hash() == Settings().settings_hash()
