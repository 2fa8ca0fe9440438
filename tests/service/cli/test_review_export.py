"""Reviewed images as a data folder that training and evaluation read, by `glad reviews export` and as a ZIP file."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image
from typer.testing import CliRunner

from glad_client.client import Client
from glad_client.results import Decision, Result
from glad_client.reviews import ReviewPlanSettings
from service.api.running_exports import MOST_EXPORTS
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.cli.reviews import app
from service.queue import keys
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer
from tests.support.working import working
from training.data import dataset

HOSTILE = '=cmd|"/../../x\\;<b>é'
Export = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def settings(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    """Of a service with a data folder of its own."""
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path / "data")


@pytest.fixture
def service(settings: Settings) -> Iterator[Client]:
    """A client of a real service whose worker gives the scores 0.25, 0.5, 0.75, …"""
    with server_on(settings) as url, working(settings), Client(url, patience_s=10) as client:
        yield client


@pytest.fixture
def export(service: Client, tmp_path: Path) -> Export:
    """Exports into one folder, again and again; returns the labels that stand there."""

    def run(*words: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(app, ["export", str(tmp_path / "out"), "--url", service.url, *words])
        assert done.exit_code == 0, done.output
        lines = (tmp_path / "out" / "toy" / "labels.jsonl").read_text().split("\n")
        return [json.loads(line) for line in lines if line]

    return run


def inspect(service: Client, colour: str = "teal", **fields: str) -> Result:
    """An image that was inspected."""
    return service.inspect("toy", picture(colour=colour), fields=fields)


def files(root: Path) -> set[str]:
    """Every file below, relative."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def review(service: Client, inspection: Result, decision: str, **fields: Any) -> None:
    """A person's decision, with code and regions."""
    body = {"decision": decision, "by": "ann", **fields}
    httpx.post(f"{service.url}/v1/inspections/{inspection.id}/review", json=body).raise_for_status()


def test_reviewed_images_become_a_folder_that_training_reads(service: Client, export: Export, tmp_path: Path) -> None:
    good = inspect(service, serial="SN-1", lot="L-1")
    twin = inspect(service, "navy", serial="SN-1")
    drawn = inspect(service, "olive", serial=HOSTILE)
    undrawn = inspect(service, "black")
    unseen = inspect(service, "white")
    for one in (good, twin):
        review(service, one, "ok")
    review(service, drawn, "defect", defect_code="scratch", regions=[[1, 2, 10, 5], [20, 0, 10, 3]])
    review(service, undrawn, "defect", defect_code="scratch", note="first line\u2028second")  # copied out of a document
    assert export() == (labels := export())  # the second one reads the labels of the first
    images = dataset.test_images(tmp_path / "out" / "toy")  # as `glad evaluate` reads them
    assert sorted((one.defect, one.mask is not None) for one in images) == [
        ("good", False),
        ("good", False),
        ("scratch", True),
        ("scratch_no_mask", False),
    ]
    [marked] = [one for one in images if one.mask is not None]
    assert marked.mask is not None
    expected = np.zeros((20, 30), bool)
    expected[2:7, 1:11] = expected[0:3, 20:30] = True
    assert (dataset.read_mask(marked.mask) == expected).all()
    assert marked.path.read_bytes() == picture(colour="olive")
    assert marked.path.name == f"cmd-x-b_{drawn.id}.png"
    with (tmp_path / "out" / "toy" / "groups.csv").open(newline="") as file:
        rows = {row["file"].removesuffix(".png")[-36:]: row for row in csv.DictReader(file)}
    assert rows[good.id]["part_group"] == rows[twin.id]["part_group"] == "part-SN-1"
    assert (rows[drawn.id]["part_group"], rows[undrawn.id]["part_group"]) == (f"part-{HOSTILE}", f"image-{undrawn.id}")
    assert unseen.id not in rows
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows.values() for value in row.values())
    assert [(one["label"], one["decision"], one["by"], one["verdict"], one["score"]) for one in labels] == [
        ("good", "ok", "ann", "pass", 0.25),
        ("good", "ok", "ann", "review", 0.5),
        ("scratch", "defect", "ann", "review", 0.75),
        ("scratch_no_mask", "defect", "ann", "fail", 1.0),
    ]


