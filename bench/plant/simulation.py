"""A shift of a plant in virtual time: cameras post, nodes inspect, one node is lost and comes back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.plant.device import Spent
from bench.plant.lines import Line, Outcomes, Picture, Plant, pictures
from bench.plant.node import Board, Node, NodeSettings
from bench.plant.parts import EPOCH_MS, Part, job_of, part_id
from bench.plant.pools import nodes_of_pools, pool_of_groups
from bench.plant.steps import StepTimes
from bench.plant.timeline import Timeline
from bench.plant.virtual_redis import Awaited, VirtualRedis, answer
from bench.support.own_redis import own_redis
from service.contract import State
from service.queue.submitter import JobSubmitter, Outcome
from training.progress import Count

LONGEST_TAIL_S = 24 * 3600.0
"""After the last picture: what has not ended by then never will."""


def _unseen(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Fleet:
    """The machines."""

    nodes: int
    settings: NodeSettings
    pools: int = 1
    """The products are shared out over so many pools, and the nodes with them."""
    max_backlog: int = 1000
    max_wait_s: float = 3600.0


@dataclass(frozen=True)
class Loss:
    """The node that holds the most dies at a time, and is back, empty and warm, at another."""

    at_s: float
    back_s: float


@dataclass(frozen=True)
class Shift:
    """How long cameras take pictures, and what happens meanwhile."""

    seconds: float
    loss: Loss | None = None
    seed: int = 0
    taken: tuple[Picture, ...] | None = None
    """The pictures of the first line, the only one that takes any; None: every line's own, by the seed."""


@dataclass(frozen=True)
class End:
    """How one accepted part ended."""

    part: Part
    state: State
    at_s: float

    @property
    def took_s(self) -> float:
        """From the picture to the end."""
        return self.at_s - self.part.at_s


@dataclass(frozen=True)
class Story:
    """What happened."""

    seconds: float
    """From the start to the last end, or the last picture."""
    accepted: tuple[Part, ...]
    refused: tuple[tuple[Part, Outcome], ...]
    ends: tuple[End, ...]
    """In the order in which they ended; one that ended twice would stand here twice."""
    held_at_loss: frozenset[str]
    """What the lost node believed to hold."""
    spent: Mapping[str, Spent]
    """By node, over all its lives."""


@dataclass(frozen=True)
class Measured:
    """What was measured, and is only used here."""

    times: StepTimes
    outcomes: Mapping[str, Outcomes]
    """By the name that products give."""


def simulate(plant: Plant, fleet: Fleet, shift: Shift, measured: Measured, progress: Count = _unseen) -> Story:
    """Runs the shift, and on until every accepted part has ended. Starts a Redis of its own. ValueError, StartError."""
    timeline = Timeline()
    with _virtual_redis(timeline) as client:
        return _Plant(plant, fleet, shift, measured, timeline=timeline, client=client, progress=progress).run()


@contextmanager
def _virtual_redis(timeline: Timeline) -> Iterator[VirtualRedis]:
    with own_redis() as url, VirtualRedis.from_url(url, decode_responses=True, protocol=2) as client:
        client.config_set("appendonly", "no")  # what it would write is nobody's
        client.clock_ms = lambda: EPOCH_MS + round(timeline.now * 1000)
        yield client


