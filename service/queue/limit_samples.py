"""Limit samples: known parts that a station's camera is shown, and what their verdicts say of the station.

An image with a sample's serial is marked when it is accepted. Its end puts it into a set, in the same step that makes
its result visible; from there it is judged, by whichever process comes first: the step that judges it takes it out of
the set, changes the check, and holds the station if the verdict is wrong. So each image is judged once, over restarts.
A stored record that cannot be read is logged, and counts as none: samples are set, and a check is started, anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

import redis.asyncio
import structlog
from pydantic import ValidationError

from glad_client.answers import StationChange
from glad_client.fields import Text
from glad_client.limit_samples import (
    MOST_EARLIER_SAMPLES,
    CheckedSample,
    EarlierLimitSamples,
    LimitCheck,
    LimitSample,
    LimitSamplesView,
)
from glad_client.results import FailedSample
from service.contract import Event, Message, Result, Timestamp, Verdict
from service.queue import keys
from service.queue.clock import redis_now
from service.queue.results import RESULT_FIELDS, read_result
from service.queue.stations import (
    MOST_EARLIER_CHECKS,
    MOST_TRIES,
    StationRecord,
    Stations,
    StepOutcome,
    hold_events,
    station_event,
    with_failed_check,
)

_FROM_GOOD_TO_BAD = (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)
MOST_SHOWN_SERIAL = 60
"""Characters of a serial in the reason of a hold."""
MOST_LOGGED = 200
"""Characters of a record that cannot be read."""
Stored = TypeVar("Stored", bound=Message)

log = structlog.get_logger(__name__)


class LimitPlan(Message):
    """The limit samples of a station as they were set."""

    samples: tuple[LimitSample, ...] = ()
    at: Timestamp | None = None
    by: Text | None = None
    earlier: tuple[EarlierLimitSamples, ...] = ()

    def replaced_by(self, samples: Sequence[LimitSample], at: datetime, by: str) -> LimitPlan:
        """Return the plan with other samples; these are kept among the earlier ones."""
        is_kept = self.at is not None and self.samples != tuple(samples)
        before = EarlierLimitSamples(samples=self.samples, changed_at=self.at, changed_by=self.by)
        earlier = (*([before] if is_kept else []), *self.earlier)
        return LimitPlan(samples=tuple(samples), at=at, by=by, earlier=earlier[:MOST_EARLIER_SAMPLES])


class NotNow(Exception):
    """A check runs, or none does, or there are no samples; the message says which."""


@dataclass(frozen=True)
class Judgement:
    """What the end of an image means for a check."""

    check: LimitCheck
    wrong: CheckedSample | None
    """The sample whose verdict is not as expected."""


class LimitSamples:
    """The limit samples of all stations. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, stations: Stations) -> None:
        self._redis, self._stations = client, stations

    async def view(self, station: str) -> LimitSamplesView | None:
        """Return a station's limit samples and checks; None if the station is not set."""
        record = await self._stations.read(station)
        if record.settings is None:
            return None
        texts = await cast("Any", self._redis.lrange(keys.limit_checks(station), 0, MOST_EARLIER_CHECKS - 1))
        earlier = tuple(check for text in texts if (check := _read(station, LimitCheck, text)) is not None)
        return _view(station, _plan(station, record), _check(station, record), earlier)

    async def set_samples(self, station: str, samples: Sequence[LimitSample], by: str) -> None:
        """Replace the samples; those before them are kept, to be restored.

        Raises:
            LookupError: if the station is not set.
            NotNow: if a check runs.
        """
        at = await redis_now(self._redis)
        serials = [text for sample in samples for text in (sample.serial, sample.expected)]
        for _ in range(MOST_TRIES):
            record = await self._read_set(station)
            if (check := _check(station, record)) is not None and check.state == "running":
                raise NotNow("a check by limit samples runs: end or cancel it before you change the samples")
            plan = _plan(station, record).replaced_by(samples, at, by)
            read = {"read_check": record.check, "read_plan": record.plan}
            step = {**read, "plan": plan.model_dump_json(), "serials": serials}
            if await self._stations.apply(station, step) is not StepOutcome.CHANGED:
                return
        raise _changes_all_the_time(station)

    async def start_check(self, station: str, by: str) -> None:
        """Begin a check by the samples as they are set.

        Raises:
            LookupError: if the station is not set.
            NotNow: if a check runs, or there are no samples.
        """
        at = await redis_now(self._redis)
        for _ in range(MOST_TRIES):
            record = await self._read_set(station)
            check = _new_check(station, record, at, by)
            step = {
                "read_plan": record.plan,
                "read_check": record.check,
                "check": check.model_dump_json(),
                "is_new": True,
            }
            if await self._stations.apply(station, step) is not StepOutcome.CHANGED:
                return
        raise _changes_all_the_time(station)

    async def cancel_check(self, station: str, by: str) -> None:
        """End the check that runs, without an outcome.

        Raises:
            LookupError: if the station is not set.
            NotNow: if none runs.
        """
        at = await redis_now(self._redis)
        for _ in range(MOST_TRIES):
            record = await self._read_set(station)
            check = _check(station, record)
            if check is None or check.state != "running":
                raise NotNow("no check by limit samples runs: start one first")
            ended = check.model_copy(update={"state": "cancelled", "ended_at": at, "ended_by": by})
            step = {"read_check": record.check, "check": ended.model_dump_json()}
            if await self._stations.apply(station, step) is not StepOutcome.CHANGED:
                return
        raise _changes_all_the_time(station)

    async def judge(self, inspection_id: str) -> LimitCheck | None:
        """Judge the image of a limit sample that has ended; return the check if this call has ended it.

        Repeated, or called by several processes at a time, it counts once.
        """
        fields = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
        result = _readable(inspection_id, fields)
        if result is None or result.station is None:
            await cast("Any", self._redis.zrem(keys.LIMIT_ENDED, inspection_id))
            return None
        at = await redis_now(self._redis)
        for _ in range(MOST_TRIES):
            record = await self._stations.read(result.station)
            check = _check(result.station, record)
            judgement = None if check is None else judge_image(check, result, at)
            step, events = self._judging_step(result.station, record, judgement)
            outcome = await self._stations.apply(result.station, {**step, "judged": inspection_id}, events)
            if outcome is StepOutcome.CHANGED:
                continue
            ended = judgement is not None and judgement.check.state != "running"
            return judgement.check if judgement and ended and outcome is StepOutcome.RECORDED else None
        raise _changes_all_the_time(result.station)

    def _judging_step(
        self, station: str, record: StationRecord, judgement: Judgement | None
    ) -> tuple[dict[str, Any], list[Event]]:
        step: dict[str, Any] = {"read_check": record.check, "read_last": record.last}
        if judgement is None:
            return step, []
        check, wrong = judgement.check, judgement.wrong
        step["check"] = check.model_dump_json()
        if check.state == "running" or record.change is None or record.settings is None or check.ended_at is None:
            return step, []
        change = StationChange(at=check.ended_at, by=check.by, settings=record.settings)
        if wrong is None:
            return step, [station_event("limit_samples.passed", station, change, None)]
        reason = _reason(wrong)
        sample = FailedSample(serial=wrong.serial, expected=wrong.expected, verdict=wrong.verdict)
        held = with_failed_check(record, change, reason, sample)
        failed = station_event("limit_samples.failed", station, change, reason, sample)
        return step | self._stations.change_step(record, held), [failed, *hold_events(station, record, held)]

    async def _read_set(self, station: str) -> StationRecord:
        record = await self._stations.read(station)
        if record.settings is None:
            raise LookupError(station)
        return record


