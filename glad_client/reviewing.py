"""The client's part for people who review images: `Client.reviews` and `AsyncClient.reviews`.

with Client("http://127.0.0.1:8000") as client:
    while (task := client.reviews.next("a.meier", product="bracket")) is not None:
        image = client.artifact(task.inspection.id, "image")
        client.reviews.answer(task, Decision.OK, by="a.meier")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from pydantic import RootModel

from glad_client.answers import Part
from glad_client.calls import ApiCalls, api_path, read_answer
from glad_client.fields import rfc3339
from glad_client.results import Decision, Disposition, DrawnRegion
from glad_client.retries import RequestStep, Steps
from glad_client.reviews import (
    ClaimRenewal,
    ReviewedInspection,
    ReviewPlan,
    ReviewPlanSettings,
    ReviewSummary,
    ReviewTask,
)

T = TypeVar("T")


class _Reviewed(RootModel[ReviewedInspection]):
    """The answer to a review, or to its withdrawal."""


@dataclass(frozen=True)
class ReviewCalls(ApiCalls):
    """The calls of people who review images."""

    def next(
        self,
        by: str,
        *,
        product: str | None,
        station: str | None,
        skip: Sequence[str],
        inspection_id: str | None,
        desk: str | None,
    ) -> Steps[ReviewTask | None]:
        """Get the next image; None if none waits."""
        given = _given(by=by, product=product, station=station, inspection=inspection_id, desk=desk)
        given["skip"] = list(skip)
        answer = yield from self.patience.send(RequestStep("POST", "/v1/reviews/next", {"json": given}))
        return None if answer.status_code == HTTPStatus.NO_CONTENT else read_answer(ReviewTask, answer)

    def answer(self, task: ReviewTask, fields: Mapping[str, Any]) -> Steps[ReviewedInspection]:
        """Send the decision on an image that was given."""
        path = f"{api_path('inspections', task.inspection.id)}/review"
        return (yield from self._send(_Reviewed, "POST", path, {"json": {**fields, "claim": task.claim}})).root

    def withdraw(self, inspection_id: str, by: str) -> Steps[ReviewedInspection]:
        """Withdraw the person's last review of an inspection."""
        path = f"{api_path('inspections', inspection_id)}/review"
        return (yield from self._send(_Reviewed, "DELETE", path, {"params": {"by": by}})).root

    def renew(self, claim: str) -> Steps[ClaimRenewal]:
        """Keep an image."""
        return (yield from self._send(ClaimRenewal, "POST", f"{api_path('reviews', 'claims', claim)}/renew", {}))

    def give_back(self, claim: str) -> Steps[None]:
        """Give an image back."""
        yield from self.patience.send(RequestStep("DELETE", api_path("reviews", "claims", claim), {}))

    def summary(self, product: str | None, since: datetime | None) -> Steps[ReviewSummary]:
        """Get what waits, and how people decided."""
        params = _given(product=product, since=None if since is None else rfc3339(since))
        return (yield from self._get(ReviewSummary, "/v1/reviews/summary", params))

    def plan(self, product: str) -> Steps[ReviewPlan]:
        """Get a product's review plan."""
        return (yield from self._get(ReviewPlan, f"{api_path('products', product)}/review-plan"))

    def set_plan(
        self, product: str, settings: ReviewPlanSettings, by: str | None, revision: int | None
    ) -> Steps[ReviewPlan]:
        """Set a product's review plan."""
        options = {
            "json": settings.model_dump(mode="json") | _given(by=by),
            "headers": {} if revision is None else {"If-Match": f'"{revision}"'},
        }
        return (yield from self._send(ReviewPlan, "PUT", f"{api_path('products', product)}/review-plan", options))

    def dispose(self, serial: str, disposition: Disposition | None, note: str | None, by: str | None) -> Steps[Part]:
        """Record what becomes of a part."""
        given = {"disposition": disposition} | _given(note=note, by=by)
        return (yield from self._send(Part, "PUT", f"{api_path('parts', serial)}/disposition", {"json": given}))


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class RunSteps(Protocol):
    """Takes the steps of a call and returns its value."""

    def __call__(self, steps: Steps[T], /) -> T: ...


class RunStepsAsync(Protocol):
    """As `RunSteps`, for asyncio."""

    async def __call__(self, steps: Steps[T], /) -> T: ...


