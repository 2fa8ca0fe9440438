"""The demo's course: render, serve, post, fetch, write, stop."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.inspected import InspectedSample, SampleImage, as_table, samples
from demo.page import SHOWN, artifact_path, write_page
from demo.processes import DRAIN_S, DemoError, child_environment, glad_command, last_lines, running
from demo.yardstick import recorded_yardstick

MARK = ".glad-demo"
TITLE = "GLAD demo: a line of brackets"
START_S = 180.0
POLL_S = 0.2
TRIED = 5
"""Images that are posted one by one to measure what the machine keeps."""
LOAD = 0.7
"""The share of the time for which the line keeps the service busy; while one is inspected the next is decoded."""
FASTEST = 20.0
"""Images a second, however quick the machine is."""


@dataclass(frozen=True)
class DemoPlan:
    """The images, the product and the output folder of the demo."""

    output: Path
    product: str = "bracket"
    seed: int = 2024
    good: int = 22
    defects: int = 1
    """Images of each kind of defect in each of three severities."""
    rate: float | None = None
    """Images a second that the camera posts; None: what this machine keeps, measured first."""

    @property
    def images(self) -> Path:
        """The folder of the rendered set."""
        return self.output / "images"

    @property
    def data(self) -> Path:
        """The service's own data folder, new in every run."""
        return self.output / "data"

    @property
    def answers(self) -> Path:
        """The file that the camera writes."""
        return self.output / "results.json"


@dataclass(frozen=True)
class DemoService:
    """The running service, and its address."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def must_run(self) -> None:
        """Raise DemoError with the end of the log if the service has ended."""
        if self.process.poll() is not None:
            raise DemoError(f"the service ended with status {self.process.returncode}:\n{last_lines(self.log)}")


def run(plan: DemoPlan) -> Path:
    """Run the demo and return the page's path. Nothing is left running.

    Raises:
        DemoError: if a result is missing.
    """
    say = Stages()
    try:
        with claim(plan.output):
            return inspect_all(plan, render(plan, say), say)
    except httpx.HTTPError as error:
        raise DemoError(f"the service stopped answering ({error}); see {plan.output}/service.log") from error


def inspect_all(plan: DemoPlan, wanted: Sequence[SampleImage], say: Stages) -> Path:
    """Serve, post, fetch, and write the page."""
    with serving(plan, say) as service:
        wait_until(is_alive, service)
        bundle = active_version(service, plan.product)
        wait_until(is_ready, service)
        say("the service is ready")
        rate = plan.rate or measured_rate(plan, service, wanted, say)
        post(plan, service, len(wanted), rate, say)
        results = read_answers(plan.answers, wanted)
        fetch_pictures(plan, service, results, say)
        say("stopping the service")
    page = show(plan, results, len(wanted), bundle)
    say(f"{len(results)} of {len(wanted)} results")
    print(f"\n{what_next(plan, page, results)}")
    return page


def show(plan: DemoPlan, results: Sequence[InspectedSample], wanted: int, bundle: str) -> Path:
    """Print the table and write the page of the results.

    Raises:
        DemoError: if some are missing.
    """
    missing = f"{wanted - len(results)} of {wanted} results are missing; see {plan.answers} and {plan.output}/*.log"
    if not results:
        raise DemoError(missing)
    print(f"\n{as_table(results)}\n")
    yardstick = recorded_yardstick(plan.images, [result.sample for result in results])
    page = write_page(plan.output, results, title=TITLE, product=plan.product, bundle=bundle, yardstick=yardstick)
    if len(results) < wanted:
        raise DemoError(missing)
    return page


@contextmanager
def claim(output: Path) -> Iterator[None]:
    """Make the output folder, or take an earlier demo's; files that are not the demo's are never touched.

    Raises:
        DemoError: if another demo has the folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    mark = output / MARK
    if not mark.exists() and any(output.iterdir()):
        raise DemoError(f"{output} holds other things: give --output a new or an empty folder")
    with mark.open("a", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"another demo is running in {output}: wait for it, or give --output a folder") from error
        _tidy(output)
        yield


def _tidy(output: Path) -> None:
    for old in ("data", "pictures"):
        shutil.rmtree(output / old, ignore_errors=True)
    for old in ("results.json", "index.html"):
        (output / old).unlink(missing_ok=True)


