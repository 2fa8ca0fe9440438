"""Records a small installation as a backup, for later versions to restore: see
tests/service/maintenance/test_recorded.py.

    python -m tests.support.record_installation \\
        tests/service/maintenance/recorded/schema-1 --redis-bin PATH/TO/redis-server

Made anew only for a new schema; what an older version wrote is never made again. The Redis should be the oldest that is
supported, 6.2: every later one reads its snapshots. Results are kept for 30 years, since Redis drops what has expired
when it loads a snapshot.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx
import psutil

from glad_client.client import Client
from tests.service.host.test_supervisor import Served, serve
from tests.service.worker.conftest import png
from tests.support.shell import glad
from tests.support.tiny_bundle import QUICK, make_tiny_bundle

THIRTY_YEARS_S = "946080000"
SETTINGS = {"GLAD_RESULT_TTL_S": THIRTY_YEARS_S, "GLAD_ARTIFACTS_MAX_AGE_S": THIRTY_YEARS_S}
"""With which it is recorded, and has to be served again."""
STATION = {"product": "toy", "lot": "L-7", "expected_views": ["top", "side"]}


def record(target: Path, redis_bin: Path) -> None:
    """Makes the backup and `expected.json` beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = folder / "data"
        make_tiny_bundle(data / "store", **QUICK)
        words = ("--scope", "submit,read,review,admin", "--redis-bin", str(redis_bin))
        made = glad("key", "create", "mes", *words, **_at(data))
        assert made.returncode == 0, made.stderr
        key = next(word for word in made.stdout.split() if word.startswith("glad_"))
        served = serve(folder, "--redis-bin", str(redis_bin), **SETTINGS)
        try:
            served.wait_for_banner()
            expected = {"key": key, **_live(served, key)}
            done = glad("backup", str(folder / "backups"), **_at(data))
            assert done.returncode == 0, done.stderr
        finally:
            served.process.kill()
        (backup,) = (folder / "backups").glob("2*")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(backup, target / "backup")
        (target / "expected.json").write_text(json.dumps(expected, indent=2, sort_keys=True) + "\n")


def _at(data: Path) -> dict[str, str]:
    return {"GLAD_DATA_DIR": str(data)}


def _live(served: Served, key: str) -> dict[str, Any]:
    """Ended inspections of each kind, then three that are left in the queue."""
    bearer = {"Authorization": f"Bearer {key}"}
    with Client(served.url, api_key=key) as client, httpx.Client(base_url=served.url, headers=bearer) as http:
        http.put("/v1/stations/line-1", json=STATION).raise_for_status()
        done = [client.submit("toy", png(seed), wait_s=30, fields={"serial": f"SN-{seed}"}) for seed in range(3)]
        review = {"decision": "defect", "note": "a scratch", "by": "a.meier"}
        http.post(f"/v1/inspections/{done[0].id}/review", json=review).raise_for_status()
        _stop_worker(served)
        queued = [
            client.submit("toy", png(seed), idempotency_key=f"part-{seed}", fields={"priority": priority})
            for seed, priority in ((10, "normal"), (11, "high"), (12, "normal"))
        ]
        ended = [http.get(f"/v1/inspections/{one.id}").json() for one in done]
    return {"ended": ended, "queued": {one.id: f"part-{seed}" for seed, one in zip((10, 11, 12), queued, strict=True)}}


def _stop_worker(served: Served) -> None:
    children = psutil.Process(served.process.pid).children()
    next(child for child in children if "service.worker.main" in child.cmdline()).suspend()


def main() -> None:
    """As a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--redis-bin", type=Path, required=True)
    given = parser.parse_args()
    record(given.target, given.redis_bin)


if __name__ == "__main__":
    main()
