"""The comparison of ways to the optimum runs, at a size that says nothing about speed."""

from __future__ import annotations

import pytest

from invpipe_tests.benchmarks import allocation_peers


def test_all_ways_find_one_optimum() -> None:
    """Prevents ratios between programmes of different problems, and a way that is dropped in silence."""
    found = allocation_peers.compare(skus=60, runs=1, seed=1)
    assert {"invpipe exact", "scipy linprog", "pulp", "linopy"} <= set(found)
    assert found["invpipe exact"][1] == 1.0
    assert all(figures is not None and figures[0] > 0 for figures in found.values())


def test_another_optimum_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a fast way that is fast because it solves something else."""
    monkeypatch.setattr(allocation_peers, "by_scipy", lambda model: 1.0)
    with pytest.raises(ValueError, match=r"scipy linprog finds 1.0, the exact method .*; they were given different problems"):
        allocation_peers.compare(skus=20, runs=1, seed=1)
