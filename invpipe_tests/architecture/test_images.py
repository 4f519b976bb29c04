"""The pictures of the README: each is there, small, and made by a browser test."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
IMAGES = TOP / ".github" / "images"
#: Bytes of one picture and of all.
MOST_BYTES, MOST_BYTES_OF_ALL = 120_000, 500_000


def made_by_tests() -> set[str]:
    """File names of the pictures that the browser tests take."""
    sources = [path.read_text(encoding="utf-8") for path in (TOP / "invpipe_tests" / "ui").glob("test_*.py")]
    return {f"{name}.png" for source in sources for name in re.findall(r'\.picture\("([^"]+)"\)', source)}


def test_every_picture_of_the_readme_is_made_by_a_test() -> None:
    """Prevents pictures of pages that look different by now, and a README that shows a hole."""
    shown = set(re.findall(r"\.github/images/([^\s)\"']+)", (TOP / "README.md").read_text(encoding="utf-8")))
    there = {path.name for path in IMAGES.iterdir()}
    assert shown <= there
    assert there == made_by_tests()


def test_pictures_are_small() -> None:
    """Prevents a repository that swells each time the pictures are renewed."""
    sizes = {path.name: path.stat().st_size for path in IMAGES.iterdir()}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert sum(sizes.values()) <= MOST_BYTES_OF_ALL
