"""The client's errors.

ClientError
 ├── ApiError       the service refused: its problem+json, with status, title and detail
 ├── Unreachable    no answer, or only 429 and 503, for longer than the client's patience
 ├── NotFinished    the inspection was accepted and goes on; it has not ended in the time given to `wait`, its picture
 │                  was not drawn in time, or the key may not read its result
 └── UnexpectedAnswer  what answers is no GLAD service, or one of a version that this client does not know
"""

from __future__ import annotations

import httpx

RETRIED_STATUS = frozenset({429, 502, 503, 504})
DIGEST_MISMATCH = "urn:glad:problem:digest-mismatch"


class ClientError(Exception):
    """Base of the client's errors."""


class ApiError(ClientError):
    """The service refused a request, by a problem+json (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str, type_: str = "about:blank") -> None:
        """Make the error of an answer.

        Args:
            status: of HTTP.
            title: what happened, the same words each time.
            detail: what was given, what is allowed, what to do.
            type_: a stable name for programs, such as `urn:glad:problem:unknown-product`.
        """
        self.status, self.title, self.detail, self.type = status, title, detail, type_
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")

    @property
    def may_pass(self) -> bool:
        """Whether the same request may fare better: the service is busy or away, or other bytes came than were sent."""
        return self.status in RETRIED_STATUS or self.type == DIGEST_MISMATCH


class Unreachable(ClientError):
    """The service gave no answer, or only 429 and 503, for longer than the client's patience."""


class NotFinished(ClientError):
    """The inspection goes on: it has not ended in the time given to `wait`, or the key may not read its result.

    Also: its picture was not drawn in time.
    """


class UnexpectedAnswer(ClientError):
    """The answer is not what the contract says: another program answers at this address, or another version."""


def problem_of(answer: httpx.Response) -> ApiError:
    """Return the error of a refusal whose body has been read: its problem+json, or whatever else it holds."""
    try:
        content = answer.json()
        kind = str(content.get("type", "about:blank"))
        return ApiError(answer.status_code, str(content["title"]), str(content.get("detail", "")), kind)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(answer.status_code, answer.reason_phrase, answer.text[:200])
