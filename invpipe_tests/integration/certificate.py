"""Certificates of throw-away servers."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(directory: Path, name: str) -> tuple[Path, Path]:
    """Return a certificate that is its own authority, for a name and 127.0.0.1, and its key, as files of the directory."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate, *names]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
