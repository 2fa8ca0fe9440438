"""The demo's course: render, serve, post, fetch, write, stop."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.inspected import InspectedSample, SampleImage, as_table, samples
from demo.page import SHOWN, artifact_path, write_page
from demo.processes import DRAIN_S, DemoError, child_environment, glad_command, last_lines, running
from demo.progress import DemoProgress, Stages

MARK = ".glad-demo"
TITLE = "GLAD demo: a line of brackets"
START_S = 180.0
POLL_S = 0.2


@dataclass(frozen=True)
class DemoPlan:
    """What the demo does, and where."""

    output: Path
    product: str = "bracket"
    seed: int = 2024
    good: int = 22
    defects: int = 1
    """Images of each kind of defect in each of three severities."""
    rate: float = 4.0
    """Images a second that the camera posts."""

    @property
    def images(self) -> Path:
        """The rendered set."""
        return self.output / "images"

    @property
    def data(self) -> Path:
        """The service's own data folder, new in every run."""
        return self.output / "data"

    @property
    def answers(self) -> Path:
        """What the camera writes."""
        return self.output / "results.json"


@dataclass(frozen=True)
class DemoService:
    """The running service, and where it is."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def must_run(self) -> None:
        """DemoError with the end of its log, if the service has ended."""
        if self.process.poll() is not None:
            raise DemoError(f"the service ended with status {self.process.returncode}:\n{last_lines(self.log)}")


def run(plan: DemoPlan) -> Path:
    """Runs the demo and returns the page's path; DemoError if a result is missing. Nothing is left running."""
    say = Stages()
    try:
        with claim(plan.output):
            return inspect_all(plan, render(plan, say), say)
    except httpx.HTTPError as error:
        raise DemoError(f"the service stopped answering ({error}); see {plan.output}/service.log") from error


def inspect_all(plan: DemoPlan, wanted: Sequence[SampleImage], say: Stages) -> Path:
    """Serves, posts, fetches and writes the page."""
    with serving(plan, say) as service:
        wait_until(is_alive, service)
        bundle = active_version(service, plan.product)
        wait_until(is_ready, service)
        say("the service is ready")
        post(plan, service, len(wanted), say)
        results = read_answers(plan.answers, wanted)
        fetch_pictures(plan, service, results, say)
        say("stopping the service")
    page = show(plan, results, len(wanted), bundle)
    say(f"{len(results)} of {len(wanted)} results")
    print(f"\n{what_next(plan, page, results)}")
    return page


def show(plan: DemoPlan, results: Sequence[InspectedSample], wanted: int, bundle: str) -> Path:
    """Prints the table and writes the page of what there is; DemoError if that is not all."""
    missing = f"{wanted - len(results)} of {wanted} results are missing; see {plan.answers} and {plan.output}/*.log"
    if not results:
        raise DemoError(missing)
    print(f"\n{as_table(results)}\n")
    page = write_page(plan.output, results, TITLE, plan.product, bundle)
    if len(results) < wanted:
        raise DemoError(missing)
    return page


@contextmanager
def claim(output: Path) -> Iterator[None]:
    """Makes the output folder, or takes an earlier demo's; what else a folder holds is never touched. One demo at a
    time has it: DemoError for a second one."""
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
    """The sample images: rendered the first time, found there the next."""
    say("sample images (rendered the first time only)")
    numbers = ["--seed", str(plan.seed), "--good", str(plan.good), "--defects", str(plan.defects)]
    log = plan.output / "sample.log"
    with running(glad_command("sample", plan.images, *numbers), log, child_environment({})) as child:
        if child.wait() != 0:
            raise DemoError(f"glad sample failed:\n{last_lines(log)}")
    return samples(plan.images)


@contextmanager
def serving(plan: DemoPlan, say: Stages) -> Iterator[DemoService]:
    """`glad serve` on a free port with its own data folder, from its start until it has stopped."""
    port = free_port()
    settings = {"GLAD_HOST": "127.0.0.1", "GLAD_PORT": str(port), "GLAD_DATA_DIR": str(plan.data.resolve())}
    log = plan.output / "service.log"
    say(f"starting the service on port {port} (Redis, API, worker)")
    with running(glad_command("serve"), log, child_environment(settings), DRAIN_S) as child:
        yield DemoService(f"http://127.0.0.1:{port}", child, log)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[DemoService], bool], service: DemoService) -> None:
    """Returns once the condition holds; DemoError if the service ends or takes too long."""
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
    """What a probe answers with 200; None otherwise."""
    try:
        answer = httpx.get(f"{service.url}/health/{probe}", timeout=5.0)
    except httpx.TransportError:
        return None
    return dict(answer.json()) if answer.status_code == httpx.codes.OK else None


def active_version(service: DemoService, product: str) -> str:
    """The version of the bundle that will judge; DemoError if the service has none for this product."""
    answer = httpx.get(f"{service.url}/v1/products/{product}", timeout=10.0)
    if answer.status_code != httpx.codes.OK:
        raise DemoError(f"the service has no bundle for product {product!r}: {answer.json()['detail']}")
    return str(answer.json()["active"]["version"])


def post(plan: DemoPlan, service: DemoService, count: int, say: Stages) -> None:
    """Posts the images as a line camera would, and shows how far the results are."""
    say(f"a camera posts {count} images, {plan.rate:g} a second")
    options = ["--product", plan.product, "--url", service.url, "--rate", str(plan.rate), "--json", str(plan.answers)]
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
    """How many results the camera has printed: each line of its table names a file."""
    return sum(".png " in line for line in log.read_text(encoding="utf-8", errors="replace").splitlines())


def read_answers(path: Path, wanted: Sequence[SampleImage]) -> list[InspectedSample]:
    """The finished inspections, in the samples' order; what has no verdict is left out."""
    shots: dict[str, Any] = {f"test/{shot['file']}": shot for shot in json.loads(path.read_text())["shots"]}
    answers = ((sample, shots.get(sample.name, {}).get("inspection")) for sample in wanted)
    results = (InspectedSample.from_answer(sample, answer) for sample, answer in answers if answer)
    return [result for result in results if result]


def fetch_pictures(plan: DemoPlan, service: DemoService, results: Sequence[InspectedSample], say: Stages) -> None:
    """Downloads the pictures that the page shows."""
    say("fetching reconstructions and heatmaps")
    with httpx.Client(base_url=service.url, timeout=30.0) as client:
        for result in results:
            for name in SHOWN:
                answer = client.get(result.artifacts[name])
                answer.raise_for_status()
                path = artifact_path(plan.output, result, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(answer.content)


def what_next(plan: DemoPlan, page: Path, results: Sequence[InspectedSample]) -> str:
    """The end of the demo: what to look at and what to try."""
    example = max(results, key=lambda result: result.score).sample.path
    binaries = shown(Path(sys.executable).parent)
    return f"""\
Look at the results:            {page.resolve()}
Serve the same product:         make serve
  and then inspect an image:    curl --data-binary @{shown(example)} \\
                                  -H 'Content-Type: image/png' -H 'Prefer: wait=30' \\
                                  http://127.0.0.1:8000/v1/products/{plan.product}/inspections
Inspect an image of your own,
without a server:               {binaries}/glad inspect {plan.product} my-photo.jpg"""


def shown(path: Path) -> str:
    """A path as one would type it here."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
