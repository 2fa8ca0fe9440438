"""The calls of the REST interface, each as a generator of steps: what to send, and what the answer means."""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from glad_client.answers import (
    InspectionPage,
    Part,
    ProductView,
    Readiness,
    SessionView,
    StationHistory,
    StationList,
    StationSettings,
    StationView,
    ThresholdsView,
)
from glad_client.errors import ApiError, NotFinished, UnexpectedAnswer, Unreachable, problem_of
from glad_client.evaluations import EvaluationList, EvaluationView
from glad_client.fields import LONGEST_WAIT_S, ArtifactName, Message, ScreenPictureName, rfc3339
from glad_client.limit_samples import LimitSample, LimitSamplesView
from glad_client.part_statistics import ShiftList, Statistics
from glad_client.product_answers import GateDistribution, GateLimitsView, ProductChanges, ScoreDistribution
from glad_client.results import Decision, Result
from glad_client.retries import Patience, PauseStep, RequestStep, Steps, pause_s

HISTORY_PAGE = 500
Image = bytes | PathLike[str] | str
"""The bytes of an image file, or its path."""
M = TypeVar("M", bound=BaseModel)


class _ProductName(Message):
    product: str


class _ProductNames(Message):
    """As much of `ProductList` as every version of the service sends."""

    products: tuple[_ProductName, ...]


