"""Sweeps: many variants of a policy on one tape, as a grid or by an Optuna study, and the frontier of capital and penalty."""

from __future__ import annotations

from invpipe.sweep.frontier import lambda_frontier
from invpipe.sweep.grid import MEASURED, run_sweep
from invpipe.sweep.progress import Progress, progress_bar, progress_lines
from invpipe.sweep.runs import RunStore
from invpipe.sweep.space import PolicyMaker, Space, Value, grid
from invpipe.sweep.study import tune

__all__ = [
    "MEASURED",
    "PolicyMaker",
    "Progress",
    "RunStore",
    "Space",
    "Value",
    "grid",
    "lambda_frontier",
    "progress_bar",
    "progress_lines",
    "run_sweep",
    "tune",
]