class Reviewing:
    """Reviews images and disposes of parts. Errors are those of the client."""

    def __init__(self, run: RunSteps, calls: ReviewCalls) -> None:
        self._run, self._calls = run, calls

    def next(
        self,
        by: str,
        *,
        product: str | None = None,
        station: str | None = None,
        skip: Sequence[str] = (),
        inspection_id: str | None = None,
        desk: str | None = None,
    ) -> ReviewTask | None:
        """Return the next image that waits, which is this person's for two minutes; None if none waits.

        Args:
            by: who will judge.
            product: only of this one.
            station: only of this one.
            skip: ids of images that are put off.
            inspection_id: this image and no other, to decide on it again; None if it does not wait for this person.
            desk: where the person sits, letters, digits, - and _, such as "line-3-tablet". An image that they were
                given there before and that is not in `skip` is given again by a new claim, so that nothing is held in
                vain where a program was started anew. Who has several images at a time names them in `skip`.
        """
        return self._run(
            self._calls.next(by, product=product, station=station, skip=skip, inspection_id=inspection_id, desk=desk)
        )

    def answer(
        self,
        task: ReviewTask,
        decision: Decision,
        *,
        by: str,
        note: str | None = None,
        defect_code: str | None = None,
        regions: Sequence[DrawnRegion] | None = None,
    ) -> ReviewedInspection:
        """Send the decision on an image that `next` gave. A retry after a lost answer records it once.

        Args:
            task: what `next` returned.
            decision: `Decision.OK` or `Decision.DEFECT`.
            by: who judged, as for `next`.
            note: for people.
            defect_code: one of the product's review plan.
            regions: where the defect is: boxes x, y, width, height in pixels of the upright original.

        Raises:
            ApiError: 409 if the claim has ended.
        """
        fields = _given(decision=decision, by=by, note=note, defect_code=defect_code, regions=regions)
        return self._run(self._calls.answer(task, fields))

    def withdraw(self, inspection_id: str, *, by: str) -> ReviewedInspection:
        """Withdraw the person's last review of an inspection; the image is open again."""
        return self._run(self._calls.withdraw(inspection_id, by))

    def renew(self, claim: str) -> ClaimRenewal:
        """Keep an image for two minutes from now."""
        return self._run(self._calls.renew(claim))

    def give_back(self, claim: str) -> None:
        """Give an image back, so that somebody else may have it at once."""
        self._run(self._calls.give_back(claim))

    def summary(self, *, product: str | None = None, since: datetime | None = None) -> ReviewSummary:
        """Return how many images wait, and how people and service agree."""
        return self._run(self._calls.summary(product, since))

    def plan(self, product: str) -> ReviewPlan:
        """Return a product's review plan."""
        return self._run(self._calls.plan(product))

    def set_plan(
        self, product: str, settings: ReviewPlanSettings, *, by: str | None = None, revision: int | None = None
    ) -> ReviewPlan:
        """Set a product's review plan: what is left out gets its default.

        Args:
            product: its name.
            settings: the whole plan.
            by: who; None: the name of the API key.
            revision: change only if the plan is still at this one, as `plan` showed it.

        Raises:
            ApiError: 412 if it is not.
        """
        return self._run(self._calls.set_plan(product, settings, by, revision))

    def dispose(
        self, serial: str, disposition: Disposition | None, *, note: str | None = None, by: str | None = None
    ) -> Part:
        """Record what becomes of a part, and return the part; None takes back what was decided."""
        return self._run(self._calls.dispose(serial, disposition, note, by))


class AsyncReviewing:
    """As `Reviewing`, for asyncio."""

    def __init__(self, run: RunStepsAsync, calls: ReviewCalls) -> None:
        self._run, self._calls = run, calls

    async def next(
        self,
        by: str,
        *,
        product: str | None = None,
        station: str | None = None,
        skip: Sequence[str] = (),
        inspection_id: str | None = None,
        desk: str | None = None,
    ) -> ReviewTask | None:
        """As `Reviewing.next`."""
        return await self._run(
            self._calls.next(by, product=product, station=station, skip=skip, inspection_id=inspection_id, desk=desk)
        )

    async def answer(
        self,
        task: ReviewTask,
        decision: Decision,
        *,
        by: str,
        note: str | None = None,
        defect_code: str | None = None,
        regions: Sequence[DrawnRegion] | None = None,
    ) -> ReviewedInspection:
        """As `Reviewing.answer`."""
        fields = _given(decision=decision, by=by, note=note, defect_code=defect_code, regions=regions)
        return await self._run(self._calls.answer(task, fields))

    async def withdraw(self, inspection_id: str, *, by: str) -> ReviewedInspection:
        """As `Reviewing.withdraw`."""
        return await self._run(self._calls.withdraw(inspection_id, by))

    async def renew(self, claim: str) -> ClaimRenewal:
        """As `Reviewing.renew`."""
        return await self._run(self._calls.renew(claim))

    async def give_back(self, claim: str) -> None:
        """As `Reviewing.give_back`."""
        await self._run(self._calls.give_back(claim))

    async def summary(self, *, product: str | None = None, since: datetime | None = None) -> ReviewSummary:
        """As `Reviewing.summary`."""
        return await self._run(self._calls.summary(product, since))

    async def plan(self, product: str) -> ReviewPlan:
        """As `Reviewing.plan`."""
        return await self._run(self._calls.plan(product))

    async def set_plan(
        self, product: str, settings: ReviewPlanSettings, *, by: str | None = None, revision: int | None = None
    ) -> ReviewPlan:
        """As `Reviewing.set_plan`."""
        return await self._run(self._calls.set_plan(product, settings, by, revision))

    async def dispose(
        self, serial: str, disposition: Disposition | None, *, note: str | None = None, by: str | None = None
    ) -> Part:
        """As `Reviewing.dispose`."""
        return await self._run(self._calls.dispose(serial, disposition, note, by))