class _Plant:
    """One shift under way."""

    def __init__(
        self,
        plant: Plant,
        fleet: Fleet,
        shift: Shift,
        measured: Measured,
        *,
        timeline: Timeline,
        client: VirtualRedis,
        progress: Count,
    ) -> None:
        self._plant, self._fleet, self._shift, self._measured = plant, fleet, shift, measured
        self._timeline, self._client, self._progress = timeline, client, progress
        self._rng = random.Random(f"plant {shift.seed}")
        self._groups = {product.name: product.group for product in plant.products}
        self._pool_of = pool_of_groups(plant, fleet.pools)
        self._boards = {pool: Board() for pool in sorted(set(self._pool_of.values()))}
        self._submitter = self._make_submitter()
        self._nodes: dict[str, Node] = {}
        self._lives: list[Node] = []
        self._parts: dict[str, Part] = {}
        self._accepted: list[Part] = []
        self._refused: list[tuple[Part, Outcome]] = []
        self._ends: list[End] = []
        self._held_at_loss: frozenset[str] = frozenset()
        self._lost: Node | None = None

    def run(self) -> Story:
        """All of it."""
        for pool, count in nodes_of_pools(self._plant, self._pool_of, self._fleet.nodes).items():
            for _ in range(count):
                self._start(f"node-{len(self._nodes):03}", pool)
        for line, taken in self._taken():
            self._next_shot(line, taken)
        if self._shift.loss is not None:
            self._timeline.at(self._shift.loss.at_s, self._lose)
            self._timeline.at(self._shift.loss.back_s, self._come_back)
        self._timeline.run(self._over)
        return self._story()

    def _story(self) -> Story:
        spent: dict[str, Spent] = {}
        for node in self._lives:
            spent[node.name] = spent.get(node.name, Spent()) + node.spent
        return Story(
            seconds=max([self._shift.seconds, *(end.at_s for end in self._ends)]),
            accepted=tuple(self._accepted),
            refused=tuple(self._refused),
            ends=tuple(self._ends),
            held_at_loss=self._held_at_loss,
            spent=spent,
        )

    def _over(self) -> bool:
        """The shift has ended, and so has every accepted part."""
        now, shift = self._timeline.now, self._shift
        if now <= shift.seconds or (shift.loss is not None and now <= shift.loss.back_s):
            return False
        return len(self._ends) >= len(self._accepted) or now > shift.seconds + LONGEST_TAIL_S

    def _make_submitter(self) -> JobSubmitter:
        api: Any = Awaited(self._client)
        return JobSubmitter(api, max_backlog=self._fleet.max_backlog, max_wait_s=self._fleet.max_wait_s)

    def _start(self, name: str, pool: str) -> None:
        settings = self._fleet.settings
        node = Node(
            name,
            pool,
            settings,
            self._measured.times,
            self._groups,
            timeline=self._timeline,
            client=self._client,
            board=self._boards[pool],
            part_of=self._parts.__getitem__,
            ended=self._ended,
            came_back=self._wake,
        )
        self._nodes[name] = node
        self._lives.append(node)
        node.start(self._rng.uniform(0, settings.lease_ms / 3000))

    def _lose(self) -> None:
        lost = max(self._nodes.values(), key=lambda node: len(node.held))
        self._held_at_loss = frozenset(lost.held)
        self._lost = lost
        lost.lose()

    def _come_back(self) -> None:
        assert self._lost is not None, "it was lost before"
        self._start(self._lost.name, self._lost.pool)

    def _taken(self) -> Iterator[tuple[Line, Iterator[Picture]]]:
        shift, lines = self._shift, self._plant.lines
        if shift.taken is not None:
            yield lines[0], iter(shift.taken)
            return
        for line in lines:
            outcomes = self._measured.outcomes[line.product.outcomes]
            yield line, pictures(line, self._plant.habits, outcomes, shift.seed, shift.seconds)

    def _next_shot(self, line: Line, taken: Iterator[Picture]) -> None:
        picture = next(taken, None)
        if picture is not None:
            self._timeline.at(picture.at_s, lambda: self._shoot(line, picture, taken))

    def _shoot(self, line: Line, picture: Picture, taken: Iterator[Picture]) -> None:
        """A part passes the camera; its image is posted once."""
        part = Part(part_id(len(self._parts), picture.at_s), line, picture.at_s, picture.denoising_step)
        self._parts[part.id] = part
        pool = self._pool_of[line.product.group]
        submitted = answer(self._submitter.submit(job_of(part, pool)))
        if submitted.outcome is Outcome.ACCEPTED:
            self._accepted.append(part)
            self._boards[pool].waiting += 1
            self._wake(pool)
        else:
            self._refused.append((part, submitted.outcome))
        self._next_shot(line, taken)

    def _wake(self, pool: str) -> None:
        """Idle nodes hear that there may be a job. All look at once; once one has it, the others find nothing."""
        idle = [node for node in self._nodes.values() if node.idle and node.pool == pool]
        self._rng.shuffle(idle)
        for node in idle:
            if node.wake():
                return

    def _ended(self, inspection_id: str, state: State) -> None:
        self._ends.append(End(self._parts[inspection_id], state, self._timeline.now))
        self._progress(round(min(self._timeline.now, self._shift.seconds)), round(self._shift.seconds))
