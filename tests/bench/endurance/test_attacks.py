"""Misuse in small: the command attacks a real service, and says what a camera and the probes noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.attack_kinds import ATTACKS
from bench.endurance.attacks import NOBODY, AttackOutcome, AttackPlan, run_attacks
from bench.endurance.honest_camera import CameraTally, ProbeTally
from bench.support.process_watch import MIB, family_bytes
from tests.support.manifests import pod_memory_bytes
from tests.support.processes import children_of

pytestmark = pytest.mark.timeout(600)  # real processes: slow where other work shares the machine


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads what Linux counts")
def test_a_camera_is_accepted_and_gets_its_results_while_others_misuse_the_service(tmp_path: Path) -> None:
    file, names = tmp_path / "report.json", ["endless-trailers", "large-json", "silent-to-worker"]
    words = ["attacks", "--only", ",".join(names), "--seconds", "3", "--json", str(file)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code in {0, 1}, done.output  # 1: an answer took too long on a busy machine
    figures = json.loads(file.read_text())["figures"]
    outcomes = {one["attack"]: one for one in figures["outcomes"]}
    assert list(outcomes) == [NOBODY, *names]
    for one in outcomes.values():
        assert one["camera"]["posted"] == one["camera"]["accepted"] > 0
        assert (one["camera"]["refused"], one["camera"]["lost"], one["restarted"]) == ({}, 0, False)
        assert 0 < one["peak_mib"] < figures["limit_mib"]
    assert outcomes[NOBODY]["tries"] == {}
    assert set(outcomes["large-json"]["tries"]) <= {"answered 400", "answered 403", "answered 413"}
    assert outcomes["silent-to-worker"]["tries"]["ended by the service"] > 100


KEPT = CameraTally(9, 9, {}, median_accept_s=0.1, slowest_accept_s=0.2, slowest_result_s=2.0, lost=0)
WELL = {"/health/live": ProbeTally(9, 4, 2, 5.0), "/health/ready": ProbeTally(9, 1, 1, 5.0)}


@pytest.mark.parametrize(
    ("camera", "probes", "peak_mib", "restarted", "expected"),
    [
        (KEPT, WELL, 4000.0, False, ()),
        (KEPT, WELL, 5000.0, False, ("the API took 5000 MiB; its pod has 4608",)),
        (KEPT, WELL, 4000.0, True, ("the API or the worker was started again",)),
        (KEPT, WELL | {"/health/live": ProbeTally(9, 3, 3, 5)}, 1.0, False, ("/health/live failed 3 times in a row",)),
        (
            KEPT,
            WELL | {"/health/ready": ProbeTally(9, 3, 2, 5)},
            1.0,
            False,
            ("/health/ready failed 2 times in a row",),
        ),
        (
            CameraTally(9, 7, {"429 backlog-full": 2}, 0.1, 11.0, 2.0, lost=1),
            WELL,
            1.0,
            False,
            (
                "the camera was refused: 2 x 429 backlog-full",
                "an image was accepted after 11 s; a client waits 10 s",
                "1 of the camera's images have no verdict",
            ),
        ),
    ],
)
def test_each_broken_promise_is_said(
    camera: CameraTally, probes: dict[str, ProbeTally], peak_mib: float, restarted: bool, expected: tuple[str, ...]
) -> None:
    outcome = AttackOutcome("probes", {}, camera, probes, peak_mib, restarted)
    assert outcome.broken_promises(limit_mib=4608) == expected


def test_an_attack_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no attack typo: choose of silent-after-refusal"):
        run_attacks(AttackPlan(("typo",)), tmp_path, print)
    done = CliRunner().invoke(cli.app, ["attacks", "--only", "typo"])
    assert done.exit_code != 0
    assert all(name.replace("-", "").isalpha() for name in ATTACKS)


def test_the_limit_is_that_of_the_manifest() -> None:
    # limits: {cpu: "2", memory: 4608Mi}
    assert pod_memory_bytes("glad-api") == 4608 * MIB


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads what Linux counts")
def test_the_memory_of_a_family_is_that_of_parent_and_children(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    hold = "x = bytearray(b'1' * (50 << 20)); print(flush=True); import sys; sys.stdin.read()"
    before = family_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in children_of(os.getpid())
        assert family_bytes(os.getpid()) - before > 50 << 20
        child.kill()
