"""Progress of sweeps."""

import io

from rich.console import Console

from invpipe.sweep import progress_bar, progress_lines


def test_bar_shows_what_is_done() -> None:
    """Prevents a bar that stays at nothing."""
    out = io.StringIO()
    with progress_bar("sweep", Console(file=out, force_terminal=True, width=120)) as progress:
        progress(1, 4, "x=1")
        progress(4, 4, "x=4")
    assert "sweep" in out.getvalue()
    assert "4/4" in out.getvalue()
    assert "x=4" in out.getvalue()


def test_lines_are_said_now_and_then_and_at_the_end() -> None:
    """Prevents a log of thousands of lines, or one without the last."""
    said: list[str] = []
    line = progress_lines(said.append, every=2)
    for done in range(1, 6):
        line(done, 5, f"x={done}")
    assert said == ["2 of 5: x=2", "4 of 5: x=4", "5 of 5: x=5"]
