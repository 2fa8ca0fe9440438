"""Signing in on the page: with a key and a name, handed over by name alone, ended by its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from service.auth.api_keys import KeyCache, KeyStore
from service.auth.scopes import Scope
from service.settings import Settings
from tests.support.browser import serious_findings
from tests.support.http_server import server_on
from tests.support.redis_server import RedisServer

Visit = Callable[[str], Page]


@pytest.fixture(scope="module")
def keyed_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def keyed(keyed_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service that asks for keys, and reads them at every request; it has no worker."""
    folder = tmp_path_factory.mktemp("keyed")
    settings = Settings(redis_url=keyed_redis.url, data_dir=folder, auth="keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyCache.__init__, "__kwdefaults__", {"refresh_s": 0.0})
        with server_on(settings) as url:
            yield url


@pytest.fixture
def keys(keyed_redis: RedisServer) -> Iterator[KeyStore]:
    with redis.Redis.from_url(keyed_redis.url, decode_responses=True) as client:
        client.flushall()
        yield KeyStore(client)


@pytest.fixture
def visit(browser: Browser, keyed: str) -> Iterator[Visit]:
    """Opens a page of that service in a browser of its own."""
    context = browser.new_context(base_url=keyed, locale="en-GB", color_scheme="light")

    def visited(path: str) -> Page:
        page = context.new_page()
        page.goto(path)
        return page

    yield visited
    context.close()


def sign_in(page: Page, key: str, person: str = "A. Meier") -> None:
    page.get_by_label("Your name or badge number").fill(person)
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_a_person_signs_in_goes_on_where_they_were_and_hands_over_by_name(visit: Visit, keys: KeyStore) -> None:
    key = keys.create("console", [Scope.READ, Scope.REVIEW])
    page = visit("/stations/line-1/limit-samples")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    expect(page.get_by_text("Please sign in to go on.")).to_be_visible()
    assert serious_findings(page) == []
    sign_in(page, "glad_000000000000_" + "0" * 48)
    expect(page.get_by_role("alert")).to_contain_text("not in use")
    sign_in(page, key)
    expect(page).to_have_url(re.compile("/stations/line-1/limit-samples$"))
    expect(page.get_by_text("somebody with a key of the scope admin can do it here")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("link", name="A. Meier").click()
    expect(page.get_by_role("heading", name="Change of person")).to_be_visible()
    expect(page.get_by_label("API key")).to_be_hidden()
    page.get_by_label("Your name or badge number").fill("<b>B. Huber</b>")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="<b>B. Huber</b>")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()


def test_a_revoked_key_sends_to_the_sign_in(visit: Visit, keys: KeyStore) -> None:
    page = visit("/sign-in")
    sign_in(page, keys.create("console", [Scope.READ]))
    expect(page).to_have_url(re.compile("/line$"))
    keys.revoke("console")
    page.goto("/stations/line-1/limit-samples")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))


def test_a_link_never_leads_to_another_host(visit: Visit, keys: KeyStore) -> None:
    key = keys.create("console", [Scope.READ])
    page = visit("/sign-in?next=//evil.example/")
    sign_in(page, key)
    expect(page).to_have_url(re.compile("/line$"))


def test_a_key_that_may_not_read_is_told_so_at_the_line(visit: Visit, keys: KeyStore) -> None:
    page = visit("/sign-in")
    sign_in(page, keys.create("camera", [Scope.SUBMIT]))
    expect(page).to_have_url(re.compile("/line$"))
    expect(page.get_by_text("it lacks the scope read")).to_be_visible()