@dataclass(frozen=True)
class ApiCalls:
    """The calls to one service."""

    patience: Patience
    timeout_s: float
    """How long one attempt waits for bytes."""

    def submit(
        self, address: str, image: bytes, idempotency_key: str | None, wait_s: int, fields: Mapping[str, str] | None
    ) -> Steps[Result]:
        """Submit an image; every attempt has the same key, so a retry never makes a second inspection.

        Args:
            address: the result of `submission_path`.
        """
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise ValueError(
                f"wait_s is {wait_s}; it must be 0 to {LONGEST_WAIT_S}: use inspect() or wait() for longer"
            )
        headers = {
            "Idempotency-Key": idempotency_key or str(uuid.uuid4()),
            "Content-Type": "application/octet-stream",
            "Content-Digest": f"sha-256=:{b64encode(sha256(image).digest()).decode()}:",
        }
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        options = {
            "content": image,
            "headers": headers,
            "params": dict(fields or {}),
            "timeout": self.timeout_s + wait_s,
        }
        return read_answer(
            Result, (yield from self.patience.send(RequestStep("POST", f"{address}/inspections", options)))
        )

    def inspect(
        self, address: str, image: bytes, idempotency_key: str | None, seconds: float, fields: Mapping[str, str] | None
    ) -> Steps[Result]:
        """Submit an image and get its inspection until it has ended."""
        deadline = time.monotonic() + seconds
        held_s = max(0, min(int(seconds), LONGEST_WAIT_S))
        inspection = yield from self.submit(address, image, idempotency_key, held_s, fields)
        if inspection.state.final:
            return inspection
        return (yield from self.await_submitted(inspection, max(0.0, deadline - time.monotonic())))

    def await_submitted(self, inspection: Result, seconds: float) -> Steps[Result]:
        """Get an inspection that was just submitted until it has ended.

        Raises:
            NotFinished: also if the key may submit, but not read: the image was accepted, and goes on.
        """
        try:
            return (yield from self.wait(inspection.id, seconds, 0.25))
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            raise NotFinished(
                f"inspection {inspection.id} was accepted and goes on, but this API key may not ask for its result: "
                f"use a key with the scopes submit and read ({error.detail})"
            ) from error

    def get(self, inspection_id: str) -> Steps[Result]:
        """Get the inspection in its current state."""
        return (yield from self._get(Result, api_path("inspections", inspection_id)))

    def wait(self, inspection_id: str, seconds: float, every_s: float) -> Steps[Result]:
        """Get the inspection again and again until it has ended."""
        deadline = time.monotonic() + seconds
        while not (inspection := (yield from self.get(inspection_id))).state.final:
            if time.monotonic() >= deadline:
                raise NotFinished(f"inspection {inspection_id} is {inspection.state} after {seconds:g} s: wait longer")
            yield PauseStep(min(every_s, max(0.0, deadline - time.monotonic())))
        return inspection

    def artifact(self, inspection_id: str, name: ArtifactName | ScreenPictureName) -> Steps[bytes]:
        """Get one picture of an inspection, or its anomaly map; wait for one that has to be drawn."""
        deadline = time.monotonic() + self.patience.patience_s
        while True:
            answer = yield from self.patience.send(RequestStep("GET", api_path("inspections", inspection_id, name)))
            if answer.status_code != HTTPStatus.ACCEPTED:
                return answer.content
            pause = pause_s(answer, 1)  # it is drawn by a worker that has no image waiting
            if time.monotonic() + pause > deadline:
                raise NotFinished(
                    f"{name} of {inspection_id} was not drawn in {self.patience.patience_s:g} s: ask again later"
                )
            yield PauseStep(pause)

    def review(
        self, inspection_id: str, decision: Decision, by: str, note: str | None, defect_code: str | None
    ) -> Steps[Result]:
        """Add an operator's decision to an ended inspection."""
        fields = {"decision": decision, "by": by, "note": note, "defect_code": defect_code}
        given = {name: value for name, value in fields.items() if value is not None}
        return (
            yield from self._send(Result, "POST", f"{api_path('inspections', inspection_id)}/review", {"json": given})
        )

    def history_page(self, after: str | None, limit: int, filters: Mapping[str, str] | None) -> Steps[InspectionPage]:
        """Get one page of ended inspections after the cursor."""
        params = {**(filters or {}), "limit": str(limit), **({} if after is None else {"after": after})}
        return (yield from self._get(InspectionPage, "/v1/inspections", params))

    def part(self, serial: str, expected_views: Sequence[str]) -> Steps[Part]:
        """Get the verdict of a part that is seen from several sides."""
        return (yield from self._get(Part, api_path("parts", serial), {"expected_view": list(expected_views)}))

    def statistics(
        self, since: datetime | None, until: datetime | None, product: str | None, station: str | None
    ) -> Steps[Statistics]:
        """Get the parts of a time span, counted."""
        given = {"since": since and rfc3339(since), "until": until and rfc3339(until)}
        params = given | {"product": product, "station": station}
        return (
            yield from self._get(
                Statistics, "/v1/statistics", {name: value for name, value in params.items() if value is not None}
            )
        )

    def shifts(self, count: int) -> Steps[ShiftList]:
        """Get the latest shifts."""
        return (yield from self._get(ShiftList, "/v1/shifts", {"count": count}))

    def products(self) -> Steps[tuple[str, ...]]:
        """Get the names of all products."""
        return tuple(one.product for one in (yield from self._get(_ProductNames, "/v1/products")).products)

    def product(self, name: str) -> Steps[ProductView]:
        """Get a product's versions, thresholds and quality gate."""
        return (yield from self._get(ProductView, api_path("products", name)))

    def change_thresholds(
        self,
        product: str,
        changes: Mapping[str, float | None],
        *,
        version: str | None,
        by: str | None,
        preview: bool,
        last: int,
        revision: int | None,
        note: str | None = None,
    ) -> Steps[ThresholdsView]:
        """Change a version's thresholds, or show what a change would do."""
        given = _given(version=version, by=by, note=note)
        options = {
            "json": {**changes, **given},
            "params": {"preview": str(preview).lower(), "last": str(last)},
            "headers": {} if revision is None else {"If-Match": f'"{revision}"'},
        }
        return (yield from self._send(ThresholdsView, "PATCH", f"{api_path('products', product)}/thresholds", options))

    def scores(self, product: str, version: str | None, last: int) -> Steps[ScoreDistribution]:
        """Get how the scores of a version's last inspections lie."""
        params = _given(version=version, last=str(last))
        return (yield from self._get(ScoreDistribution, f"{api_path('products', product)}/scores", params))

    def gate(self, product: str, version: str | None, last: int) -> Steps[GateDistribution]:
        """Get a version's quality gate, and how its measures lie."""
        params = _given(version=version, last=str(last))
        return (yield from self._get(GateDistribution, f"{api_path('products', product)}/gate", params))

    def change_gate_limits(
        self,
        product: str,
        limits: Mapping[str, float | None],
        *,
        version: str | None,
        by: str | None,
        note: str | None,
        preview: bool,
        last: int,
        revision: int | None,
    ) -> Steps[GateLimitsView]:
        """Change limits of a version's quality gate, or show what a change would do."""
        options = {
            "json": {"limits": dict(limits), **_given(version=version, by=by, note=note)},
            "params": {"preview": str(preview).lower(), "last": str(last)},
            "headers": {} if revision is None else {"If-Match": f'"{revision}"'},
        }
        return (yield from self._send(GateLimitsView, "PATCH", f"{api_path('products', product)}/gate", options))

    def product_changes(self, product: str) -> Steps[ProductChanges]:
        """Get who changed what of a product and when."""
        return (yield from self._get(ProductChanges, f"{api_path('products', product)}/changes"))

    def evaluations(self, product: str, version: str) -> Steps[EvaluationList]:
        """Get what was measured of a version."""
        return (yield from self._get(EvaluationList, _evaluations_path(product, version)))

    def record_evaluation(
        self, product: str, version: str, record: Mapping[str, Any], by: str | None, note: str | None
    ) -> Steps[EvaluationView]:
        """Record what was measured of a version."""
        body = {**record, **_given(by=by, note=note)}
        return (yield from self._send(EvaluationView, "POST", _evaluations_path(product, version), {"json": body}))

    def remove_evaluation(self, product: str, version: str, evaluation: str, by: str | None) -> Steps[None]:
        """Remove an evaluation of a version."""
        path = _evaluations_path(product, version, evaluation)
        yield from self.patience.send(RequestStep("DELETE", path, {"params": _given(by=by)}))

    def stations(self) -> Steps[tuple[StationView, ...]]:
        """Get all stations that are set."""
        return tuple((yield from self._get(StationList, "/v1/stations")).stations)

    def station(self, name: str) -> Steps[StationHistory]:
        """Get a station's settings and their changes."""
        return (yield from self._get(StationHistory, api_path("stations", name)))

    def set_station(self, name: str, settings: StationSettings, by: str | None) -> Steps[StationView]:
        """Replace a station's settings; a hold or takt that is not named in them stays as it is."""
        given = settings.model_dump(mode="json", exclude_unset=True) | ({} if by is None else {"by": by})
        return (yield from self._send(StationView, "PUT", api_path("stations", name), {"json": given}))

    def hold_station(self, name: str, reason: str | None, by: str | None, lifted: str | None) -> Steps[StationView]:
        """Put a station on hold, or lift its hold."""
        path, by_whom = f"{api_path('stations', name)}/hold", {} if by is None else {"by": by}
        if reason is None:
            params = by_whom | ({} if lifted is None else {"reason": lifted})
            return (yield from self._send(StationView, "DELETE", path, {"params": params}))
        return (yield from self._send(StationView, "PUT", path, {"json": {"reason": reason, **by_whom}}))

    def limit_samples(self, name: str) -> Steps[LimitSamplesView]:
        """Get a station's limit samples and the checks by them."""
        return (yield from self._get(LimitSamplesView, f"{api_path('stations', name)}/limit-samples"))

    def set_limit_samples(self, name: str, samples: Sequence[LimitSample], by: str | None) -> Steps[LimitSamplesView]:
        """Replace a station's limit samples."""
        given = {"samples": [one.model_dump(mode="json") for one in samples], **({} if by is None else {"by": by})}
        path = f"{api_path('stations', name)}/limit-samples"
        return (yield from self._send(LimitSamplesView, "PUT", path, {"json": given}))

    def start_limit_check(self, name: str, by: str | None) -> Steps[LimitSamplesView]:
        """Start a check of a station by its limit samples."""
        path = f"{api_path('stations', name)}/limit-samples/check"
        return (yield from self._send(LimitSamplesView, "POST", path, {"json": {} if by is None else {"by": by}}))

    def cancel_limit_check(self, name: str, by: str | None) -> Steps[LimitSamplesView]:
        """End a check by limit samples without an outcome."""
        path = f"{api_path('stations', name)}/limit-samples/check"
        options = {"params": {} if by is None else {"by": by}}
        return (yield from self._send(LimitSamplesView, "DELETE", path, options))

    def remove_station(self, name: str, by: str | None) -> Steps[None]:
        """Remove a station: its address takes no images any more."""
        params = {} if by is None else {"by": by}
        yield from self.patience.send(RequestStep("DELETE", api_path("stations", name), {"params": params}))

    def session(self) -> Steps[SessionView]:
        """Get who makes the calls, and what they may do."""
        return (yield from self._get(SessionView, "/v1/session"))

    def ready(self) -> Steps[Readiness]:
        """Get what the service says of itself: once, for a program that watches it."""
        answer = yield RequestStep("GET", "/health/ready")
        if isinstance(answer, httpx.TransportError):
            raise Unreachable(f"{self.patience.url} gave no answer: {type(answer).__name__}: {answer}") from answer
        assert answer is not None
        if answer.is_success or b'"checks"' in answer.content:  # a 503 with its checks is an answer too
            return read_answer(Readiness, answer)
        raise problem_of(answer)

    def _get(self, model: type[M], path: str, params: Mapping[str, Any] | None = None) -> Steps[M]:
        return (yield from self._send(model, "GET", path, {"params": params or {}}))

    def _send(self, model: type[M], method: str, path: str, options: Mapping[str, Any]) -> Steps[M]:
        return read_answer(model, (yield from self.patience.send(RequestStep(method, path, options))))


