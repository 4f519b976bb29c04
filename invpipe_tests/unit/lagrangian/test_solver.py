"""Setup of HiGHS: what it refuses is an error, what it is asked holds."""

import pytest

from invpipe.errors import SolverError
from invpipe.lagrangian.solver import new_solver


def test_refused_option_is_an_error():
    """Prevents a misspelt option, which HiGHS only prints, from being ignored."""
    with pytest.raises(SolverError, match=r"HiGHS refuses option tread = 1"):
        new_solver(tread=1)


def test_solver_is_quiet_and_on_one_thread():
    """Prevents results that depend on the machine's threads."""
    solver = new_solver(time_limit=float("inf"))
    assert solver.getOptionValue("threads")[1] == 1
    assert solver.getOptionValue("output_flag")[1] is False
    assert solver.getOptionValue("time_limit")[1] == float("inf")
