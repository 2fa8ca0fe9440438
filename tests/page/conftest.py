"""The running service with the shipped product, and a browser. Without Chromium all skip, and say so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import (
    CHROMIUM,
    PATIENCE_MS,
    EmbeddedService,
    Watched,
    chromium,
    embedded_service,
    open_context,
)

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedService]:
    """One service for all tests of the page: use stations and serials of your own."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with embedded_service(tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture(scope="module")
def browser(service: EmbeddedService) -> Iterator[Browser]:
    """The browser of a file of tests. No longer: while it is open, this thread cannot run another asyncio loop."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser, service: EmbeddedService) -> Iterator[Callable[..., Page]]:
    """Opens a page as a person of their own does: open_page("/line", color_scheme="dark").

    A test fails if one of its pages logged an error, or asked another host; `allow_errors=True` leaves the former out.
    `breakable=True` for a test that breaks the network by `page.route`: the browser then asks before every request from
    the beginning. A page that is open already learns of its first route only after requests that a key sends meanwhile.
    A picture that is not there is none: other files of tests store results without images in the same service.
    """
    watched: list[tuple[Watched, bool]] = []
    contexts = []

    def open_(path: str = "/", *, allow_errors: bool = False, breakable: bool = False, **options: Any) -> Page:
        context = open_context(browser, service, **options)
        if breakable:
            context.route("**/asked-by-nobody", lambda route: route.abort())
        contexts.append(context)
        page = context.new_page()
        watched.append((Watched(page, service.url), allow_errors))
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    logged = [error for one, allowed in watched if not allowed for error in one.errors]
    assert [
        error for error in logged if not re.search(r"status of 404 .*/inspections/[^/]+/\w+\.(jpg|png)\)$", error)
    ] == []
    assert [host for one, _ in watched for host in one.foreign] == []
