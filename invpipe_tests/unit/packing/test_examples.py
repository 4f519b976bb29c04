"""The examples in the docstrings."""

import doctest

from invpipe.packing import plan


def test_examples_run():
    """Prevents an example whose figures are no longer those of the code."""
    tried = doctest.testmod(plan)
    assert tried.attempted > 0
    assert tried.failed == 0
