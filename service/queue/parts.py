"""Parts: the rules by which images decide about one, and the parts of a time span put together and counted.

Of several images of a view, the last accepted one counts. An operator's review counts instead of the score; where two
people disagree, the image is for review. So is one that ended without a verdict. The part is as bad as the worst of its
views; without the end of each, and without an image of each view that is expected, it never passes.

For the statistics of a span, a part is all images with one serial that ended in the span; an image without a serial is
a part of its own, together with its replays. What came before the span, or after it, changes nothing: the figures of a
shift that is over stay, but for reviews.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from glad_client.answers import StationChange
from glad_client.decisions import counted_review, is_disputed
from service.contract import Decision, Review, Verdict
from service.queue.stations import StationTimeline
from service.queue.summaries import InspectionSummary

_FROM_GOOD_TO_BAD = (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)

ExpectedView = tuple[str | None, str]
"""(product, view) that must be there; None: whichever product the view shows."""


def view_verdict(verdict: Verdict | None, reviews: Sequence[Review]) -> Verdict:
    """Return what an image that has ended says of its view.

    Args:
        verdict: of the image; None: it ended without one.
        reviews: of the image, oldest first.
    """
    review = counted_review(reviews)
    if review is not None:
        return Verdict.PASS if review.decision is Decision.OK else Verdict.FAIL
    return Verdict.REVIEW if verdict is None or is_disputed(reviews) else verdict


def worst_verdict(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Return the worst of the verdicts of a part's views; None if one is None, or there is no view."""
    worst = -1
    for verdict in verdicts:
        if verdict is None:
            return None
        worst = max(worst, _FROM_GOOD_TO_BAD.index(verdict))
    return None if worst < 0 else _FROM_GOOD_TO_BAD[worst]


def expected_views(change: StationChange | None, product: str) -> set[ExpectedView]:
    """Return the views that a station expects of the parts of a product.

    Args:
        change: the station's change that was in force when its last image of the part was accepted.
        product: that the image showed.
    """
    if change is None or change.settings is None or change.settings.product != product:
        return set()
    return {(product, view) for view in change.settings.expected_views}


_PASS, _REVIEW, _FAIL = Verdict.PASS, Verdict.REVIEW, Verdict.FAIL
"""To read a member of an enumeration takes longer than all else that is done with a part."""


class CountedView(NamedTuple):
    """A view of a part, by the last accepted image of it."""

    product: str | None
    view: str | None
    station: str | None
    verdict: Verdict
    image: InspectionSummary | None
    """None: the view is expected, and no image has come."""
    defect_code: str | None = None

    @property
    def lacks_result(self) -> bool:
        """Whether it is for review because its inspection failed or expired."""
        return self.image is not None and self.image.verdict is None and counted_review(self.image.reviews) is None


class CountedPart(NamedTuple):
    """A part, or what was seen of it at one station, or of one product."""

    serial: str | None
    views: tuple[CountedView, ...]
    verdict: Verdict

    @property
    def ended_ms(self) -> int:
        """When the last of its images ended, in ms since 1970."""
        return max(view.image.ended_ms for view in self.views if view.image is not None)

    @property
    def lacks_result(self) -> bool:
        """Whether it is for review, and an inspection of it failed or expired."""
        return self.verdict is Verdict.REVIEW and any(view.lacks_result for view in self.views)

    @property
    def defect_codes(self) -> set[str | None]:
        """The codes that people gave to its defects; None alone: it fails without one."""
        if self.verdict is not _FAIL:
            return set()
        return {view.defect_code for view in self.views if view.defect_code is not None} or {None}

    @property
    def worst(self) -> CountedView:
        """The view that decides, the first of several."""
        return next(view for view in self.views if view.verdict is self.verdict)


@dataclass
class VerdictCounts:
    """How many parts have which verdict."""

    passed: int = 0
    review: int = 0
    fail: int = 0
    no_result: int = 0
    """Those among `review` whose inspection failed or expired."""

    @property
    def parts(self) -> int:
        """All of them."""
        return self.passed + self.review + self.fail

    def add(self, part: CountedPart) -> None:
        """Count one more."""
        if part.verdict is _PASS:
            self.passed += 1
        elif part.verdict is _FAIL:
            self.fail += 1
        else:
            self.review += 1
            self.no_result += part.lacks_result