def test_a_later_export_copies_what_is_new_and_moves_what_got_another_label(
    service: Client, export: Export, tmp_path: Path, client: redis.Redis
) -> None:
    first, second = inspect(service, serial="A"), inspect(service, "navy", serial="B")
    gone = inspect(service, "olive", serial="C")
    for one in (first, second, gone):
        review(service, one, "defect", regions=[[0, 0, 5, 5]])
    export()
    root = tmp_path / "out" / "toy"
    broken = root / "test" / "defect" / f"A_{first.id}.png"
    broken.write_bytes(b"cut off")
    stranger = root / "test" / "defect" / "mine.png"
    stranger.write_bytes(b"of somebody else")
    review(service, second, "ok")
    client.delete(keys.inspection(gone.id))
    client.zrem(keys.HISTORY, gone.id)
    labels = export()
    assert [one["label"] for one in labels] == ["defect", "good", "defect"]
    assert broken.read_bytes() == picture()
    assert files(root) == {
        "groups.csv",
        "labels.jsonl",
        f"test/defect/A_{first.id}.png",
        f"ground_truth/defect/A_{first.id}_mask.png",
        f"test/good/B_{second.id}.png",
        f"test/defect/C_{gone.id}.png",
        f"ground_truth/defect/C_{gone.id}_mask.png",
        "test/defect/mine.png",
    }
    service.reviews.withdraw(second.id, by="ann")
    service.reviews.withdraw(second.id, by="ann")
    assert [one["serial"] for one in export()] == ["A", "C"]
    assert not (root / "test" / "good").exists()


def test_an_export_that_was_cut_off_goes_on_where_it_was(
    service: Client, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for colour in ("teal", "navy", "olive"):
        review(service, inspect(service, colour), "ok")
    fetch, fetched = Client.artifact, list[str]()

    def cut_off(self: Client, inspection_id: str, name: Any) -> bytes:
        if len(fetched) == 2:
            raise KeyboardInterrupt
        fetched.append(inspection_id)
        return fetch(self, inspection_id, name)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "artifact", cut_off)
        CliRunner().invoke(app, ["export", str(tmp_path / "out"), "--url", service.url])
    assert len(files(tmp_path / "out")) == 2
    again: list[str] = []

    def note(self: Client, inspection_id: str, name: Any) -> bytes:
        again.append(inspection_id)
        return fetch(self, inspection_id, name)

    monkeypatch.setattr(Client, "artifact", note)
    assert len(export()) == 3
    assert len(again) == 1
    assert not set(again) & set(fetched)


def test_the_audit_alone_is_exported_with_its_probability(service: Client, export: Export) -> None:
    service.reviews.set_plan("toy", ReviewPlanSettings(audit_share=1.0))
    audited = inspect(service)
    service.reviews.set_plan("toy", ReviewPlanSettings())
    review(service, inspect(service), "ok")
    task = service.reviews.next("ann")
    assert task is not None
    service.reviews.answer(task, Decision.DEFECT, by="ann")
    review(service, audited, "ok")  # afterwards, not blind: the label changes, and the audit's answer stays
    [label] = export("--audit-only", "--product", "toy")
    assert (label["inspection_id"], label["label"]) == (audited.id, "good")
    assert (label["audit"]["audit"], label["audit"]["decision"], label["audit"]["blind"]) == (1.0, "defect", True)
    assert len(export()) == 2


