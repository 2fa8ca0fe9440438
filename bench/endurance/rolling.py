"""The rolling run: the compose file's processes are restarted one after the other while cameras post.

Everything accepted must end, once, with its verdict; a call may be refused only while the process it reaches is away.
The processes are those of docker-compose.yml, translated by tests/support/containers.py: only a checkout has it.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bench.endurance.answers import CameraAnswer, NotingCamera, unexpected
from bench.endurance.checkout import CHECKOUT
from bench.endurance.ledger import Ledger
from bench.endurance.rolling_report import (
    ACTIVATE,
    NEWER,
    NO_WORKER_ALERT,
    OLDER,
    OURS,
    PRODUCT,
    SLOW_PRODUCT,
    Roll,
    RollingReport,
    RollingTrial,
)
from glad_client.client import Client
from service.contract import Result, State
from service.queue.connection import connect

if TYPE_CHECKING:
    from tests.support.project import Project
    from tests.support.prometheus_server import Prometheus

REPLICAS = {"redis": 1, "api": 2, "worker-cpu": 2, "prometheus": 1}
"""Two APIs, as on Kubernetes: on one machine there is one, whose cameras wait until it is back."""
TARGETS = sum(REPLICAS.values()) - REPLICAS["redis"]
NO_WORKER = f'ALERTS{{alertname="{NO_WORKER_ALERT}"}}'
NEW_BUNDLE = "2"
"""Of the toy: activated and rolled back under load; version 1 is active before."""
IMAGES = 20
PATIENCE_S = 300.0
LAST = "last"
"""The last part's serial."""

Say = Callable[[str], None]


@dataclass
class Notes:
    """What happens during the run; several threads write."""

    answers: list[CameraAnswer] = field(default_factory=list)
    absences: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rolls: list[Roll] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)


def run_rolling(
    trial: RollingTrial, folder: Path, say: Say, compiled: Path | None = None, older: Path | None = None
) -> RollingReport:
    """Run the trial in this folder, and return the report.

    Args:
        compiled: the folder of compiled Python files.
        older: the checkout of the older version that the trial names.

    Raises:
        ValueError: if the trial names an older version and none is given, or the other way about.
    """
    if (trial.older is None) != (older is None):
        raise ValueError(f"the trial names the older version {trial.older}, and its checkout is {older}: give both")
    from tests.support.containers import containers
    from tests.support.project import Project
    from tests.support.tiny_bundle import QUICK, make_tiny_bundle

    found = containers(folder, replicas=REPLICAS, scrape_every=trial.scrape_every, compiled=compiled)
    with Project(found, folder / "logs") as project:
        if older is not None:
            for name in OURS:
                project.change(name, PYTHONPATH=str(older), PYTHONSAFEPATH="1")  # -m would look here first
        api = project.containers["api-1"].environment
        for version in ("1", NEW_BUNDLE):
            store = Path(api["GLAD_DATA_DIR"]) / "store"
            make_tiny_bundle(store, product=PRODUCT, version=version, seed=int(version), **QUICK)
        project.up("redis-1")
        project.up(*(name for name in project.containers if name != "redis-1"))
        project.run("api-1", "glad", "bundle", "activate", PRODUCT, "1")
        if older is not None:  # what ships with the older version is in no later one
            project.run("api-1", "glad", "bundle", "publish", str(_shipped(older)))
        key = project.run("api-1", "glad", "key", "create", "line-3", "--scope", "submit,read").strip()
        with connect(api["GLAD_REDIS_URL"]) as client:
            versions = {NEWER: str(CHECKOUT), OLDER: str(older)}
            return _Run(trial, project, Ledger(client), versions, key=key, say=say).run()