@dataclass
class PartTally:
    """Parts counted as a whole and by station, product, defect code and hour."""

    total: VerdictCounts = field(default_factory=VerdictCounts)
    by_station: defaultdict[str | None, VerdictCounts] = field(default_factory=lambda: defaultdict(VerdictCounts))
    by_product: defaultdict[str | None, VerdictCounts] = field(default_factory=lambda: defaultdict(VerdictCounts))
    by_defect_code: Counter[str | None] = field(default_factory=Counter)
    by_hour: defaultdict[int, VerdictCounts] = field(default_factory=lambda: defaultdict(VerdictCounts))
    """By the beginning of the hour, in ms since 1970."""

    def add(self, part: CountedPart, hour_of: Callable[[int], int]) -> None:
        """Count one more part.

        Args:
            part: to count.
            hour_of: moment -> beginning of its hour by the clock on the wall, both in ms since 1970.
        """
        self.total.add(part)
        self.by_hour[hour_of(part.ended_ms)].add(part)
        self.by_defect_code.update(part.defect_codes)
        if len(part.views) == 1:  # most often so, and there are many
            self.by_station[part.views[0].station].add(part)
            self.by_product[part.views[0].product].add(part)
            return
        for station in {view.station for view in part.views}:
            self.by_station[station].add(_of_views(part, [one for one in part.views if one.station == station]))
        for product in {view.product for view in part.views}:
            self.by_product[product].add(_of_views(part, [one for one in part.views if one.product == product]))


class PartCollector:
    """Puts parts together from summaries."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[tuple[str, str | None], InspectionSummary]] = {}
        self._expecting: dict[str, dict[tuple[str, str], int]] = {}
        self._roots: dict[str, str] = {}

    def add(self, images: Iterable[InspectionSummary], timelines: Mapping[str, StationTimeline]) -> None:
        """Add images, in any order.

        Args:
            images: that ended in the span.
            timelines: of the stations that expect views, or did.
        """
        for image in images:
            part = image.serial or self._root(image)
            views = self._parts.setdefault(part, {})
            place = image.product, image.view
            if place not in views or views[place].accepted <= image.accepted:
                views[place] = image
            if image.serial and image.station is not None and image.station in timelines:
                accepted = self._expecting.setdefault(part, {})
                where = image.station, image.product
                accepted[where] = max(accepted.get(where, 0), image.accepted_ms)

    def _root(self, image: InspectionSummary) -> str:
        """Return what stands for the part of an image without a serial: no serial begins so."""
        if image.replay_of is None:
            return f"\0{image.id}"
        return self._roots.setdefault(image.id, self._roots.get(image.replay_of, f"\0{image.replay_of}"))

    def parts(
        self,
        timelines: Mapping[str, StationTimeline],
        *,
        product: str | None = None,
        station: str | None = None,
    ) -> Iterator[CountedPart]:
        """Yield the parts, in the order in which their first image ended.

        Args:
            timelines: as for `add`.
            product: count only views of this product.
            station: count only views of this station, or that it expects.
        """
        for name, views in self._parts.items():
            seen = [*map(_seen, views.values()), *self._missing(name, timelines)]
            if product is not None or station is not None:
                seen = [one for one in seen if product in {None, one.product} and station in {None, one.station}]
            if any(one.image for one in seen):
                yield CountedPart(None if name[0] == "\0" else name, tuple(seen), _worst(seen))

    def _missing(self, part: str, timelines: Mapping[str, StationTimeline]) -> Iterator[CountedView]:
        for (station, product), accepted_ms in self._expecting.get(part, {}).items():
            for expected in expected_views(timelines[station].change_at(accepted_ms), product):
                if expected not in self._parts[part]:
                    yield CountedView(*expected, station, Verdict.REVIEW, None)


def _seen(image: InspectionSummary) -> CountedView:
    if not image.reviews:  # most often so, and there are many
        return CountedView(image.product, image.view, image.station, image.verdict or _REVIEW, image)
    review, verdict = counted_review(image.reviews), view_verdict(image.verdict, image.reviews)
    code = review.defect_code if review is not None and verdict is _FAIL else None
    return CountedView(image.product, image.view, image.station, verdict, image, code)


def _worst(views: Sequence[CountedView]) -> Verdict:
    if len(views) == 1:
        return views[0].verdict
    verdict = worst_verdict(view.verdict for view in views)
    assert verdict is not None, "there is a view, and each has a verdict"
    return verdict


def _of_views(part: CountedPart, views: Sequence[CountedView]) -> CountedPart:
    """Return what these views say of the part."""
    return part if len(views) == len(part.views) else CountedPart(part.serial, tuple(views), _worst(views))


def disposition_of(part: CountedPart, dispositions: Mapping[str, str]) -> str | None:
    """Return what was decided to do with the part; None: nothing.

    Args:
        part: that was counted.
        dispositions: inspection -> what was decided to do with its part.
    """
    images = (view.image for view in part.views if view.image is not None)
    return next((dispositions[image.id] for image in images if image.id in dispositions), None)
