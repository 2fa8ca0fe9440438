"""After a call without an answer one caller asks, and the others are told at once."""

from __future__ import annotations

import pytest

from service.storage.bounded import REST_S, CircuitBreaker


def unanswered(silence: CircuitBreaker) -> None:
    with pytest.raises(TimeoutError, match="no answer"), silence.guard():
        raise TimeoutError("no answer")


def test_while_all_answer_any_number_may_ask_at_once() -> None:
    silence = CircuitBreaker()
    with silence.guard(), silence.guard():
        pass


def test_after_silence_nobody_asks_for_a_while_and_then_one_alone() -> None:
    now = [100.0]
    silence = CircuitBreaker(lambda: now[0])
    unanswered(silence)
    now[0] += REST_S - 0.1
    with pytest.raises(TimeoutError, match="did not answer lately"), silence.guard():
        pytest.fail("nobody asks yet")
    now[0] += 0.1
    with silence.guard(), pytest.raises(TimeoutError, match="did not answer lately"), silence.guard():
        pytest.fail("one asks already")
    with silence.guard(), silence.guard():  # it was answered
        pass


def test_a_refusal_is_an_answer() -> None:
    now = [100.0]
    silence = CircuitBreaker(lambda: now[0])
    unanswered(silence)
    now[0] += REST_S
    with pytest.raises(FileNotFoundError), silence.guard():
        raise FileNotFoundError
    with silence.guard(), silence.guard():
        pass


def test_an_answer_to_an_earlier_call_ends_no_silence() -> None:
    silence = CircuitBreaker()
    with silence.guard():
        unanswered(silence)
    with pytest.raises(TimeoutError, match="did not answer lately"), silence.guard():
        pytest.fail("nobody asks yet")


def test_one_that_asks_in_vain_begins_a_new_rest() -> None:
    now = [100.0]
    silence = CircuitBreaker(lambda: now[0])
    unanswered(silence)
    now[0] += REST_S
    unanswered(silence)
    with pytest.raises(TimeoutError, match="did not answer lately"), silence.guard():
        pytest.fail("nobody asks yet")
    now[0] += REST_S
    with silence.guard():
        pass
