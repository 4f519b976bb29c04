"""The shipped configuration of nginx, on a real nginx before the running UI."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from invpipe_tests.deployment import DEPLOY, environment
from invpipe_tests.integration.certificate import self_signed
from invpipe_tests.integration.cluster.conftest import process, program, wait_for
from invpipe_tests.integration.mongo_server import free_port
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.conftest import Servers

NAME = "dagster.example.com"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes it").decode(),
    "Sec-WebSocket-Protocol": "graphql-ws",
}
#: What nginx has beside the shipped file: no worker of another user, which may not read the test's directory, and files of its own.
MAIN = """
daemon off;
user {user};
pid {place}/pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/server.conf;
}}
"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes


def asked(connection: HTTPConnection, path: str, headers: Mapping[str, str]) -> Answer:
    """Ask for a path under the server's name."""
    with closing(connection):
        connection.request("GET", path, headers={"Host": NAME, **headers})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


@dataclass(frozen=True)
class Proxy:
    """A running nginx: its ports, its certificate, and a user of it."""

    plain: int
    secure: int
    certificate: Path
    password: str = field(repr=False)

    def ask(self, path: str, password: str | None = None, **headers: str) -> Answer:
        """Ask for a page, as alice where a password is given."""
        if password is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(f'alice:{password}'.encode()).decode()}"
        context = ssl.create_default_context(cafile=str(self.certificate))
        return asked(HTTPSConnection("127.0.0.1", self.secure, timeout=30, context=context), path, headers)


@pytest.fixture(scope="module")
def proxy(servers: Servers, home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """An nginx with the shipped file, in which only places are other ones."""
    place, password = tmp_path_factory.mktemp("nginx"), secrets.token_urlsafe(9)
    certificate, key = self_signed(place, NAME)
    hashed = subprocess.run(
        [program("openssl"), "passwd", "-6", "-stdin"], input=password, check=True, capture_output=True, text=True
    ).stdout
    (place / "users").write_text(f"alice:{hashed}")
    found = Proxy(free_port(), free_port(), certificate, password)
    text = (DEPLOY / "nginx.conf").read_text()
    for shipped, here in {
        "listen 80;": f"listen 127.0.0.1:{found.plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{found.secure} ssl;",
        f"/etc/ssl/certs/{NAME}.pem": str(certificate),
        f"/etc/ssl/private/{NAME}.key": str(key),
        "/etc/nginx/invpipe.htpasswd": str(place / "users"),
        "http://127.0.0.1:3000": servers.url,
        f"alias {environment()['INVPIPE_HOME']}/": f"alias {home.path}/",
    }.items():
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    (place / "server.conf").write_text(text)
    user = "root" if os.geteuid() == 0 else "nobody"  # who is not root keeps the own user, whatever stands there
    (place / "nginx.conf").write_text(MAIN.format(place=place, user=user))
    with process(place / "log", program("nginx"), "-p", str(place), "-c", str(place / "nginx.conf")):
        wait_for("nginx", lambda: answers(found.plain), place / "log")
        yield found


def answers(port: int) -> bool:
    """Say whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_nobody_passes_without_a_password(proxy: Proxy) -> None:
    """Prevents a UI, in which whoever comes may start and delete everything, or a page of it, open to the network."""
    for path in ("/", "/server_info", "/graphql", "/reports/", "/reports/2017-03-16.html"):
        assert proxy.ask(path).status == 401, path
        assert proxy.ask(path, "wrong").status == 401, path
    answer = asked(HTTPConnection("127.0.0.1", proxy.plain, timeout=30), "/graphql?query=x", {})
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{NAME}/graphql?query=x")


def test_ui_is_whole_behind_the_proxy(proxy: Proxy) -> None:
    """Prevents a UI whose pages stand still because the proxy lets no websocket through."""
    assert b"dagster_webserver_version" in proxy.ask("/server_info", proxy.password).body
    assert proxy.ask("/graphql", proxy.password, **UPGRADE).status == 101


def test_pages_and_nothing_else_of_the_home(proxy: Proxy, home: Home) -> None:
    """Prevents links of assets that the proxy does not know, a page that may run scripts, and a way from the pages to the settings."""
    pages = sorted((home.path / "exports" / "reports").rglob("*.html"))
    assert pages
    for page in pages:
        answer = proxy.ask(f"/reports/{page.relative_to(home.path / 'exports' / 'reports')}", proxy.password)
        assert (answer.status, answer.body) == (200, page.read_bytes())
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    secret = (home.path / "invpipe.toml").read_bytes()
    for path in ("/reports/../../invpipe.toml", "/reports../../invpipe.toml", "/reports/%2e%2e/%2e%2e/invpipe.toml"):
        assert secret not in proxy.ask(path, proxy.password).body, path
    assert proxy.ask("/reports/", proxy.password).status == 403, "no list of the files"
