"""File names that are not UTF-8, and closed folders: each such file is inspected or named, and none ends a watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from glad_client.camera.destination import Destination, Labels
from glad_client.camera.hot_folder import HotFolder
from glad_client.camera.journal import JOURNAL
from glad_client.client import Client
from tests.support.hot_folders import accepted, put, settled_at_once
from tests.support.line import picture
from tests.support.processes import eventually

LATIN = os.fsdecode(b"h\xe4lfte_SN7.png")
"""A name as an old Windows program writes it: `ä` in one byte."""
READABLE = "h\\xe4lfte_SN7.png"


def test_an_image_whose_name_is_not_utf8_is_inspected_moved_and_known_after_a_restart(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    put(folder, LATIN, at=1_700_000_000)
    put(folder, "other.png", picture(colour="red"), at=1_700_000_001)
    labels = Labels.parse([], r"(?P<serial>SN\d+|other)")
    hot = HotFolder(service, Destination("toy", labels=labels), folder, settle_s=0)
    odd, other = hot.poll()
    assert (odd.file, other.file) == (READABLE, "other.png")
    assert odd.inspection is not None
    assert odd.inspection.serial == "SN7"
    assert list(settled_at_once(service, folder, tmp_path / "done").poll()) == [], "known after a restart, and moved"
    assert sorted(os.listdir(os.fsencode(tmp_path / "done"))) == [os.fsencode(LATIN), b"other.png"]
    assert accepted(client) == 2


def test_a_half_whose_name_is_not_utf8_comes_back_after_a_restart(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    whole, done = picture(300, 200), tmp_path / os.fsdecode(b"fertig-\xfc")
    hot = settled_at_once(service, folder, done)
    with (folder / LATIN).open("wb", buffering=0) as writer:
        writer.write(whole[:100])
        assert [shot.is_accepted for shot in hot.poll()] == [False]
        assert list(hot.poll()) == []
        assert (done / "refused" / LATIN).exists()
        hot = settled_at_once(service, folder, done)
        writer.write(whole[100:])
    assert [(shot.file, shot.is_accepted) for shot in hot.poll()] == [(READABLE, False), (READABLE, True)]
    assert accepted(client) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_not_be_entered_is_named_once_and_stops_no_other_image(
    service: Client, folder: Path, client: redis.Redis
) -> None:
    closed = put(folder, "closed/a.png").parent
    put(folder, "b.png")
    closed.chmod(0o600)
    try:
        hot = settled_at_once(service, folder)
        told, sent = hot.poll()
        assert (told.file, sent.file, sent.is_accepted) == ("closed/a.png", "b.png", True)
        assert "Permission denied" in str(told.error)
        assert list(hot.poll()) == []
    finally:
        closed.chmod(0o700)
    assert [shot.file for shot in hot.poll()] == ["closed/a.png"]
    assert accepted(client) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_commands_print_such_names_and_go_on(
    url: str, folder: Path, client: redis.Redis, tmp_path: Path, encoding: str
) -> None:
    put(folder, LATIN)
    put(folder, "日本.png", picture(colour="red"))
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "glad", "camera", str(folder), "--product", "toy", "--url", url, "--no-wait"]
    once = subprocess.run(
        [*command, "--json", str(tmp_path / "shots.json")], capture_output=True, env=environment, check=False
    )
    assert once.returncode == 0, once.stderr
    assert READABLE.encode() in once.stdout
    shots = json.loads((tmp_path / "shots.json").read_text(encoding="utf-8"))["shots"]
    assert {shot["file"] for shot in shots} == {READABLE, "日本.png"}
    output = tmp_path / "output"
    with (
        output.open("wb") as target,
        subprocess.Popen(
            [*command, "--watch", "--settle", "0"], stdout=target, stderr=target, env=environment
        ) as watch,
    ):
        eventually(lambda: (folder / JOURNAL).exists() and (folder / JOURNAL).read_bytes().count(b"\n") == 2)
        watch.send_signal(signal.SIGTERM)
    assert watch.returncode == 0, output.read_text()
    assert READABLE.encode() in output.read_bytes()
    assert accepted(client) == 2, "the watch sends the same keys"
