"""The page's files: only those, whatever name everybody asks for, and no name costs memory."""

from __future__ import annotations

import pytest

from service.api import page
from tests.service.conftest import Running

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "name",
    [
        "a" * 300 + ".js",  # longer than a file's name may be
        "a/" * 3000 + "b.js",
        "%00.js",
        "app/main.js%00",
        "app//main.js",
        "%2e/app/main.js",
        "app/..%2f..%2f..%2fsettings.js",
        "app%5cmain.js",
        "app/main.py",
        "index.html",  # is served at the page's addresses, with its policy
    ],
)
async def test_what_is_no_file_of_the_page_is_not_found(api: Running, name: str) -> None:
    assert (await api.http.get(f"/page/{name}")).status_code == 404


async def test_a_name_that_is_not_found_is_not_remembered(api: Running) -> None:
    def remembered() -> int:
        return sum(one.cache_info().currsize for one in vars(page).values() if hasattr(one, "cache_info"))

    assert (await api.http.get("/page/app/main.js")).status_code == 200
    before = remembered()
    for number in range(20):
        await api.http.get(f"/page/app/{number}.js")
    assert remembered() == before