def submission_path(product: str | None, station: str | None) -> str:
    """Return the path of a product, or of a station that has a product.

    Raises:
        ValueError: if not exactly one of them is given.
    """
    if (product is None) == (station is None):
        raise ValueError("give a product, or None and a station; a product's station goes into the fields")
    if station is not None:
        return api_path("stations", station)
    assert product is not None, "exactly one of them is given"
    return api_path("products", product)


def image_bytes(image: Image) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: if it is a path, and the file cannot be read.
    """
    return bytes(image) if isinstance(image, bytes | bytearray | memoryview) else Path(image).read_bytes()


def _evaluations_path(product: str, version: str, *evaluation: str) -> str:
    return api_path("products", product, "versions", version, "evaluations", *evaluation)


def _given(**values: str | None) -> dict[str, str]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def api_path(*words: str) -> str:
    """Return the path of these words, with all special characters quoted."""
    # A word of dots must stay one: `..` would lead to another call.
    quoted = (quote(word, safe="").replace(".", "%2E" if word in {".", ".."} else ".") for word in words)
    return "/".join(("/v1", *quoted))


def read_answer(model: type[M], answer: httpx.Response) -> M:
    """Return the content of a successful answer.

    Raises:
        UnexpectedAnswer: if it is not of this type.
    """
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{answer.request.method} {answer.request.url} answered {answer.status_code} with something else than "
            f"{model.__name__} ({error.errors()[0]['msg']}): check the address, or install the client of the service's "
            "version"
        ) from error
