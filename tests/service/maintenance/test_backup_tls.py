"""Backup and restore of a Redis elsewhere: over TLS, with a password, with a certificate of the client's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from service.host.child_process import Child
from service.host.private_redis import find_redis, redis_command, socket_path
from service.maintenance.backup.make import make_backup
from service.maintenance.backup.record import BackupError
from service.maintenance.backup.restore import restore_backup
from service.queue.connection import connect
from service.settings import Settings
from tests.support.processes import eventually, free_port

KEY = "glad:v1:turns:default"
SECRET = "s3cret"


def quiet(_: str) -> None:
    """Nobody watches."""


class Certificates:
    """Of an authority, a server and a client, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self.cert, append=True)

    @property
    def for_server(self) -> list[str]:
        return ["--tls-ca-cert-file", str(self.ca), "--tls-cert-file", str(self.cert), "--tls-key-file", str(self.key)]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates(folder)


def find_tls_redis() -> Path:
    """The server that the product finds, if it was built with TLS: Debian's was, that of Python's wheel was not."""
    binary = find_redis()
    refused = subprocess.run(
        [binary, "--tls-port", "1", "--port", "0", "--dir", "/nonexistent"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "tls-port" in refused.stdout + refused.stderr:
        pytest.skip(f"{binary} was built without TLS: put another redis-server on PATH, such as Debian's")
    return binary


class TlsRedis:
    """A server that can be reached by TLS alone, with an append-only file."""

    def __init__(self, folder: Path, certificates: Certificates, *options: str) -> None:
        self.port, self.folder = free_port(), folder
        command = redis_command(find_tls_redis(), folder, socket_path(folder))
        tls = ["--unixsocket", "", "--tls-port", str(self.port), "--requirepass", SECRET, *certificates.for_server]
        self._child = Child("Redis", [*command, *tls, *options], log=folder / "redis.log")

    def start(self, url: str) -> None:
        self._child.start()
        with connect(url) as client:
            eventually(lambda: redis_answers(client))

    def kill(self) -> None:
        self._child.kill()


def redis_answers(client: redis.Redis) -> bool:
    """It listens already."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(params=["no", "yes"], ids=["server's certificate", "both certificates"])
def elsewhere(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates
) -> Iterator[tuple[TlsRedis, str]]:
    """A running server with one key, and its URL."""
    server = TlsRedis(tmp_path / "elsewhere", certificates, "--tls-auth-clients", request.param)
    url = f"rediss://:{SECRET}@127.0.0.1:{server.port}/0?ssl_ca_certs={certificates.ca}"
    if request.param == "yes":
        url += f"&ssl_certfile={certificates.cert}&ssl_keyfile={certificates.key}"
    server.start(url)
    with connect(url) as client:
        client.set(KEY, 3)
    yield server, url
    server.kill()


def test_a_redis_that_speaks_tls_is_backed_up_and_gets_its_contents_back(
    elsewhere: tuple[TlsRedis, str], tmp_path: Path
) -> None:
    server, url = elsewhere
    made = make_backup(Settings(data_dir=tmp_path / "here", redis_url=url), tmp_path / "backups", quiet)
    server.kill()
    shutil.rmtree(server.folder / "redis")
    restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)
    shutil.move(tmp_path / "new" / "redis", server.folder / "redis")  # as docs/backup.md says
    server.start(url)
    with connect(url) as client:
        assert client.get(KEY) == "3"


def test_a_server_that_nobody_vouches_for_gives_no_backup_unless_that_is_wanted(
    tmp_path: Path, certificates: Certificates
) -> None:
    server = TlsRedis(tmp_path / "elsewhere", certificates, "--tls-auth-clients", "no")
    unknown = f"rediss://:{SECRET}@127.0.0.1:{server.port}/0"
    insecure = f"{unknown}?ssl_cert_reqs=none"
    try:
        server.start(insecure)
        here = Settings(data_dir=tmp_path / "here", redis_url=unknown)
        with pytest.raises((BackupError, redis.RedisError), match="certificate verify failed"):
            make_backup(here, tmp_path / "backups", quiet)
        make_backup(here.model_copy(update={"redis_url": insecure}), tmp_path / "backups", quiet)
    finally:
        server.kill()
