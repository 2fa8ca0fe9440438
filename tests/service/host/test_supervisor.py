"""`glad serve` as a user runs it: real processes, one machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from glad_client.client import Client
from service.contract import State
from service.host.liveness import is_alive
from tests.service.worker.conftest import png
from tests.support.processes import children_of, eventually, free_port, is_running
from tests.support.tiny_bundle import make_tiny_bundle

PATIENCE_S = 150
"""It only bounds a failing test."""
pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


@dataclass
class Served:
    """A running `glad serve`."""

    process: subprocess.Popen[str]
    output: Path
    known: set[int] = field(default_factory=set)

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    @property
    def url(self) -> str:
        """The address in its banner."""
        line = next(line for line in self.text.splitlines() if line.startswith("glad serves at "))
        return line.removeprefix("glad serves at ").strip()

    @property
    def announced_url(self) -> str:
        """The address that it announces before the banner."""
        line = next(line for line in self.text.splitlines() if line.startswith("starting the API at "))
        return line.removeprefix("starting the API at ").strip()

    def wait_for_banner(self) -> None:
        """Until it serves; a failed start shows its output."""
        eventually(lambda: "Ctrl-C" in self.text or self.process.poll() is not None, patience_s=PATIENCE_S)
        assert self.process.poll() is None, self.text
        self.known |= set(children_of(self.process.pid))

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C in a terminal does."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def serve(folder: Path, *options: str, **environment: str) -> Served:
    """Starts `glad serve` on a free port with an own data folder."""
    output = folder / "output.txt"
    command = [sys.executable, "-m", "glad", "serve", "--port", "0", "--data-dir", str(folder / "data"), *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            text=True,
            env={**clean, "GLAD_TORCH_THREADS": "1", "GLAD_DEVICE": "cpu", "GLAD_LANES": "2", **environment},
        )
    return Served(process, output)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for the tests that leave it running."""
    folder = tmp_path_factory.mktemp("serve")
    make_tiny_bundle(folder / "data" / "store")
    served = serve(folder)
    try:
        served.wait_for_banner()
        yield served
    finally:
        served.process.kill()
        served.process.wait()
        eventually(lambda: not any(map(is_running, served.known)))


