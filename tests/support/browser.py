"""The embedded service with the shipped product, and a real browser that looks at its page."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from service.host.private_redis import redis_url, socket_path
from tests.support.processes import children_of, eventually
from training.sample_product.renderer import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser that the tests drive; None: there is none here."""
PATIENCE_MS = 30_000
"""How long a page may take to do or show something; it only bounds a failing test."""


@dataclass(frozen=True)
class EmbeddedService:
    """A running `glad serve`: private Redis, API and one worker."""

    process: subprocess.Popen[str]
    output: Path
    data: Path

    @property
    def url(self) -> str:
        """Its address."""
        found = re.search(r"http://127\.0\.0\.1:\d+", self.output.read_text())
        assert found is not None, self.output.read_text()
        return found[0]

    @property
    def redis_url(self) -> str:
        """Its private Redis, for tests that write stored data."""
        return redis_url(socket_path(self.data))

    def post(self, image: bytes, product: str = "bracket", wait_s: int = 30, **fields: str) -> dict[str, Any]:
        """Posts an image and returns its inspection, which has ended if `wait_s` allowed it."""
        answer = httpx.post(
            f"{self.url}/v1/products/{product}/inspections",
            params=fields,
            content=image,
            headers={"Prefer": f"wait={wait_s}"} if wait_s else {},
            timeout=90,
        )
        answer.raise_for_status()
        return dict(answer.json())

    def get(self, path: str) -> Any:
        """What it answers to a call."""
        answer = httpx.get(f"{self.url}{path}", timeout=90)
        answer.raise_for_status()
        return answer.json()

    def kill_api(self) -> None:
        """The API dies; the supervisor starts it again."""
        (api,) = [pid for pid in children_of(self.process.pid) if _is_api(pid)]
        os.kill(api, signal.SIGKILL)

    def wait_until_ready(self) -> None:
        """Until it accepts images."""

        def is_ready() -> bool:
            try:
                return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        eventually(is_ready, patience_s=150)


def _is_api(pid: int) -> bool:
    return b"service.api.server" in Path(f"/proc/{pid}/cmdline").read_bytes()


@contextmanager
def embedded_service(folder: Path, **environment: str) -> Iterator[EmbeddedService]:
    """A service on a free port with a data folder of its own.

    Args:
        folder: for its data and its output.
        environment: GLAD_* settings, such as GLAD_AUTH="keys".
    """
    output, data = folder / "output.txt", folder / "data"
    command = [sys.executable, "-m", "glad", "serve", "--port", "0", "--data-dir", str(data)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}
    fixed = {"GLAD_TORCH_THREADS": "1", "GLAD_DEVICE": "cpu", "GLAD_LANES": "2"}
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, text=True, env={**clean, **fixed, **environment})
    try:
        eventually(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, patience_s=150)
        assert process.poll() is None, output.read_text()
        yield EmbeddedService(process, output, data)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@cache
def part(seed: int, defect: str | None = None, severity: int = 3) -> bytes:
    """PNG of a rendered bracket: good, or with a defect that the shipped product finds, such as `missing_screw`."""
    rendered = render(seed, defect, severity if defect else None)
    buffer = io.BytesIO()
    Image.fromarray(rendered.image).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Watched:
    """A page whose errors and requests are written down."""

    page: Page
    own: str
    """Address of the service."""
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _see(self, request: Request) -> None:
        if request.url.startswith(("http:", "https:", "ws:", "wss:")) and not request.url.startswith(self.own + "/"):
            self.foreign.append(urlsplit(request.url).netloc)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without its sandbox: containers have none."""
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def open_context(browser: Browser, service: EmbeddedService, **options: Any) -> BrowserContext:
    """A person's browser: cookies and storage of its own, in English and light unless the options say otherwise."""
    defaults: dict[str, Any] = {
        "base_url": service.url,
        "viewport": {"width": 1280, "height": 800},
        "locale": "en-GB",
        "color_scheme": "light",
    }
    context = browser.new_context(**{**defaults, **options})
    context.set_default_timeout(PATIENCE_MS)
    return context


def touch(page: Page, *fingers: Sequence[tuple[float, float]]) -> None:
    """Fingers that go down together, each along its own places, as many as those of the others, and up together."""
    session = page.context.new_cdp_session(page)
    for number, places in enumerate(zip(*fingers, strict=True)):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def pinch(page: Page, middle: tuple[float, float], start: float, end: float, *, upright: bool = False) -> None:
    """Two fingers beside, or above each other, whose distance from their middle changes."""
    x, y = middle
    ways = [[(x + sign * far, y) for far in (start, end)] for sign in (-1, 1)]
    if upright:
        ways = [[(x, y + sign * far) for far in (start, end)] for sign in (-1, 1)]
    touch(page, *ways)


def serious_findings(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds on the page that is serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical") and one["id"] not in rules
        for node in one["nodes"]
    ]
