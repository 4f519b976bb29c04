"""Sweeps: many variants of a policy on one tape, as a grid or by an Optuna study, and the frontier of capital and penalty."""

from __future__ import annotations

from invpipe.sweep.frontier import lambda_frontier
from invpipe.sweep.grid import MEASURED, run_sweep
from invpipe.sweep.named import PARAMETERS, named_distributions, named_space, parameters_of, policy_maker
from invpipe.sweep.progress import Progress, progress_bar, progress_lines
from invpipe.sweep.runs import RunStore
from invpipe.sweep.space import PolicyMaker, Space, Value, grid
from invpipe.sweep.study import tune

__all__ = [
    "MEASURED",
    "PARAMETERS",
    "PolicyMaker",
    "Progress",
    "RunStore",
    "Space",
    "Value",
    "grid",
    "lambda_frontier",
    "named_distributions",
    "named_space",
    "parameters_of",
    "policy_maker",
    "progress_bar",
    "progress_lines",
    "run_sweep",
    "tune",
]
