"""What the shipped example of a deployment says, for the tests that follow it."""

from pathlib import Path

import invpipe

DEPLOY = Path(invpipe.__file__).parent / "examples" / "deploy"


def environment() -> dict[str, str]:
    """Return the variables of its environment file, with the place-holders of secrets."""
    lines = [line for line in (DEPLOY / "environment").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
