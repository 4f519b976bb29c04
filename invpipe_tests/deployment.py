"""What the shipped example of a deployment says, for the tests that follow it."""

import configparser
from pathlib import Path

import invpipe

DEPLOY = Path(invpipe.__file__).parent / "examples" / "deploy"


def environment() -> dict[str, str]:
    """Return the variables of its environment file, with the place-holders of secrets."""
    lines = [line for line in (DEPLOY / "environment").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def unit(name: str) -> configparser.ConfigParser:
    """Return a unit of systemd; a key that stands there twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((DEPLOY / name).read_text())
    return parser