class _Run:
    """A trial under way."""

    def __init__(
        self, trial: RollingTrial, project: Project, ledger: Ledger, versions: Mapping[str, str], *, key: str, say: Say
    ) -> None:
        self._trial, self._project, self._ledger, self._key, self._say = trial, project, ledger, key, say
        self._versions = versions
        self._notes, self._shots = Notes(), itertools.count()
        self._rolled = threading.Event()
        self._apis = [project.url(name) for name in ("api-1", "api-2")]

    def run(self) -> RollingReport:
        """Let cameras post and a reader follow in threads, and restart processes in this one."""
        trial = self._trial
        self._wait_for_calm()
        began = time.monotonic()
        reader = threading.Thread(target=self._read, name="reader", daemon=True)
        with self._ledger.following():
            reader.start()
            with ThreadPoolExecutor(trial.cameras + 1) as pool:
                cameras = [pool.submit(self._shoot, number) for number in range(trial.cameras)]
                try:
                    self._roll_all(pool)
                finally:
                    self._rolled.set()
                for camera in cameras:
                    camera.result()
            self._post_the_last()
            reader.join(PATIENCE_S)
            seconds = time.monotonic() - began
        return self._report(seconds)

    def _shoot(self, number: int) -> None:
        """Post as a line does: the next part comes when the last one has its verdict.

        Every second line knows one address only.
        """
        from tests.support.line import picture

        addresses = self._apis if number % 2 else self._apis[:1]
        with NotingCamera(addresses, self._notes.answers, api_key=self._key, patience_s=PATIENCE_S) as camera:
            while (shot := next(self._shots)) < self._trial.inspections or not self._rolled.is_set():
                image = shot % IMAGES
                taken = picture(32, 32, colour=f"hsl({360 * image // IMAGES}, 60%, 50%)")
                wait_s = 10 if number % 4 < 2 else 0
                accepted = camera.submit(PRODUCT, taken, idempotency_key=f"shot-{shot}", wait_s=wait_s)
                self._ledger.accept(accepted, image)
                camera.wait(accepted.id, PATIENCE_S)

    def _read(self) -> None:
        """Follow the events from the first to the last."""
        with Client(self._apis[0], api_key=self._key, patience_s=PATIENCE_S) as client:
            for event in client.events(last_event_id="0"):
                if event.event.inspection_id is not None:
                    self._notes.read.append(event.event.inspection_id)
                if event.event.serial == LAST:
                    return

    def _post_the_last(self) -> None:
        """Post the image by which the reader knows that no more events come."""
        from tests.support.line import picture
        from tests.support.processes import eventually

        with Client(self._apis[0], api_key=self._key) as client:
            last = client.submit(PRODUCT, picture(), fields={"serial": LAST})
        self._ledger.accept(last, IMAGES + 1)
        eventually(lambda: self._ledger.all_ended, PATIENCE_S)

    def _roll_all(self, pool: ThreadPoolExecutor) -> None:
        for name, how in self._trial.moves:
            self._let_work()
            if name == PRODUCT:
                self._change_bundle(how)
            else:
                self._roll(name, how, pool)
        self._let_work()

    def _change_bundle(self, how: str) -> None:
        """Change the active bundle as an operator would, in the first API's container."""
        self._project.run("api-1", "glad", "bundle", how, PRODUCT, *([NEW_BUNDLE] if how == ACTIVATE else []))
        self._say(f"{how} {PRODUCT}: {len(self._ledger.accepted)} accepted")

    def _let_work(self) -> None:
        """Wait, so that the next restart meets a service that works."""
        from tests.support.processes import eventually

        goal = len(self._ledger.ends) + self._trial.between
        eventually(lambda: len(self._ledger.ends) >= goal, PATIENCE_S)

    def _roll(self, name: str, how: str, pool: ThreadPoolExecutor) -> None:
        project = self._project
        waiting = self._wait_at(name, pool) if name.startswith("api") else None
        gone = time.monotonic()
        stopped = project.stop(name)
        if how != "restart":
            project.empty(name)
        if how in self._versions:
            project.change(name, PYTHONPATH=self._versions[how])
        started = time.monotonic()
        project.up(name)
        back = time.monotonic()
        self._notes.absences.setdefault(project.url(name), []).append((gone, back))
        grace_s = project.containers[name].grace_s
        roll = Roll(name, how, stopped.status, round(stopped.seconds, 2), grace_s, round(back - started, 2))
        self._notes.rolls.append(roll)
        if waiting is not None:
            self._notes.waited.append(waiting.result())
        ended, accepted = len(self._ledger.ends), len(self._ledger.accepted)
        self._say(f"{how} {name}: stopped in {roll.stop_s} s; {ended} of {accepted} accepted have ended")

    def _wait_at(self, name: str, pool: ThreadPoolExecutor) -> Future[int]:
        """Post an image to this API and wait for its slow result; return once the request is under way."""
        from tests.support.line import picture
        from tests.support.processes import eventually

        serial = f"{name}-{len(self._notes.rolls)}"

        def post() -> int:
            answer = httpx.post(
                f"{self._project.url(name)}/v1/products/{SLOW_PRODUCT}/inspections?serial={serial}",
                content=picture(96, 64),
                headers={"Prefer": "wait=30", "Authorization": f"Bearer {self._key}"},
                timeout=90,
            )
            self._ledger.accept(Result.model_validate_json(answer.content), IMAGES)
            return answer.status_code

        found = pool.submit(post)
        eventually(lambda: found.done() or self._ledger.unfinished(serial), PATIENCE_S)
        return found

    def _report(self, seconds: float) -> RollingReport:
        notes, ledger, results = self._notes, self._ledger, self._ledger.results()
        read = Counter(notes.read)
        strange = unexpected(notes.answers, notes.absences, self._project.url("redis-1"))
        with self._prometheus() as server:
            watched = self._watched(server, seconds)
        return RollingReport(
            accepted=len(ledger.accepted),
            ended=sum(one.state.final for one in results),
            lost=ledger.lost,
            double=ledger.double,
            states=dict(Counter(one.state.value for one in results)),
            without_verdict=sum(one.verdict is None for one in results),
            left_in_queue=ledger.left_in_queue(),
            taken_up_again=sum(one.attempts > 1 for one in results),
            suspects=ledger.suspected(),
            bundles=dict(Counter(f"{one.product}/{one.bundle.version}" for one in results if one.bundle is not None)),
            repinned=ledger.repinned(results),
            unreadable=self._unreadable(),
            widest_score_spread=ledger.widest_score_spread(results),
            events_read=len(notes.read),
            events_missed=len(ledger.accepted.keys() - read.keys()),
            events_twice=sum(count > 1 for count in read.values()),
            answers=dict(Counter(str(one.status or "refused or cut") for one in notes.answers)),
            unexpected=tuple(str(asdict(one)) for one in strange),
            waited=tuple(notes.waited),
            rolls=tuple(notes.rolls),
            down=self._down(),
            seconds=round(seconds, 1),
            **watched,
        )

    def _unreadable(self) -> int:
        """As JSON: an older API leaves out what it does not know, and our client would miss that."""
        found = (f"/v1/inspections/{one}" for one in self._ledger.accepted)
        with httpx.Client(base_url=self._apis[0], headers={"Authorization": f"Bearer {self._key}"}, timeout=60) as http:
            return sum(not State(http.get(path).raise_for_status().json()["state"]).final for path in found)

    @contextmanager
    def _prometheus(self) -> Iterator[Prometheus]:
        from tests.support.prometheus_server import Prometheus

        with httpx.Client(base_url=f"{self._project.url('prometheus-1')}/api/v1", timeout=30) as http:
            yield Prometheus(http)

    def _wait_for_calm(self) -> None:
        """Wait until every target is up, and the alarm about workers that had not started yet is over."""
        from tests.support.processes import eventually

        with self._prometheus() as server:
            eventually(lambda: _value(server, "sum(up)") == TARGETS and not server.ask(NO_WORKER), PATIENCE_S)

    def _watched(self, server: Prometheus, seconds: float) -> dict[str, Any]:
        """Return what Prometheus saw."""
        from tests.support.processes import eventually

        eventually(lambda: _value(server, "sum(up)") == TARGETS, PATIENCE_S)
        while_it_ran = f"[{math.ceil(seconds)}s]"
        alerts = server.ask(f"count_over_time(ALERTS{while_it_ran})")
        seen = Counter[str]()
        for one in alerts:
            seen[f"{one['metric']['alertname']} {one['metric']['alertstate']}"] += int(one["value"][1])
        return {
            "alerts": dict(seen),
            "fewest_workers_seen": _value(server, f"min(min_over_time(glad_workers_seen{while_it_ran}))"),
            "targets_up": _value(server, "sum(up)"),
            "targets": TARGETS,
        }

    def _down(self) -> dict[str, int]:
        """Run `docker compose down`: Redis stops last."""
        return {name: self._project.stop(name).status for name in reversed(self._project.containers)}


def _shipped(checkout: Path) -> Path:
    """Return the sample product's bundle that came with this version."""
    (found,) = (checkout / "model_store" / "bundles" / SLOW_PRODUCT).glob("[!_]*")
    return found


def _value(server: Prometheus, expression: str) -> int:
    found = server.ask(expression)
    return int(float(found[0]["value"][1])) if found else 0
