"""Send one alert over every channel of the settings.

Order of events per channel: try, wait, try again with the wait doubled, at most ``1 + retries`` times. What will not get better is not
tried again: an answer 4xx of the webhook other than 408 and 429, an answer 5xx of the mail server, a file that cannot be read. A channel
that fails is told to the log; it neither raises nor keeps the other one from being tried.

No secret leaves with a message or a log line: every secret of the settings is blotted out of the text, the address of the webhook is never
part of a line, and of a server's answer only its number is told. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from invpipe.settings import Settings
from invpipe.settings.alerts import AlertSettings
from invpipe.settings.databases import Login

Log = Callable[[str], object]

#: Longest text of a message, characters: Slack cuts longer ones.
TEXT_CHARS = 3000
#: Answers of a webhook that a second try may change.
RETRIED_STATUS = frozenset({408, 429})
BLOT = "***"


@dataclass(frozen=True)
class Alert:
    """What is told.

    Parameters
    ----------
    title
        One line: what failed, for which day.
    text
        What happened and what to do, lines.
    """

    title: str
    text: str

    def without(self, secrets: list[str]) -> Alert:
        """Return the alert with secrets blotted out, its title on one line, its text cut to what receivers take."""
        title, text = self.title, self.text
        for secret in secrets:
            title, text = title.replace(secret, BLOT), text.replace(secret, BLOT)
        if len(text) > TEXT_CHARS:
            text = text[:TEXT_CHARS] + " ... (cut; the rest is in the Dagster UI)"
        return Alert(" ".join(title.split()), text)


@dataclass(frozen=True)
class Sent:
    """Channels that took the alert, and those that did not."""

    taken: tuple[str, ...]
    failed: tuple[str, ...]


class _PointlessError(Exception):
    """A second try would fail as well."""


def send(alert: Alert, settings: Settings, log: Log, wait: Callable[[float], object] = time.sleep) -> Sent:
    """Send an alert over every channel that is switched on; what fails is told to `log`, nothing is raised.

    Parameters
    ----------
    alert
        What is told.
    settings
        Of the home; `Settings.alerts` names the channels.
    log
        Takes one line per failed try and one per channel given up.
    wait
        Takes the seconds between two tries.
    """
    chosen = settings.alerts
    clean = alert.without(sorted(_secrets(settings), key=len, reverse=True))
    channels: dict[str, Callable[[], None]] = {}
    if chosen.webhook_url is not None or chosen.webhook_url_file is not None:
        channels["webhook"] = partial(_post, clean, chosen)
    if chosen.email_to:
        channels["e-mail"] = partial(_mail, clean, chosen)
    results = {name: _tried(name, channel, chosen, log, wait) for name, channel in channels.items()}
    return Sent(tuple(name for name, good in results.items() if good), tuple(name for name, good in results.items() if not good))


def _tried(name: str, channel: Callable[[], None], settings: AlertSettings, log: Log, wait: Callable[[float], object]) -> bool:
    """Try a channel until it takes the alert, a second try is pointless or the tries are used up."""
    for attempt in range(1 + settings.retries):
        try:
            channel()
        except (OSError, http.client.HTTPException, smtplib.SMTPException, _PointlessError, ValueError) as error:
            log(f"alert by {name}: try {attempt + 1} of {1 + settings.retries} failed: {_in_words(error)}")
            if _is_pointless(error):
                break
        else:
            return True
        if attempt < settings.retries:
            wait(settings.retry_wait_s * 2**attempt)
    log(f"alert by {name} was given up; look at [alerts] in the settings, and at the server")
    return False


def _in_words(error: Exception) -> str:
    """Return what went wrong, without anything a server or an address says."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = ", ".join(sorted({str(code) for code, _ in error.recipients.values()}))
        return f"the mail server refused {len(error.recipients)} receivers (answer {codes})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code} ({type(error).__name__})"
    if isinstance(error, _PointlessError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and not isinstance(error, smtplib.SMTPException):
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def _is_pointless(error: Exception) -> bool:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code >= 500
    return isinstance(error, _PointlessError | ValueError | ssl.SSLCertVerificationError | smtplib.SMTPNotSupportedError)


def _post(alert: Alert, settings: AlertSettings) -> None:
    try:
        parts = urlsplit(settings.webhook())
    except OSError as error:
        msg = f"webhook_url_file cannot be read: {error.strerror}"
        raise _PointlessError(msg) from None
    if not parts.hostname:
        msg = "webhook_url_file is empty"
        raise _PointlessError(msg)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=settings.timeout_s)
    try:
        body = json.dumps({"text": f"{alert.title}\n{alert.text}"})
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"Content-Type": "application/json; charset=utf-8"})
        status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        msg = f"the webhook answered {status}"
        if status < 500 and status not in RETRIED_STATUS:
            raise _PointlessError(msg)
        raise OSError(status, msg)


def _mail(alert: Alert, settings: AlertSettings) -> None:
    message = EmailMessage()
    message["Subject"] = alert.title
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message.set_content(alert.text + "\n")
    try:
        password = settings.secret()
    except OSError as error:
        msg = f"password_file cannot be read: {error.strerror}"
        raise _PointlessError(msg) from None
    with _mail_server(settings) as server:
        if settings.smtp_security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.user:
            server.login(settings.user, password)
        refused = server.send_message(message)
    if refused:
        msg = f"the mail server refused {len(refused)} of {len(settings.email_to)} receivers; the others have the message"
        raise _PointlessError(msg)


def _mail_server(settings: AlertSettings) -> smtplib.SMTP:
    host, port, timeout = settings.smtp_host, settings.smtp_port, settings.timeout_s
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=timeout, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=timeout)


def _secrets(settings: Settings) -> Iterator[str]:
    """Yield every secret of the settings, wherever it comes from; a file that cannot be read holds none that we could tell."""
    sections = [getattr(settings, name) for name in type(settings).model_fields]
    for section in (section for section in sections if isinstance(section, BaseModel)):
        values = [getattr(section, name) for name in type(section).model_fields]
        yield from (secret for value in values if isinstance(value, SecretStr) and (secret := value.get_secret_value()))
        if isinstance(section, Login):
            yield from _from_file(section.secret)
        if isinstance(section, AlertSettings):
            yield from _from_file(section.webhook)


def _from_file(read: Callable[[], str]) -> Iterator[str]:
    try:
        secret = read()
    except (OSError, ValueError):
        return
    if secret:
        yield secret
