"""Progress of a sweep: a bar for people, or lines for a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

#: Called with what is done, of how much in all, and what was the last.
Progress: TypeAlias = Callable[[int, int, str], object]


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[Progress]:
    """Give a progress that draws a bar with the time left, on stderr where no console is given."""
    columns = (TextColumn("{task.fields[title]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with RichProgress(*columns, TextColumn("{task.description}"), console=console or Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, title=title)

        def advance(done: int, total: int, last: str) -> None:
            bar.update(task, completed=done, total=total, description=last)

        yield advance


def progress_lines(say: Callable[[str], object], every: int = 1) -> Progress:
    """Return a progress that says a line at every `every`-th step and at the last one."""

    def line(done: int, total: int, last: str) -> None:
        if done % every == 0 or done == total:
            say(f"{done} of {total}: {last}")

    return line
