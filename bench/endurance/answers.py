"""The answers that cameras get while the service is restarted under them, and which of them may be errors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from glad_client.client import Client
from glad_client.retries import PauseStep, RequestStep, StepResult

Absences = Mapping[str, Sequence[tuple[float, float]]]
"""Address of a process -> from when to when it was away, by time.monotonic."""


@dataclass(frozen=True)
class CameraAnswer:
    """The answer to one request."""

    address: str
    began: float
    ended: float
    status: int | None
    """None: refused, or cut."""
    retry_after: bool
    error: str = ""

    def within(self, absences: Sequence[tuple[float, float]]) -> bool:
        """Return whether any part of the request falls into one of these absences."""
        return any(self.began <= back and self.ended >= gone for gone, back in absences)


class NotingCamera(Client):
    """The client, with a note of every answer. It knows several addresses of the service, and takes the next where one
    refuses.
    """

    def __init__(self, addresses: Sequence[str], notes: list[CameraAnswer], *, api_key: str, patience_s: float) -> None:
        super().__init__(addresses[0], api_key=api_key, patience_s=patience_s)
        self._addresses, self._notes = itertools.cycle(addresses), notes
        self._address = next(self._addresses)

    def _step(self, step: RequestStep | PauseStep) -> StepResult:
        began, outcome = time.monotonic(), super()._step(step)
        if isinstance(outcome, httpx.Response):
            self._note(began, outcome.status_code, retry_after="Retry-After" in outcome.headers)
        elif outcome is not None:
            self._note(began, None, error=repr(outcome))
            self._address = next(self._addresses)
            self._http.base_url = self._address
        return outcome

    def _note(self, began: float, status: int | None, *, retry_after: bool = False, error: str = "") -> None:
        self._notes.append(CameraAnswer(self._address, began, time.monotonic(), status, retry_after, error))


def unexpected(answers: Sequence[CameraAnswer], absences: Absences, redis: str) -> list[CameraAnswer]:
    """Return the answers that no absence explains.

    A process that is away may refuse or cut a request; while Redis is away, a 503 with Retry-After is expected.
    """
    return [one for one in answers if not _explained(one, absences, redis)]


def _explained(answer: CameraAnswer, absences: Absences, redis: str) -> bool:
    match answer.status:
        case None:
            return answer.within(absences.get(answer.address, ()))
        case 503:
            return answer.retry_after and answer.within(absences.get(redis, ()))
        case status:
            return 200 <= status < 300
