"""Pictures for screens: small, drawn for the first one who asks, and the same for everybody after."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image

from glad.image_codec import to_png
from glad.images.rendering import heatmap, mask
from service.contract import SCREEN_PICTURE_NAMES, Event
from service.queue import keys
from service.queue.jobs import JobQueue
from service.storage.pictures import DRAWN_NAMES, Drawing
from tests.service.conftest import Running
from tests.support.line import THRESHOLDS, findings, picture, result_of

URL = "/v1/products/toy/inspections"
MAP = np.zeros((20, 30), np.float32)
MAP[4:8, 10:20] = np.linspace(0.5, 2.0, 10, dtype=np.float16)
"""Of values that float16 holds."""
TOP, LIMIT = 2.0, 1.0


async def posted(api: Running, image: bytes) -> str:
    found: str = (await api.http.post(URL, content=image)).json()["id"]
    return found


async def inspected(api: Running, client: redis.Redis, image: bytes, *, at_once: bool) -> str:
    """An ended inspection: the worker stored its pictures at once, as of a part that fails, or a drawing."""
    inspection_id = await posted(api, image)
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    if at_once:
        api.services.artifacts.put(claimed.id, "heatmap.png", to_png(heatmap(MAP, TOP)))
        api.services.artifacts.put(claimed.id, "mask.png", to_png(mask(MAP, LIMIT)))
    else:
        api.services.artifacts.put(claimed.id, "drawing.npz", Drawing(MAP, TOP, LIMIT).to_bytes())
    queue.complete(claimed, result_of(claimed, artifacts=(*DRAWN_NAMES, "reconstruction.png")))
    return inspection_id


async def get(api: Running, inspection_id: str, name: str, **headers: str) -> httpx.Response:
    return await api.http.get(f"/v1/inspections/{inspection_id}/{name}", headers=headers)


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


async def test_a_preview_and_a_thumbnail_are_small_jpegs_also_before_the_inspection_ends(api: Running) -> None:
    inspection_id = await posted(api, picture(2400, 1200))
    preview, thumbnail = [await get(api, inspection_id, name) for name in ("preview.jpg", "thumbnail.jpg")]
    assert (opened(preview).format, opened(preview).size) == ("JPEG", (1600, 800))
    assert (opened(thumbnail).format, opened(thumbnail).size) == ("JPEG", (200, 100))
    assert preview.headers["content-type"] == "image/jpeg"
    assert "immutable" in preview.headers["cache-control"]


async def test_a_small_image_is_not_made_larger(api: Running) -> None:
    inspection_id = await posted(api, picture(150, 90))
    assert [opened(await get(api, inspection_id, name)).size for name in ("preview.jpg", "thumbnail.jpg")] == [
        (150, 90),
        (150, 90),
    ]


async def test_a_tiff_of_16_bits_is_shown_by_its_full_range(api: Running) -> None:
    target = io.BytesIO()
    Image.fromarray(np.full((40, 60), 32896, np.uint16)).save(target, "TIFF")  # 32896 / 257 = 128
    shown = np.asarray(opened(await get(api, await posted(api, target.getvalue()), "preview.jpg")))
    assert shown.shape == (40, 60, 3)
    assert abs(int(shown.mean()) - 128) <= 1


async def test_a_preview_stands_upright(api: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    inspection_id = await posted(api, picture(60, 40, kind="JPEG", exif=exif))
    assert opened(await get(api, inspection_id, "preview.jpg")).size == (40, 60)


async def test_what_was_drawn_is_kept_and_a_preview_keeps_the_thumbnail_too(api: Running) -> None:
    inspection_id = await posted(api, picture(300, 200))
    first = await get(api, inspection_id, "preview.jpg")
    assert {path.name for path in api.stored()} == {"image", "preview.jpg", "thumbnail.jpg"}
    [image] = [path for path in api.stored() if path.name == "image"]
    image.unlink()
    assert (await get(api, inspection_id, "preview.jpg")).content == first.content
    assert opened(await get(api, inspection_id, "thumbnail.jpg")).size == (200, 133)


async def test_a_browser_that_has_a_picture_is_told_so(api: Running) -> None:
    inspection_id = await posted(api, picture())
    first = await get(api, inspection_id, "preview.jpg")
    again = await get(api, inspection_id, "preview.jpg", **{"If-None-Match": first.headers["etag"]})
    other = await get(api, inspection_id, "image", **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert other.status_code == 200
    assert other.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_heat_has_the_heatmaps_colours_and_is_clear_below_the_limit(
    api: Running, client: redis.Redis, at_once: bool
) -> None:
    inspection_id = await inspected(api, client, picture(), at_once=at_once)
    layer = np.asarray(opened(await get(api, inspection_id, "heat.png")))
    assert layer.shape == (20, 30, 4)
    np.testing.assert_array_equal(layer[:, :, 3] == 255, MAP >= LIMIT)
    np.testing.assert_array_equal(layer[:, :, 3] == 0, MAP < LIMIT)
    np.testing.assert_array_equal(layer[:, :, :3][MAP >= LIMIT], heatmap(MAP, TOP)[MAP >= LIMIT])
    assert "heat.png" in {path.name for path in api.stored()}


async def test_heat_is_of_the_attempt_whose_result_is_shown(api: Running, client: redis.Redis) -> None:
    inspection_id = await posted(api, picture())
    queue = JobQueue(client, lease_ms=60_000)
    queue.hand_back(queue.claim(1)[0])
    [claimed] = queue.claim(1)
    for attempt, value in ((1, 2.0), (2, 0.25)):  # the first one's worker slept past its lease, and stored all the same
        drawing = Drawing(np.full((20, 30), value, np.float32), TOP, LIMIT).to_bytes()
        api.services.artifacts.put(claimed.id, "drawing.npz", drawing, attempt)
    api.services.artifacts.put(claimed.id, "heat.png", b"of the first attempt")
    queue.complete(claimed, result_of(claimed, artifacts=DRAWN_NAMES))
    for _ in range(2):  # drawn, and then stored
        assert np.asarray(opened(await get(api, inspection_id, "heat.png"))).max() == 0


async def test_an_inspection_without_a_map_has_no_heat(api: Running) -> None:
    answer = await get(api, await posted(api, picture()), "heat.png")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:unknown-artifact")


async def test_an_image_that_is_no_longer_kept_or_decodes_no_more_has_no_preview(api: Running) -> None:
    gone, broken = await posted(api, picture()), await posted(api, picture())
    api.services.artifacts.remove(api.services.artifacts.ref(gone, "image"))
    api.services.artifacts.put(broken, "image", picture()[:60])
    answers = [await get(api, one, "thumbnail.jpg") for one in (gone, broken)]
    assert [(one.status_code, one.json()["type"]) for one in answers] == [
        (404, "urn:glad:problem:unknown-artifact")
    ] * 2
    assert "cannot be drawn" in answers[1].json()["detail"]


async def test_older_clients_see_no_artifact_that_they_do_not_know(api: Running, client: redis.Redis) -> None:
    inspection_id = await inspected(api, client, picture(), at_once=True)
    links: dict[str, Any] = (await api.http.get(f"/v1/inspections/{inspection_id}")).json()["artifacts"]
    assert not set(SCREEN_PICTURE_NAMES) & set(links)


async def test_an_event_has_what_a_display_shows_of_the_verdict(api: Running, client: redis.Redis) -> None:
    answer = await api.http.post(URL, content=picture(), params={"station": "line-3"})
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, 1.5))
    rows: Any = client.xrange(keys.EVENTS)
    event = Event.model_validate_json(rows[-1][1]["event"])
    assert (event.score, event.calibrated_score) == (1.5, 1.5 / (1.5 + 1.0))  # score / (score + fail threshold)
    assert event.thresholds is not None
    assert event.thresholds.model_dump() == THRESHOLDS.model_dump()
    assert event.thresholds is not None
    assert event.thresholds.model_dump() == THRESHOLDS.model_dump()
    assert event.denoising_step == findings().denoising_step
    assert event.accepted_at is not None
    assert event.accepted_at.isoformat()[:22] == answer.json()["accepted_at"][:22]
    assert event.hold is None