def judge_image(check: LimitCheck, result: Result, at: datetime) -> Judgement | None:
    """Return what the end of an image means for a check; None: nothing.

    A good sample is right once all its views passed, and wrong at the first that did not. A bad one is right at the
    first view that fails, and wrong once all have come and none did. Shown once more it is judged anew. An image that
    failed or expired has no verdict, and says nothing: the sample has to be shown again. A replay says nothing either:
    its image may be of long before the check.

    Args:
        check: the station's last one.
        result: of an image with a sample's serial.
        at: the time now.
    """
    sample = next((one for one in check.samples if one.serial == result.serial), None)
    is_of_before = result.accepted_at < check.started_at or result.replay_of is not None
    if check.state != "running" or sample is None or is_of_before:
        return None
    judged = _with_view(sample, result, check.expected_views)
    samples = tuple(judged if one is sample else one for one in check.samples)
    state = "failed" if judged.ok is False else "passed" if all(one.ok for one in samples) else "running"
    ended_at = None if state == "running" else at
    after = check.model_copy(update={"samples": samples, "state": state, "ended_at": ended_at})
    return Judgement(after, judged if judged.ok is False else None)


def _with_view(sample: CheckedSample, result: Result, expected_views: Collection[str]) -> CheckedSample:
    if result.verdict is None:
        return sample.model_copy(update={"inspection_id": result.id})
    before = sample if sample.ok is None else CheckedSample(serial=sample.serial, expected=sample.expected)
    seen = (*before.views, result.view)
    verdict = max((before.verdict or Verdict.PASS, result.verdict), key=_FROM_GOOD_TO_BAD.index)
    is_whole = set(expected_views) <= set(seen)
    if sample.expected == "good":
        ok = False if verdict is not Verdict.PASS else True if is_whole else None
    else:
        ok = True if verdict is Verdict.FAIL else False if is_whole else None
    changed = {"verdict": verdict, "inspection_id": result.id, "ok": ok, "views": seen}
    return sample.model_copy(update=changed)


