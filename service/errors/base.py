"""The base of what the service refuses: a status, a stable type, and words that help."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar

from service.problem_details import TYPE_PREFIX, FieldProblem, Problem


class ServiceError(Exception):
    """Base: `detail` says what was given, what is allowed and what to do."""

    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, errors: list[FieldProblem] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.errors, self.retry_after_s = detail, errors, retry_after_s

    @property
    def type(self) -> str:
        """The stable URI."""
        return TYPE_PREFIX + self.slug

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def problem(self, instance: str) -> Problem:
        """The body of the answer."""
        return Problem(
            type=self.type,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
        )