def test_the_zip_file_is_the_folder(service: Client, export: Export, tmp_path: Path) -> None:
    review(service, inspect(service, serial="A"), "ok")
    review(service, inspect(service, "navy"), "defect", regions=[[0, 0, 5, 5]])
    export()
    answer = httpx.get(f"{service.url}/v1/reviews/export.zip", params={"product": "toy"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.testzip() is None
        found = {name: file.read(name) for name in file.namelist()}
    root = tmp_path / "out"
    assert found == {name: (root / name).read_bytes() for name in files(root)}


def test_a_zip_file_whose_images_are_swept_while_it_is_sent_ends_whole_and_names_what_is_missing(
    service: Client, settings: Settings
) -> None:
    large, swept, changed, last = (
        service.inspect("toy", content, fields={"serial": serial})
        for content, serial in (
            (more_than_a_connection_holds(), "-1"),
            (picture(), "=2"),
            (picture(colour="navy"), "3"),
            (picture(colour="olive"), "4"),
        )
    )
    for one in (large, swept, changed, last):
        review(service, one, "ok")
    images = ArtifactStore(settings.artifacts)
    received = bytearray()
    with (
        httpx.Client() as http,
        suppress(httpx.RemoteProtocolError),  # cut off
        http.stream("GET", f"{service.url}/v1/reviews/export.zip", params={"product": "toy"}) as answer,
    ):
        pieces = answer.iter_raw()
        received += next(pieces)
        for one in (large, swept):
            images.remove(ArtifactStore.ref(one.id, "image"))
        images.put(changed.id, "image", b"other bytes")
        received.extend(b"".join(pieces))
    assert zipfile.is_zipfile(io.BytesIO(received))
    with zipfile.ZipFile(io.BytesIO(received)) as file:
        assert file.testzip() is None
        assert file.comment == b"2 of 4 reviewed images are missing: toy/missing.csv says which and why"
        assert file.read("toy/missing.csv").decode() == (
            "inspection_id,serial,label,reason\r\n"
            f"{swept.id},'=2,good,no longer kept\r\n"
            f"{changed.id},3,good,the stored image is not the one that was inspected\r\n"
        )
        assert {name.rpartition("/")[2] for name in file.namelist()} == {
            f"1_{large.id}.bmp",
            f"4_{last.id}.png",
            "groups.csv",
            "labels.jsonl",
            "missing.csv",
        }
        assert len(file.read("toy/labels.jsonl").splitlines()) == len(file.read("toy/groups.csv").splitlines()) - 1 == 2


def test_a_folder_names_what_is_missing_until_it_is_there(
    service: Client, export: Export, tmp_path: Path, settings: Settings
) -> None:
    kept, changed = inspect(service), inspect(service, "navy", serial="=1")
    for one in (kept, changed):
        review(service, one, "defect")
    images, missing = ArtifactStore(settings.artifacts), tmp_path / "out" / "toy" / "missing.csv"
    images.put(changed.id, "image", b"other bytes")
    assert [label["inspection_id"] for label in export()] == [kept.id]
    reason = "the stored image is not the one that was inspected"
    assert missing.read_text().splitlines()[1:] == [f"{changed.id},'=1,defect_no_mask,{reason}"]
    images.put(changed.id, "image", picture(colour="navy"))
    assert len(export()) == 2
    assert not missing.exists()


def more_than_a_connection_holds() -> bytes:
    """An image of 12 MB: the service waits for a client that does not read."""
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "BMP")
    return content.getvalue()


def test_so_many_exports_are_sent_at_a_time_and_one_that_is_left_makes_room(service: Client) -> None:
    review(service, service.inspect("toy", more_than_a_connection_holds()), "ok")
    url, query = f"{service.url}/v1/reviews/export.zip", {"product": "toy"}
    with ExitStack() as stack:
        http = stack.enter_context(httpx.Client())
        running = [stack.enter_context(http.stream("GET", url, params=query)) for _ in range(MOST_EXPORTS)]
        refused = http.get(url, params=query)
        assert {one.status_code for one in running} == {200}
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:glad:problem:too-many-exports")
        assert int(refused.headers["retry-after"]) > 0
    eventually(lambda: httpx.get(url, params=query).status_code == 200)


def test_one_key_has_at_most_half_of_the_exports(service: Client, client: redis.Redis) -> None:
    review(service, service.inspect("toy", more_than_a_connection_holds()), "ok")
    misused, other = ({"X-API-Key": KeyStore(client).create(name, [Scope.READ])} for name in ("misused", "other"))
    url, query = f"{service.url}/v1/reviews/export.zip", {"product": "toy"}
    eventually(lambda: httpx.get(f"{service.url}/v1/history").status_code == 401)  # it has seen that there are keys
    with ExitStack() as stack:
        http = stack.enter_context(httpx.Client(params=query))
        for key in (misused, other):
            running = [stack.enter_context(http.stream("GET", url, headers=key)) for _ in range(3)]
            assert [one.status_code for one in running] == [200, 200, 429]
            refused = json.loads(running[2].read())
            assert (refused["type"], "half of the 4" in refused["detail"]) == (
                "urn:glad:problem:too-many-exports",
                True,
            )
            assert int(running[2].headers["retry-after"]) > 0
    eventually(lambda: httpx.get(url, params=query, headers=misused).status_code == 200)


def test_the_summary_is_told_in_words(service: Client) -> None:
    review(service, inspect(service), "ok")
    shown = CliRunner().invoke(app, ["summary", "--url", service.url])
    assert "reviewed: 1 images; 0 reviews were withdrawn" in shown.output
    assert "  pass          1 ok      0 defect" in shown.output
    as_json = json.loads(CliRunner().invoke(app, ["summary", "--json", "--url", service.url]).output)
    assert as_json["agreement"]["pass"] == {"ok": 1, "defect": 0}