def _reason(wrong: CheckedSample) -> str:
    verdict = wrong.verdict.value if wrong.verdict else "without a verdict"
    return f"limit sample {wrong.serial[:MOST_SHOWN_SERIAL]} ({wrong.expected}) was {verdict}"


def _new_check(station: str, record: StationRecord, at: datetime, by: str) -> LimitCheck:
    check, plan = _check(station, record), _plan(station, record)
    if check is not None and check.state == "running":
        raise NotNow("a check by limit samples runs already: show the samples, or cancel it")
    if not plan.samples:
        raise NotNow("the station has no limit samples: set them with PUT /v1/stations/{station}/limit-samples")
    samples = tuple(CheckedSample(serial=one.serial, expected=one.expected) for one in plan.samples)
    views = record.settings.expected_views if record.settings else ()
    return LimitCheck(started_at=at, by=by, state="running", samples=samples, expected_views=views)


def _plan(station: str, record: StationRecord) -> LimitPlan:
    return _read(station, LimitPlan, record.plan) or LimitPlan()


def _check(station: str, record: StationRecord) -> LimitCheck | None:
    return _read(station, LimitCheck, record.check)


def _read(station: str, kind: type[Stored], text: str) -> Stored | None:
    """Return what is stored; None if there is nothing, or if it cannot be read, as if there were nothing."""
    try:
        return kind.model_validate_json(text) if text else None
    except ValidationError as error:
        _log_unreadable(station, text, str(error))
        return None


@lru_cache(maxsize=1000)  # so that each record is told of once by a process, however often it is read
def _log_unreadable(station: str, text: str, error: str) -> None:
    log.error("limit samples' record not readable", station=station, record=text[:MOST_LOGGED], error=error)


def _view(station: str, plan: LimitPlan, check: LimitCheck | None, earlier: tuple[LimitCheck, ...]) -> LimitSamplesView:
    return LimitSamplesView(
        station=station,
        samples=plan.samples,
        changed_at=plan.at,
        changed_by=plan.by,
        earlier_samples=plan.earlier,
        check=check,
        earlier=earlier,
    )


def _readable(inspection_id: str, fields: Sequence[str | None]) -> Result | None:
    try:
        return read_result(inspection_id, fields)
    except ValidationError:  # of a newer version
        return None


def _changes_all_the_time(station: str) -> redis.RedisError:
    return redis.RedisError(f"station {station!r} changes all the time: try again later")
