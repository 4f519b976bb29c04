"""Receivers of alerts on this machine: a webhook and a mail server that keep what they get and answer as told."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass
class Receiver:
    """What a receiver got, and what it answers: one status after the other, the last one for ever."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    got: list[tuple[str, Any]] = field(default_factory=list)

    def next_answer(self, usual: int) -> int:
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]) if self.answers else usual


def served(server: socketserver.TCPServer, receiver: Receiver) -> Iterator[Receiver]:
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    """Serve a webhook."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((self.path, json.loads(body)))
            status = receiver.next_answer(200)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    yield from served(HTTPServer(("127.0.0.1", 0), Handler), receiver)


@contextmanager
def mail_receiver() -> Iterator[Receiver]:
    """Serve mail without encryption, taking any password."""
    receiver = Receiver()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "EHLO":
                    self.say("250-here\r\n250 AUTH PLAIN")
                elif word == "AUTH":
                    receiver.got.append(("AUTH", line))
                    self.say(f"{receiver.next_answer(235)} {line}")
                elif word == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(text)
                    receiver.got.append(("DATA", "\n".join(lines)))
                    self.say("250 taken")
                elif word == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    receiver.got.append((word, line.partition(":")[2]))
                    self.say(f"{receiver.next_answer(250) if word == 'RCPT' else 250} ok")

    class Server(socketserver.TCPServer):
        allow_reuse_address = True

    yield from served(Server(("127.0.0.1", 0), Handler), receiver)
