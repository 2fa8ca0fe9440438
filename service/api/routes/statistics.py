"""Statistics of a time span, by parts, as numbers or as a CSV of the parts; and the plant's shifts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from glad_client.part_statistics import (
    DefectCodePartCounts,
    DispositionCounts,
    HourPartCounts,
    NamedPartCounts,
    PartCounts,
    PartCountsWithoutResult,
    ShiftList,
    ShiftSpan,
    Statistics,
)
from model_store.manifest import Name
from service.api.dependencies import Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.parts_csv import CSV_TYPE, csv_lines, prefers_csv
from service.contract import Text, Timestamp
from service.contract.shifts import find_zone, last_shifts, parse_shifts, wall_hours
from service.errors import InvalidFields
from service.queue.clock import from_ms, redis_now
from service.queue.history import TURN_S
from service.queue.overtime import overdue_inspections
from service.queue.parts import CountedPart, PartCollector, PartTally, VerdictCounts, disposition_of
from service.queue.stations import StationTimeline

LONGEST_SPAN = timedelta(days=32)
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
"""Shifts and hours before it may lie outside of what times can say."""
MOST_IMAGES = 250_000
"""Of one call: what it holds in memory is some 500 bytes an image."""
PARTS_A_TURN = 1000
HOUR_MS = 3_600_000
T = TypeVar("T")

router = APIRouter(tags=["statistics"])


class StatisticsQuery(BaseModel):
    """The query of the statistics."""

    model_config = ConfigDict(extra="forbid")

    since: Timestamp | None = Field(
        None, description="ended at this time or later; default: the beginning of the present shift"
    )
    until: Timestamp | None = Field(None, description="ended before this time; default: now")
    product: Name | None = Field(None, description="only views of this product", examples=["bracket"])
    station: Text | None = Field(None, description="only views of this station", examples=["line-3"])


@dataclass(frozen=True)
class _Span:
    since: datetime
    until: datetime
    now: datetime


@dataclass(frozen=True)
class _Parts:
    """The parts of a span."""

    images: int
    finished: tuple[CountedPart, ...]
    unfinished: int
    overtime: int
    dispositions: Mapping[str, str]
    """Inspection -> what was decided to do with the part."""


@router.get(
    "/v1/statistics", summary="Count parts", responses=documents.STATISTICS_RESPONSES, response_model=Statistics
)
async def statistics(
    services: ServicesDep,
    query: Annotated[StatisticsQuery, Query()],
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Count the parts whose images ended in a time span: by verdict, station, product, defect code and hour.

    A part's verdict is the worst of its views, by the rules of `GET /v1/parts/{serial}`, from the images that ended in
    the span. Reviews count whenever they were made. Limit samples are left out. What has not ended is no part of these
    numbers, also beyond its takt: `overtime` says how many such there are.

    With `Accept: text/csv` the answer is the parts, a line each.
    """
    span = await _span(services, query)
    async with services.summaries.counts:
        return await _count(services, span, query, as_csv=prefers_csv(accept))


async def _count(services: Services, span: _Span, query: StatisticsQuery, *, as_csv: bool) -> Response:
    found = await _collect(services, span, query)
    if as_csv:
        lines = [line async for line in _in_turns(csv_lines(found.finished, found.dispositions))]
        headers = {"Vary": "Accept", "Content-Disposition": f'attachment; filename="{_file_name(span)}"'}
        return Response("".join(lines), media_type=CSV_TYPE, headers=headers)
    tally = await _tally(found, find_zone(services.settings.time_zone))
    answer = _answer(span, found, tally)
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json", headers={"Vary": "Accept"})


@router.get("/v1/shifts", summary="Get the latest shifts", responses=documents.SHIFTS_RESPONSES)
async def shifts(services: ServicesDep, count: Annotated[int, Query(ge=1, le=100)] = 6) -> ShiftList:
    """Return the present shift and those before it, as GLAD_SHIFTS and GLAD_TIME_ZONE say."""
    settings, now = services.settings, await redis_now(services.redis)
    found = last_shifts(parse_shifts(settings.shifts), find_zone(settings.time_zone), now, count)
    return ShiftList(
        time_zone=settings.time_zone,
        shifts=[ShiftSpan.model_validate(shift, from_attributes=True) for shift in found],
    )


async def _span(services: Services, query: StatisticsQuery) -> _Span:
    """Return the span that is asked for.

    Raises:
        InvalidFields: if it ends before it begins, is too long or too old, or has too many inspections.
    """
    settings, now = services.settings, await redis_now(services.redis)
    for name, moment in (("since", query.since), ("until", query.until)):
        if moment is not None and moment < EARLIEST:
            raise InvalidFields.for_field(name, f"lies before {EARLIEST:%Y-%m-%d}: no inspection is so old")
    until = query.until or now
    since = (
        query.since
        or last_shifts(parse_shifts(settings.shifts), find_zone(settings.time_zone), min(now, until), 1)[0].since
    )
    if not timedelta(0) <= until - since <= LONGEST_SPAN:
        raise InvalidFields.for_field("since", f"lies after `until`, or more than {LONGEST_SPAN.days} days before it")
    images = await services.summaries.count(since, until)
    if images > MOST_IMAGES:
        raise InvalidFields.for_field(
            "since",
            f"{images} inspections ended in this span; at most {MOST_IMAGES} are counted: ask for a shorter one",
        )
    return _Span(since, until, now)


