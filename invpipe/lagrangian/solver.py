"""HiGHS as invpipe uses it: quiet, on one thread, so that results are the same on every run, and with every option's return checked."""

from __future__ import annotations

import highspy

from invpipe.errors import SolverError

Option = bool | int | float | str


def checked_option(solver: highspy.Highs, name: str, value: Option) -> None:
    """Set an option of HiGHS, which only prints where it does not know one.

    Raises
    ------
    SolverError
        Where HiGHS refuses.
    """
    if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
        msg = f"HiGHS refuses option {name} = {value!r}; check the installed version of highspy"
        raise SolverError(msg)


def new_solver(**options: Option) -> highspy.Highs:
    """Return a solver without a model, with the options; an infinite `time_limit` is none.

    Raises
    ------
    SolverError
        Where HiGHS refuses an option.
    """
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, value in {"output_flag": False, "threads": 1, **options}.items():
        checked_option(solver, name, value)
    return solver
