"""Alive means that work was completed, or a claim answered, lately."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass

import pytest

from service.host.shutdown import Shutdown
from service.worker.heartbeat import Heartbeat


@dataclass
class Clock:
    """Moves when told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeat(clock: Clock) -> Heartbeat:
    return Heartbeat(stuck_after_s=60, clock=clock)


def test_an_idle_worker_lives_by_its_claims(heartbeat: Heartbeat, clock: Clock) -> None:
    clock.now = 59
    assert heartbeat.alive()
    clock.now = 61
    assert not heartbeat.alive()
    heartbeat.claim_answered()
    assert heartbeat.alive()


def test_a_worker_with_lanes_lives_by_its_steps_and_not_by_its_claims(heartbeat: Heartbeat, clock: Clock) -> None:
    heartbeat.step_completed(lanes=2)
    clock.now = 61
    heartbeat.claim_answered()
    assert not heartbeat.alive()
    heartbeat.step_completed(lanes=2)
    assert heartbeat.alive()


def test_when_the_last_lane_is_empty_claims_count_again(heartbeat: Heartbeat, clock: Clock) -> None:
    heartbeat.step_completed(lanes=1)
    heartbeat.lanes_emptied()
    clock.now = 61
    assert not heartbeat.alive()
    heartbeat.claim_answered()
    assert heartbeat.alive()


def test_it_is_ready_when_its_models_are_warm(heartbeat: Heartbeat) -> None:
    assert not heartbeat.ready()
    heartbeat.warm_up_finished()
    assert heartbeat.ready()


def test_it_is_no_longer_ready_but_alive_from_the_moment_it_is_asked_to_stop(clock: Clock) -> None:
    stop = Shutdown()
    heartbeat = Heartbeat(stuck_after_s=60, clock=clock, draining=stop.draining)
    heartbeat.warm_up_finished()
    stop.request()
    assert not heartbeat.ready()
    assert heartbeat.alive()


def test_asked_once_it_drains_asked_twice_it_hands_back() -> None:
    stop = Shutdown()
    assert not stop.draining()
    stop.request()
    assert stop.draining()
    assert not stop.must_stop_now()
    stop.request()
    assert stop.must_stop_now()


def test_what_is_not_finished_in_its_time_is_handed_back(clock: Clock) -> None:
    clock.now = 1000
    stop = Shutdown(drain_s=60, clock=clock)
    clock.now = 2000
    assert not stop.must_stop_now()
    stop.request()
    clock.now = 2059
    assert not stop.must_stop_now()
    clock.now = 2060
    assert stop.must_stop_now()


def test_a_signal_that_comes_while_its_own_thread_waits_wakes_it() -> None:
    stop = Shutdown()
    with stop.on_signals():
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        stop.wait(3600)
    assert stop.draining()
    assert not stop.must_stop_now()
