"""The service as processes: stopping, crashing, restarting, and consistency between workers."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.builders import NO_VERIFIED, VERIFIED, basic, web_id
from tests.conftest import fresh_database
from tests.postgres.test_embedded import servers
from tests.running import COMMAND, Running, as_json, environment, free_port, running


def set_up(env: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Create a company with a key but no domains, and a certificate for acme.example."""
    as_json("account", "create", "Acme, Inc.", "--email", "jo@acme.example", env=env)
    key = as_json("key", "create", "Acme, Inc.", env=env)["api_key"]
    cert_id = web_id()
    line = f'{{"cert_id": "{cert_id}", "insights": {{"properties": {{"domain": "acme.example"}}}}}}'
    as_json("import", "-", env=env, stdin=line.encode())
    return cert_id, basic(key)


def confirmed_owner(client: httpx.Client, cert_id: str, headers: dict[str, str]) -> httpx.Response:
    return client.post(
        f"/{cert_id}", headers=headers, json={"insights": {"properties": ["confirmed_owner"]}}
    )


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_service_stops_cleanly_when_told_to(
    state_dir: Path, tmp_path: Path, by: signal.Signals
) -> None:
    with running(environment(state_dir), tmp_path / "log") as service:
        workers = service.workers()
        assert len(servers(state_dir)) == 1
        assert service.stop(by) == 0
    assert not any(worker.is_running() for worker in workers)
    assert servers(state_dir) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_ctrl_c_in_a_terminal_reaches_everything_and_loses_nothing(
    state_dir: Path, tmp_path: Path
) -> None:
    env = environment(state_dir)
    with running(env, tmp_path / "log") as service:
        # A terminal signals the whole foreground process group, not just one process.
        for process in [psutil.Process(service.process.pid), *service.workers()]:
            process.send_signal(signal.SIGINT)
        assert service.process.wait(15) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    with running(env, tmp_path / "log"):
        pass
    (database_log,) = tmp_path.rglob("postgres/log")
    assert "not properly shut down" not in database_log.read_text()


@pytest.mark.parametrize("after", [0.3, 0.5, 0.7, 1.0, 1.5])
def test_ctrl_c_at_any_moment_of_the_first_start_leaves_nothing_running(
    state_dir: Path, after: float
) -> None:
    env = environment(state_dir, PORT=str(free_port()))
    process = subprocess.Popen(
        [*COMMAND, "run"], env=env, start_new_session=True, stderr=subprocess.DEVNULL
    )
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(15)
    assert servers(state_dir) == []
    assert as_json("migrate", env=env) == {"schema": "current", "names_alike": []}


@pytest.fixture(scope="module")
async def served(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A running service whose database is another's."""
    directory = tmp_path_factory.mktemp("served")
    async with fresh_database(server_url) as url:
        with running(environment(directory, DATABASE_URL=url), directory / "log") as service:
            yield service


def test_killed_worker_is_replaced(served: Running) -> None:
    (worker,) = served.workers()
    worker.kill()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(f"{served.url}/ready", timeout=2).status_code == 200
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_no_tcp_port_but_the_services_own_is_opened(state_dir: Path, tmp_path: Path) -> None:
    with running(environment(state_dir), tmp_path / "log") as service:
        everyone = [psutil.Process(service.process.pid)]
        everyone += everyone[0].children(recursive=True) + servers(state_dir)
        ports = {
            connection.laddr.port
            for process in everyone
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert ports == {int(service.url.rpartition(":")[2])}


def test_only_http_1_is_spoken_and_only_short_heads_are_read(served: Running) -> None:
    # A connection preface and an empty SETTINGS frame (RFC 9113, section 3.4).
    http_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + b"\x00" * 5
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/health", headers={"X-Long": "x" * 50_000}).status_code == 200
        assert client.get("/health", headers={"X-Long": "x" * 70_000}).status_code == 431
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(http_2)
        answer = connection.recv(1000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_more_silent_connections_than_requests_at_once_keep_nobody_out(
    served: Running,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=5))
        began = time.monotonic()
        assert httpx.get(f"{served.url}/health", timeout=5).status_code == 200
        assert httpx.get(f"{served.url}/ready", timeout=5).status_code == 200
        assert time.monotonic() - began < 2


def test_change_by_another_process_shows_in_the_next_call_of_every_worker(
    env: dict[str, str], tmp_path: Path
) -> None:
    env["WORKERS"] = "3"
    cert_id, headers = set_up(env)

    def told_by_everyone() -> set[str]:
        told = set()
        for _ in range(24):
            # A new connection for each call, to reach all workers.
            response = confirmed_owner(client, cert_id, {**headers, "Connection": "close"})
            told.add(response.json()["insights"]["properties"]["confirmed_owner"])
        return told

    with (
        running(env, tmp_path / "log") as service,
        httpx.Client(base_url=service.url) as client,
    ):
        assert told_by_everyone() == {NO_VERIFIED}
        as_json("domain", "attest", "Acme, Inc.", "acme.example", env=env)
        assert told_by_everyone() == {"Acme, Inc."}
        as_json("account", "create", "Other, Inc.", "--email", "al@other.example", env=env)
        as_json("domain", "attest", "Other, Inc.", "acme.example", "--replace", env=env)
        assert told_by_everyone() == {VERIFIED}
        metrics = httpx.get(f"{service.url}/metrics").text
        assert 'confirmed_owner_requests_total{status="200"} 72.0' in metrics
