"""The embedded PostgreSQL, run as every kind of user available here."""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from service.postgres import namespace, system_user
from service.postgres.embedded import embedded_postgres
from service.postgres.place import LONGEST_LOG, EmbeddedDatabaseError, killed_on_failure, package
from tests.running import ROOT

# Root runs it in a namespace, or as a dedicated user where namespaces are refused.
WAYS = ["namespace", "system user"] if os.geteuid() == 0 else ["ordinary user"]

HOLD = """
import sys, pathlib
from service.postgres.embedded import embedded_postgres
with embedded_postgres(pathlib.Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def system_home() -> Iterator[Path]:
    """A directory for the system user's servers. That user can't enter this user's directories."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, system_home: Path) -> str:
    if request.param == "system user":
        monkeypatch.setattr(namespace, "place_in_namespace", lambda home, binaries: None)
        monkeypatch.setattr(system_user, "SYSTEM_HOME", system_home)
    return str(request.param)


@pytest.fixture
def holder(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that uses the server."""
    process = begin(state_dir)
    assert process.stdout
    assert process.stdout.readline().startswith("postgresql://")
    yield process
    # Let it exit: if killed, it would leave its server running.
    process.communicate("")


def begin(state_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def servers(state_dir: Path) -> list[psutil.Process]:
    """The servers whose data is in this directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if f"{state_dir.resolve()}/postgres/data" in command:
            found.append(process)
    return found


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def files_below(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


def modes(*paths: Path) -> dict[Path, int]:
    return {
        parent: stat.S_IMODE(parent.stat().st_mode)
        for path in paths
        for parent in (path, *path.parents)
    }


async def test_server_keeps_its_data_and_listens_on_no_port(way: str, state_dir: Path) -> None:
    with embedded_postgres(state_dir) as url:
        await ask(url, "CREATE TABLE kept (n int)")
        assert await ask(url, "SHOW listen_addresses") == ""
        assert str(await ask(url, "SHOW server_version_num")) >= "180000"
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT count(*) FROM kept") == 0
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        await ask(url, "SELECT 1")


@pytest.mark.parametrize("first", WAYS)
async def test_data_are_never_left_behind_for_another_way(
    first: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch, system_home: Path
) -> None:
    monkeypatch.setattr(system_user, "SYSTEM_HOME", system_home)
    with monkeypatch.context() as patch:
        if first == "system user":
            patch.setattr(namespace, "place_in_namespace", lambda home, binaries: None)
        with embedded_postgres(state_dir) as url:
            await ask(url, "CREATE TABLE kept (n int)")
    if first == "namespace":
        monkeypatch.setattr(namespace, "place_in_namespace", lambda home, binaries: None)
        with pytest.raises(EmbeddedDatabaseError, match="namespace"), embedded_postgres(state_dir):
            pass
    else:
        with embedded_postgres(state_dir) as url:
            assert await ask(url, "SELECT count(*) FROM kept") == 0


async def test_no_directory_that_is_not_ours_changes_its_mode(way: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = package()
    everything = [wheel, *files_below(wheel), closed]
    before = modes(*everything)
    with embedded_postgres(closed / "below" / "state") as url:
        assert await ask(url, "SELECT 1") == 1
    assert modes(*everything) == before


async def test_data_and_socket_are_closed_to_others(way: str, state_dir: Path) -> None:
    with embedded_postgres(state_dir) as url:
        as_superuser = url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
        home = Path(str(await ask(as_superuser, "SHOW data_directory"))).parent
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((state_dir / "postgres").stat().st_mode) == 0o700


async def test_log_holds_no_statements_and_no_values(way: str, state_dir: Path) -> None:
    with embedded_postgres(state_dir) as url:
        as_superuser = url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
        log = Path(str(await ask(as_superuser, "SHOW data_directory"))).parent / "log"
        await ask(url, "CREATE TABLE told (name text PRIMARY KEY)")
        await ask(url, "INSERT INTO told VALUES ('Private Person')")
        before = log.stat().st_size
        for failing in (
            "INSERT INTO told VALUES ('Private Person')",
            "SELECT 'Private Person'::int",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await ask(url, failing)
        assert log.stat().st_size == before
    assert "Private Person" not in log.read_text()


async def test_long_log_is_rotated_while_the_server_writes_to_it(way: str, state_dir: Path) -> None:
    with embedded_postgres(state_dir, keep_running=True) as url:
        as_superuser = url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
        log = Path(str(await ask(as_superuser, "SHOW data_directory"))).parent / "log"
        with log.open("ab") as file:
            file.write(b"x" * (LONGEST_LOG + 1))
        deadline = time.monotonic() + 15
        while log.stat().st_size > LONGEST_LOG:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        old = log.with_name("log.1")
        assert old.read_bytes().endswith(b"x" * LONGEST_LOG)
        assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert "database system is shut down" in log.read_text()
    assert log.stat().st_size < LONGEST_LOG


async def test_state_below_a_very_long_path(way: str, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a" * 50] * 4)
    with embedded_postgres(deep) as url:
        assert await ask(url, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["with space", "quote'and\"", "comma,", "$(touch pwned)", "ünï"])
async def test_state_below_an_odd_path(way: str, tmp_path: Path, name: str) -> None:
    with embedded_postgres(tmp_path / name) as url:
        assert await ask(url, "SELECT 1") == 1
    assert "pwned" not in [path.name for path in files_below(tmp_path)]


async def test_server_stays_until_its_last_user_leaves(
    state_dir: Path, holder: subprocess.Popen[str]
) -> None:
    with embedded_postgres(state_dir) as url:
        assert len(servers(state_dir)) == 1
    assert await ask(url, "SELECT 1") == 1
    holder.communicate("")
    assert servers(state_dir) == []


async def test_killed_user_does_not_block_the_next(
    state_dir: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT 1") == 1
    assert servers(state_dir) == []


async def test_killed_server_is_started_again(
    state_dir: Path, holder: subprocess.Popen[str]
) -> None:
    with embedded_postgres(state_dir) as url:
        await ask(url, "CREATE TABLE kept (n int)")
    holder.kill()
    holder.wait()
    for process in servers(state_dir):
        process.kill()
    psutil.wait_procs(servers(state_dir), timeout=10)
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT count(*) FROM kept") == 0


async def test_server_that_dies_is_started_again_while_it_is_needed(state_dir: Path) -> None:
    with embedded_postgres(state_dir, keep_running=True) as url:
        await ask(url, "CREATE TABLE kept (n int)")
        (server,) = servers(state_dir)
        server.kill()
        deadline = time.monotonic() + 15
        while True:
            try:
                assert await ask(url, "SELECT count(*) FROM kept") == 0
                break
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline
                time.sleep(0.1)  # noqa: ASYNC251 - nothing else runs in this loop
    assert servers(state_dir) == []


async def test_backend_that_dies_takes_the_server_with_it_which_is_started_again(
    state_dir: Path,
) -> None:
    """PostgreSQL 18.4 stood still for good when it recovered by itself and its disk was full."""
    with embedded_postgres(state_dir, keep_running=True) as url:
        (server,) = servers(state_dir)
        connection = await asyncpg.connect(url)
        psutil.Process(connection.get_server_pid()).kill()
        connection.terminate()
        psutil.wait_procs([server], timeout=10)
        deadline = time.monotonic() + 15
        while not servers(state_dir):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert servers(state_dir) != [server]


async def test_server_that_has_just_ended_by_itself_does_not_block(state_dir: Path) -> None:
    with embedded_postgres(state_dir):
        pass
    data = state_dir / "postgres" / "data"
    pid_file = data / "postmaster.pid"
    pid_file.write_text("1")
    # What is left of the server: it removes its file as its last act.
    ending = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 0.3; rm postmaster.pid", cwd=data
    )
    with embedded_postgres(state_dir) as url:
        assert await ending.wait() == 0
        assert await ask(url, "SELECT 1") == 1


async def test_command_in_another_container_joins_the_server(
    state_dir: Path, holder: subprocess.Popen[str]
) -> None:
    container = ["unshare", "--pid", "--ipc", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        container += ["--user", "--map-root-user"]
    before = servers(state_dir)
    joined = await asyncio.to_thread(
        subprocess.run,
        # Where namespaces are refused, use just another process.
        [*(container if works(container) else []), sys.executable, "-c", HOLD, str(state_dir)],
        input="", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )  # fmt: skip
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.startswith("postgresql://")
    assert servers(state_dir) == before
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT 1") == 1
    assert holder.poll() is None


def works(container: list[str]) -> bool:
    return subprocess.run([*container, "true"], capture_output=True, check=False).returncode == 0


async def test_service_does_not_connect_as_a_superuser(state_dir: Path) -> None:
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SHOW is_superuser") == "off"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(url, f"SELECT pg_read_file('{__file__}')")


async def test_environment_of_other_servers_is_not_meant_for_this_one(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PGSSLMODE", "verify-full"), ("PGTARGETSESSIONATTRS", "standby")):
        monkeypatch.setenv(name, value)
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT 1") == 1


def test_home_that_others_could_write_to_is_closed_or_refused(state_dir: Path) -> None:
    home = state_dir / "postgres"
    home.mkdir(parents=True, mode=0o777)
    home.chmod(0o777)
    with embedded_postgres(state_dir):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    elsewhere = state_dir / "elsewhere"
    home.rename(elsewhere)
    home.symlink_to(elsewhere)
    with (
        pytest.raises(EmbeddedDatabaseError, match="does not belong to this user"),
        embedded_postgres(state_dir),
    ):
        pass


def test_log_that_points_elsewhere_is_not_written_to(state_dir: Path, tmp_path: Path) -> None:
    home, victim = state_dir / "postgres", tmp_path / "victim"
    home.mkdir(parents=True, mode=0o700)
    victim.write_text("")
    (home / "log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), embedded_postgres(state_dir):
        pass
    assert victim.read_text() == ""


async def test_pid_file_that_names_another_process_does_not_block(state_dir: Path) -> None:
    with embedded_postgres(state_dir):
        (running,) = servers(state_dir)
        content = (state_dir / "postgres" / "data" / "postmaster.pid").read_text()
    stale = content.replace(str(running.pid), str(os.getpid()), 1)
    (state_dir / "postgres" / "data" / "postmaster.pid").write_text(stale)
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT 1") == 1


async def test_setup_killed_half_way_is_begun_anew(state_dir: Path) -> None:
    unfinished = state_dir / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (state_dir / "postgres").chmod(0o700)
    with embedded_postgres(state_dir) as url:
        assert await ask(url, "SELECT 1") == 1
    assert not unfinished.exists()


def test_setup_that_is_interrupted_leaves_no_program_of_its_own_running() -> None:
    setup = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert setup.stdout
    child = psutil.Process(int(setup.stdout.readline()))
    with pytest.raises(KeyboardInterrupt), killed_on_failure(setup):
        raise KeyboardInterrupt
    setup.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone == [child]


def test_processes_that_start_at_once_share_one_server(state_dir: Path) -> None:
    processes = [begin(state_dir) for _ in range(4)]
    urls = {process.stdout.readline() for process in processes if process.stdout}
    assert len(urls) == 1
    assert len(servers(state_dir)) == 1
    for process in processes:
        process.communicate("")
        assert process.returncode == 0
    assert servers(state_dir) == []


def test_data_of_another_version_are_refused_with_what_to_do(state_dir: Path) -> None:
    data = state_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(EmbeddedDatabaseError, match="set DATABASE_URL"),
        embedded_postgres(state_dir),
    ):
        pass


def test_failure_to_start_shows_the_servers_own_words(state_dir: Path) -> None:
    with embedded_postgres(state_dir):
        pass
    (state_dir / "postgres" / "data" / "postgresql.auto.conf").write_text("nonsense = 1\n")
    with pytest.raises(EmbeddedDatabaseError, match="nonsense"), embedded_postgres(state_dir):
        pass