def render(plan: DemoPlan, say: Stages) -> list[SampleImage]:
    """Return the sample images: rendered the first time, found there the next."""
    say("sample images (rendered the first time only)")
    numbers = ["--seed", str(plan.seed), "--good", str(plan.good), "--defects", str(plan.defects)]
    log = plan.output / "sample.log"
    with running(glad_command("sample", plan.images, *numbers), log, child_environment({})) as child:
        if child.wait() != 0:
            raise DemoError(f"glad sample failed:\n{last_lines(log)}")
    return samples(plan.images)


@contextmanager
def serving(plan: DemoPlan, say: Stages) -> Iterator[DemoService]:
    """Run `glad serve` on a free port with its own data folder, from its start until it has stopped."""
    port = free_port()
    settings = {"GLAD_HOST": "127.0.0.1", "GLAD_PORT": str(port), "GLAD_DATA_DIR": str(plan.data.resolve())}
    log = plan.output / "service.log"
    say(f"starting the service on port {port} (Redis, API, worker)")
    with running(glad_command("serve"), log, child_environment(settings), DRAIN_S) as child:
        yield DemoService(f"http://127.0.0.1:{port}", child, log)


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[DemoService], bool], service: DemoService) -> None:
    """Wait until the condition holds.

    Raises:
        DemoError: if the service ends or takes too long.
    """
    deadline = time.monotonic() + START_S
    while not condition(service):
        service.must_run()
        if time.monotonic() > deadline:
            raise DemoError(f"the service did not start within {START_S:.0f} s:\n{last_lines(service.log)}")
        time.sleep(POLL_S)


def is_alive(service: DemoService) -> bool:
    """Whether the API answers."""
    return health(service, "live") is not None


def is_ready(service: DemoService) -> bool:
    """Whether images are accepted and a worker is seen; "degraded" is the first without the second."""
    answer = health(service, "ready")
    return answer is not None and answer["status"] == "ready"


def health(service: DemoService, probe: str) -> dict[str, Any] | None:
    """Return the answer of a probe if its status is 200, else None."""
    try:
        answer = httpx.get(f"{service.url}/health/{probe}", timeout=5.0)
    except httpx.TransportError:
        return None
    return dict(answer.json()) if answer.status_code == httpx.codes.OK else None


def active_version(service: DemoService, product: str) -> str:
    """Return the version of the bundle that will inspect.

    Raises:
        DemoError: if the service has none for this product.
    """
    answer = httpx.get(f"{service.url}/v1/products/{product}", timeout=10.0)
    if answer.status_code != httpx.codes.OK:
        raise DemoError(f"the service has no bundle for product {product!r}: {answer.json()['detail']}")
    return str(answer.json()["active"]["version"])


def measured_rate(plan: DemoPlan, service: DemoService, wanted: Sequence[SampleImage], say: Stages) -> float:
    """Return the rate at which the machine is busy for `LOAD` of the time, by how long single images take.

    Raises:
        DemoError: if an image gets no verdict.
    """
    seconds = []
    with httpx.Client(base_url=service.url, timeout=60.0) as client:
        for sample in wanted[:TRIED]:
            began = time.monotonic()
            answer = client.post(
                f"/v1/products/{plan.product}/inspections",
                content=sample.path.read_bytes(),
                headers={"Content-Type": "image/png", "Prefer": "wait=30"},
            )
            seconds.append(time.monotonic() - began)
            if answer.status_code not in {httpx.codes.OK, httpx.codes.ACCEPTED}:
                raise DemoError(f"the service refused {sample.path}: {answer.json()['detail']}")
    alone = statistics.median(seconds[1:])  # the first one may meet a cold machine
    rate = float(f"{min(FASTEST, LOAD / alone):.2g}")
    say(f"one image alone takes {alone:.2f} s from POST to verdict, so a line of {rate:g} a second is tried")
    return rate


def post(plan: DemoPlan, service: DemoService, count: int, rate: float, say: Stages) -> None:
    """Post the images as a line camera would, and show how many results are in."""
    say(f"a camera posts {count} images, {rate:g} a second")
    options = ["--product", plan.product, "--url", service.url, "--rate", str(rate), "--json", str(plan.answers)]
    log = plan.output / "camera.log"
    progress = DemoProgress(count)
    with running(glad_command("camera", plan.images / "test", *options), log, child_environment({})) as camera:
        while camera.poll() is None:
            service.must_run()
            progress.show(results_in(log))
            time.sleep(POLL_S)
    progress.show(results_in(log))
    if not plan.answers.exists():
        raise DemoError(f"glad camera failed:\n{last_lines(log)}")