def test_the_banner_says_what_is_served_and_how_to_use_and_stop_it(served: Served) -> None:
    # The shipped product comes first by name, and with it the example call.
    example = f"{served.url}/v1/products/bracket/inspections"
    for words in ("products  bracket, toy", "curl", example, "/docs", "Ctrl-C"):
        assert words in served.text


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_call_of_the_banner_finds_the_defect_of_an_image_that_exists(served: Served) -> None:
    (call,) = re.findall(r"curl .*\\\n +\S+", served.text)
    answer = subprocess.run(shlex.split(call), check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    result = json.loads(answer.stdout)
    assert (result["state"], result["verdict"]) == ("done", "fail")  # a screw is missing


def test_an_image_is_inspected_over_http(served: Served) -> None:
    with Client(served.url) as client:
        result = client.submit("toy", png(1), wait_s=30)
        assert result.state is State.DONE
        assert client.get(result.id) == result
        assert client.artifact(result.id, "overlay.png").startswith(b"\x89PNG")
        assert client.artifact(result.id, "image") == png(1)


def test_a_second_supervisor_on_the_same_data_is_refused(served: Served) -> None:
    data = served.output.parent / "data"
    again = subprocess.run(
        [sys.executable, "-m", "glad", "serve", "--port", "0", "--data-dir", str(data)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert again.returncode == 1
    assert f"in use by another `glad serve` (process {served.process.pid})" in again.stderr
    assert "Traceback" not in again.stderr


def test_the_camera_posts_a_folder_and_reports_every_result(served: Served, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number in range(4):
        (images / ("sub" if number % 2 else "") / f"{number}.png").write_bytes(png(number))
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "glad", "camera", str(images), "--product", "toy", "--url", served.url]
    done = subprocess.run(
        [*command, "--rate", "20", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 images inspected" in done.stdout
    assert "sub/1.png" in done.stdout
    assert '"results": 4' in report.read_text()


def test_a_dead_worker_is_replaced_and_its_images_end(served: Served) -> None:
    worker = next(
        pid for pid in children_of(served.process.pid) if "worker" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    with Client(served.url) as client:
        os.kill(worker, signal.SIGKILL)
        result = client.submit("toy", png(2))
        assert client.wait(result.id, PATIENCE_S).state is State.DONE
    served.known |= set(children_of(served.process.pid))
    assert not is_running(worker)
    # The supervisor's own lines are JSON as those of its children: one log, one form.
    lines = [json.loads(line) for line in served.text.splitlines() if "child ended" in line]
    assert [(line["event"], line["child"], line["how"]) for line in lines] == [("child ended", "worker", "by SIGKILL")]


IMPATIENT = """
import sys
from pathlib import Path
from service.host.child_process import Backoff
from service.host.liveness import Probing
from service.host.supervisor import Supervisor, SupervisorPlan, SupervisorTimeouts
timeouts = SupervisorTimeouts(probing=Probing(every_s=0.5, timeout_s=5, missed=3))
place = {"data_dir": Path(sys.argv[1]), "host": "127.0.0.1", "port": 0, "worker_port": int(sys.argv[2])}
plan = SupervisorPlan(**place, backoff=Backoff(0.5, 1), timeouts=timeouts)
Supervisor(plan, lambda line: print(line, flush=True), lambda address: f"glad serves at {address.url}\\n Ctrl-C").run()
"""


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[tuple[Served, int]]:
    """A supervisor that probes each half second, and the health port of its worker."""
    make_tiny_bundle(tmp_path / "data" / "store")
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}
    with (tmp_path / "output.txt").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, str(tmp_path / "data"), str(port)],
            stdout=file,
            stderr=file,
            text=True,
            env={**clean, "GLAD_TORCH_THREADS": "1", "GLAD_DEVICE": "cpu", "GLAD_LANES": "2"},
        )
    served = Served(process, tmp_path / "output.txt")
    try:
        served.wait_for_banner()
        yield served, port
    finally:
        served.known |= set(children_of(process.pid))
        process.kill()
        process.wait()
        eventually(lambda: not any(map(is_running, served.known)))


def child_of(served: Served, program: str) -> int | None:
    """The child that runs this program now."""
    running = [pid for pid in children_of(served.process.pid) if program in Path(f"/proc/{pid}/cmdline").read_text()]
    return running[0] if running else None


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def occupied(port: int) -> socket.socket:
    """A port that is ours as soon as the process that has it has gone."""
    taken: list[socket.socket] = []

    def take() -> bool:
        try:
            taken.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
        return True

    eventually(take)
    return taken[0]


def replace_stopped(served: Served, program: str) -> None:
    """Stops the child that runs this program, and waits until another one serves in its place."""
    stopped = child_of(served, program)
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    eventually(lambda: not is_running(stopped), patience_s=PATIENCE_S)
    eventually(lambda: ready(served.url), patience_s=PATIENCE_S)
    assert child_of(served, program) not in {None, stopped}


def test_a_stopped_api_and_a_stopped_redis_are_replaced(impatient: tuple[Served, int]) -> None:
    served, _ = impatient
    for program in ("service.api.server", "redis-server"):
        replace_stopped(served, program)
        with Client(served.url) as client:
            assert client.wait(client.submit("toy", png(3)).id, PATIENCE_S).state is State.DONE
    assert served.process.poll() is None, served.text
    (end,) = (line for line in served.text.splitlines() if "child ended" in line and "Redis" in line)
    assert "redis/redis.log" in end  # where the reason stands
    assert "disk_free_bytes=" in end  # and the reason itself where a full disk kept Redis from writing it


def test_a_port_that_is_in_use_when_a_worker_restarts_delays_that_worker_and_ends_nothing(
    impatient: tuple[Served, int],
) -> None:
    served, port = impatient
    worker = child_of(served, "service.worker.main")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    with occupied(port):
        eventually(lambda: served.text.count("with status 78") >= 2, patience_s=PATIENCE_S)
        assert served.process.poll() is None, served.text
    eventually(lambda: is_alive("127.0.0.1", port, 1.0), patience_s=PATIENCE_S)
    with Client(served.url) as client:
        assert client.wait(client.submit("toy", png(4)).id, PATIENCE_S).state is State.DONE
    assert served.stop() == 0, served.text


def test_what_was_accepted_outlives_a_stop_and_no_process_does(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "data" / "store")
    first = serve(tmp_path)
    eventually(lambda: len(children_of(first.process.pid)) == 3 or first.process.poll() is not None, PATIENCE_S)
    children = children_of(first.process.pid)
    with Client(first.announced_url) as client:
        accepted = [client.submit("toy", png(seed)) for seed in range(5)]
    assert first.stop() == 0, first.text
    assert len(children) == 3
    assert not any(map(is_running, children))
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.announced_url)

    second = serve(tmp_path)
    second.wait_for_banner()
    with Client(second.url) as client:
        assert {client.wait(one.id, PATIENCE_S).state for one in accepted} == {State.DONE}
    assert second.stop(signal.SIGTERM) == 0, second.text
    assert len(second.known) == 3
    assert not any(map(is_running, second.known))


def test_each_pool_has_a_worker_of_its_own(tmp_path: Path) -> None:
    for product in ("toy", "casting"):
        make_tiny_bundle(tmp_path / "data" / "store", product=product)
    served = serve(tmp_path, GLAD_POOLS="slow=casting")
    try:
        served.wait_for_banner()
        assert len(served.known) == 4
        assert "starting the worker of pool default" in served.text
        assert "starting the worker of pool slow" in served.text
        with Client(served.url) as client:
            results = [client.submit(product, png(1), wait_s=30) for product in ("toy", "casting")]
        assert [result.state for result in results] == [State.DONE, State.DONE]
        ready = httpx.get(f"{served.url}/health/ready").json()
        assert (ready["status"], ready["checks"]["worker"]["detail"][:6]) == ("ready", "2 seen")
    finally:
        assert served.stop() == 0, served.text
    assert not any(map(is_running, served.known))


def test_no_process_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    served = serve(tmp_path)
    eventually(lambda: len(children_of(served.process.pid)) == 3 or served.process.poll() is not None, PATIENCE_S)
    children = children_of(served.process.pid)
    served.stop(signal.SIGKILL)
    assert len(children) == 3, served.text
    eventually(lambda: not any(map(is_running, children)))


def test_ctrl_c_during_the_start_stops_everything(tmp_path: Path) -> None:
    served = serve(tmp_path)
    eventually(lambda: "starting the API" in served.text or served.process.poll() is not None, PATIENCE_S)
    children = children_of(served.process.pid)
    assert served.stop() == 0, served.text
    assert children
    assert not any(map(is_running, children))


def test_a_port_in_use_is_said_before_anything_starts(served: Served, tmp_path: Path) -> None:
    port = served.url.rpartition(":")[2]
    other = serve(tmp_path, "--port", port)
    assert other.process.wait(PATIENCE_S) == 1
    assert f"port {port} on 127.0.0.1 is in use: choose another with --port or GLAD_PORT" in other.text
    assert "starting" not in other.text