async def _collect(services: Services, span: _Span, query: StatisticsQuery) -> _Parts:
    collector, timelines, known, images = PartCollector(), dict[str, StationTimeline](), set[str](), 0
    async with aclosing(services.summaries.read(span.since, span.until)) as chunks:
        async for chunk in chunks:
            new = {one.station for one in chunk if one.station is not None} - known
            known |= new
            timelines |= {
                name: timeline
                for name, timeline in (await services.stations.timelines(new)).items()
                if timeline.expects_views
            }
            collector.add(chunk, timelines)
            images += sum(_is_wanted(query, one.product, one.station) for one in chunk)
    running = await services.summaries.unfinished(span.until)
    unfinished = await services.summaries.serials_of(running) if span.until >= span.now else set[str]()
    everything = collector.parts(timelines, product=query.product, station=query.station)
    parts = [part async for part in _in_turns(everything)]
    finished = tuple(part for part in parts if part.serial not in unfinished)
    return _Parts(
        images,
        finished,
        len(parts) - len(finished),
        await _count_overdue(services, span, query, running),
        await services.summaries.dispositions(span.since, span.until),
    )


async def _count_overdue(services: Services, span: _Span, query: StatisticsQuery, running: Sequence[str]) -> int:
    """Return how many parts have an image without a verdict whose takt was over in the span."""
    overdue = await overdue_inspections(services.redis, running, span.since, min(span.until, span.now))
    wanted = [one for one in overdue if _is_wanted(query, one.product, one.station)]
    return len({one.serial for one in wanted if one.serial}) + sum(not one.serial for one in wanted)


async def _in_turns(many: Iterable[T]) -> AsyncIterator[T]:
    """Yield all of them, and leave time for all else in between."""
    for number, one in enumerate(many, 1):
        yield one
        if number % PARTS_A_TURN == 0:
            await asyncio.sleep(TURN_S)


def _is_wanted(query: StatisticsQuery, product: str, station: str | None) -> bool:
    return query.product in {None, product} and query.station in {None, station}


@dataclass(frozen=True)
class _Tally:
    """What was counted of the parts of a span."""

    verdicts: PartTally
    dispositions: Counter[str]
    hour_of: Callable[[int], int]


async def _tally(found: _Parts, zone: tzinfo) -> _Tally:
    tally, dispositions, hour_of = PartTally(), Counter[str](), wall_hours(zone)
    async for part in _in_turns(found.finished):
        tally.add(part, hour_of)
        dispositions[disposition_of(part, found.dispositions) or ""] += 1
    return _Tally(tally, dispositions, hour_of)


def _answer(span: _Span, found: _Parts, tally: _Tally) -> Statistics:
    counts, verdicts = tally.verdicts, tally.verdicts.total
    return Statistics(
        **_verdicts(verdicts),
        since=span.since,
        until=span.until,
        images=found.images,
        unfinished=found.unfinished,
        overtime=found.overtime,
        yield_share=verdicts.passed / verdicts.parts if verdicts.parts else None,
        by_station=_named(counts.by_station),
        by_product=_named(counts.by_product),
        by_defect_code=[
            DefectCodePartCounts(code=code, parts=parts)
            for code, parts in sorted(counts.by_defect_code.items(), key=lambda one: (-one[1], one[0] or ""))
        ],
        by_hour=[
            HourPartCounts(at=from_ms(hour), **_verdicts(counts.by_hour[hour], HourPartCounts))
            for hour in _hours(span, tally.hour_of)
        ],
        dispositions=DispositionCounts(**{name: tally.dispositions[name] for name in DispositionCounts.model_fields}),
    )


def _hours(span: _Span, hour_of: Callable[[int], int]) -> list[int]:
    """Return the beginnings of the span's hours, those without parts too, in ms since 1970."""
    since, until = (round(moment.timestamp() * 1000) for moment in (span.since, min(span.until, span.now)))
    # Where the clock is put by less than an hour, one is shorter: no moment of a quarter is left out.
    return sorted(
        {hour_of(moment) for moment in (*range(since, until, HOUR_MS // 4), *([until - 1] * (since < until)))}
    )


def _named(counted: Mapping[str | None, VerdictCounts]) -> list[NamedPartCounts]:
    found = [NamedPartCounts(name=name, **_verdicts(counts)) for name, counts in counted.items()]
    return sorted(found, key=lambda one: (-one.fail, -one.review, one.name or ""))


def _verdicts(counts: VerdictCounts, model: type[PartCounts] = PartCountsWithoutResult) -> dict[str, int]:
    """Return the fields of this kind of counts."""
    counted = set(PartCounts.model_fields) | set(PartCountsWithoutResult.model_fields)
    return {name: getattr(counts, name) for name in counted.intersection(model.model_fields)}


def _file_name(span: _Span) -> str:
    return f"parts-{span.since:%Y%m%dT%H%MZ}-{span.until:%Y%m%dT%H%MZ}.csv"