def results_in(log: Path) -> int:
    """Return how many results the camera has printed: each line of its table names a file."""
    return sum(".png " in line for line in log.read_text(encoding="utf-8", errors="replace").splitlines())


def read_answers(path: Path, wanted: Sequence[SampleImage]) -> list[InspectedSample]:
    """Return the finished inspections, in the samples' order; those without a verdict are left out."""
    shots: dict[str, Any] = {f"test/{shot['file']}": shot for shot in json.loads(path.read_text())["shots"]}
    results = (InspectedSample.from_shot(sample, shots.get(sample.name, {})) for sample in wanted)
    return [result for result in results if result]


def fetch_pictures(plan: DemoPlan, service: DemoService, results: Sequence[InspectedSample], say: Stages) -> None:
    """Download the pictures that the page shows; those of good parts are drawn now.

    Raises:
        DemoError: if some are not drawn in time.
    """
    say("fetching reconstructions and heatmaps")
    missing = [(result, name) for result in results for name in SHOWN]
    deadline = time.monotonic() + START_S
    with httpx.Client(base_url=service.url, timeout=30.0) as client:
        while missing:
            missing = [(result, name) for result, name in missing if not fetch(plan, client, result, name)]
            if missing and time.monotonic() > deadline:
                result, name = missing[0]
                raise DemoError(f"{len(missing)} pictures were not drawn, such as {name} of {result.sample.name}")
            if missing:
                time.sleep(POLL_S)


def fetch(plan: DemoPlan, client: httpx.Client, result: InspectedSample, name: str) -> bool:
    """Download a picture; return False if it is still being drawn."""
    answer = client.get(result.artifacts[name])
    if answer.status_code == httpx.codes.ACCEPTED:
        return False
    answer.raise_for_status()
    path = artifact_path(plan.output, result, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer.content)
    return True


def what_next(plan: DemoPlan, page: Path, results: Sequence[InspectedSample]) -> str:
    """Return the end of the demo: what to look at and what to try."""
    example = max(results, key=lambda result: result.score).sample.path
    binaries = as_typed(Path(sys.executable).parent)
    return f"""\
Look at the results:            {page.resolve()}
Serve the same product:         make serve
  and then inspect an image:    curl --data-binary @{as_typed(example)} \\
                                  -H 'Content-Type: image/png' -H 'Prefer: wait=30' \\
                                  http://127.0.0.1:8000/v1/products/{plan.product}/inspections
Inspect it without a server:    {binaries}/glad inspect {plan.product} {as_typed(example)}
Teach it your own product:      docs/tutorial.md"""


def as_typed(path: Path) -> str:
    """Return a path as one would type it here."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


EVERY_S = 5.0
"""How often a line is printed where it cannot be rewritten."""


@dataclass
class Stages:
    """A line for each stage, with the seconds since the start."""

    started: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        print(f"[demo {self.seconds:5.0f} s] {text}", flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started


@dataclass
class DemoProgress:
    """The number of results that are in, and the time left: one line on a terminal, else a line now and then."""

    total: int
    started: float = field(default_factory=time.monotonic)
    _shown: int = -1
    _shown_at: float = 0.0

    def show(self, done: int) -> None:
        """Print the state, if there is news."""
        now = time.monotonic()
        terminal = sys.stdout.isatty()
        due = terminal or done == self.total or now - self._shown_at >= EVERY_S
        if done == self._shown or not due:
            return
        self._shown, self._shown_at = done, now
        lead = "\r" if terminal else ""
        end = "\n" if done == self.total or not terminal else ""
        print(f"{lead}{self.text(done, now - self.started)}", end=end, flush=True)

    def text(self, done: int, seconds: float) -> str:
        """Return the line: "   12 of 40 results, about 21 s left"."""
        line = f"{done:5} of {self.total} results"
        if 0 < done < self.total:
            line += f", about {seconds / done * (self.total - done):.0f} s left"
        return f"{line:<48}"
