"""A call in a process of its own says what became of it."""

from __future__ import annotations

import os
import time
from functools import partial

import pytest

from bench.support.child_call import in_child


def test_a_measurement_that_takes_too_long_or_is_ended_by_the_system_is_told() -> None:
    with pytest.raises(TimeoutError, match="give more --minutes"):
        in_child(partial(time.sleep, 600), 0.1)
    with pytest.raises(ChildProcessError, match="for want of memory"):
        in_child(partial(os._exit, 9), 120)
    with pytest.raises(ChildProcessError, match="ZeroDivisionError"):
        in_child(partial(divmod, 1, 0), 120)
