"""The embedded PostgreSQL: a real server from a wheel, for those who set no DATABASE_URL.

It listens on a Unix socket in a closed directory and on no TCP port, and runs as long as any of our
processes uses it. Each user holds a shared file lock, which the kernel drops with its process, so a
killed process never blocks the next start.

PostgreSQL refuses to run as root. If root starts it, the server runs in a user namespace. If
namespaces are refused, or can't reach files below someone else's closed home, it runs as its own
system user. We don't use the wheel's own startup code: as root, it would open every parent
directory of itself and of the data to everyone.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import psutil

from service.postgres import namespace, system_user
from service.postgres.place import (
    START_DEADLINE,
    EmbeddedDatabaseError,
    Place,
    killed_on_failure,
    own_directory,
    package,
)

VERSION = 18

_STOP_DEADLINE = 20.0
# sun_path holds 108 bytes with its final NUL (unix(7)). The socket's name and the suffix of its
# lock follow the directory.
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_DIR = 107 - len(f"/{_SOCKET}.lock")

_ROLE = "confirmed_owner"

_log = logging.getLogger("service.postgres.embedded")


@contextmanager
def embedded_postgres(state_dir: Path, *, keep_running: bool = False) -> Iterator[str]:
    """Start the server, or join the running one, and yield its URL; its last user stops it.

    With `keep_running`, a server that dies is restarted within about a second.

    Raises `EmbeddedDatabaseError`.
    """
    place = _place(state_dir.resolve())
    sockets = _socket_dir(place)
    # Kept, because Python warns when the handle of a running child is dropped.
    started: list[subprocess.Popen[bytes]] = []
    leaving = threading.Event()

    def keep() -> None:
        while not leaving.wait(1.0):
            place.rotate_log()
            if _listens(sockets):
                continue
            try:
                with _exclusively(place.home):
                    if not leaving.is_set() and not _listens(sockets):
                        _log.warning("the embedded PostgreSQL is gone; starting it again")
                        started.append(_start(place, sockets))
            except (EmbeddedDatabaseError, OSError) as error:
                # Such as on a full disk. The next try may succeed.
                _log.error(str(error))

    keeper = threading.Thread(target=keep, daemon=True)
    with (place.home / "users.lock").open("ab") as users:
        try:
            with _exclusively(place.home):
                used_by_others = not _try_lock(users)
                fcntl.flock(users, fcntl.LOCK_SH)
                if not (place.data / "PG_VERSION").exists():
                    _initialise(place)
                if not _listens(sockets):
                    if (
                        used_by_others
                        and not (sockets / _SOCKET).exists()
                        and _pid_file(place).exists()
                    ):
                        raise EmbeddedDatabaseError(
                            f"processes use {place.home} whose server can't be reached from here"
                        )
                    started.append(_start(place, sockets))
            if keep_running:
                keeper.start()
            yield _url(sockets)
        finally:
            leaving.set()
            if keeper.is_alive():
                keeper.join()
            with _exclusively(place.home):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _try_lock(users):
                    _stop(place)
            for process in started:
                process.poll()


def running_postgres(state_dir: Path) -> str | None:
    """Return the URL of the running server, without starting or keeping it; None if none runs."""
    if not (state_dir / "postgres").exists():
        return None
    sockets = _socket_dir(_place(state_dir.resolve()))
    return _url(sockets) if _listens(sockets) else None


def _url(sockets: Path) -> str:
    # Not the superuser, who could read and run whatever the server's own user can. The options
    # override environment variables (PGSSLMODE and the like) that are meant for other servers.
    return (
        f"postgresql://{_ROLE}@/{_ROLE}?host={quote(str(sockets))}"
        "&sslmode=disable&target_session_attrs=any"
    )


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file exclusively unless someone else has it locked, and return whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _place(state_dir: Path) -> Place:
    home = state_dir / "postgres"
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    own_directory(home, os.geteuid())
    version_file = home / "data" / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else VERSION
    binaries = package() / f"pginstall{version}" / "bin"
    if not binaries.exists():
        raise EmbeddedDatabaseError(
            f"the data in {home} needs PostgreSQL {version}, which is no longer embedded: "
            "dump it with that version and set DATABASE_URL, or move it away"
        )
    if os.geteuid() != 0:
        return Place(binaries, home)
    # Keep to whichever way was taken first, because that is where the data is.
    elsewhere = system_user.home_for(home)
    in_namespace = namespace.place_in_namespace(home, binaries)
    if in_namespace is not None and not elsewhere.exists():
        return in_namespace
    if version_file.exists():
        raise EmbeddedDatabaseError(
            f"root made the data in {home} in a user namespace, and those are refused now: allow "
            "them, or dump the data where they are allowed and set DATABASE_URL"
        )
    return system_user.place_of_system_user(elsewhere, binaries)


@contextmanager
def _exclusively(home: Path) -> Iterator[None]:
    with (home / "start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough: a process forked in the meantime holds the file open, too.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _initialise(place: Place) -> None:
    # A setup that was killed halfway leaves only this directory, so start it over.
    unfinished = place.home / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    place.run(
        "initdb", "--pgdata", str(unfinished), "--username=postgres", "--auth=trust",
        "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    )  # fmt: skip
    statements = f"CREATE ROLE {_ROLE} LOGIN;\nCREATE DATABASE {_ROLE} OWNER {_ROLE};\n"
    place.run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=statements.encode())
    unfinished.rename(place.data)


def _socket_dir(place: Place) -> Path:
    """Return the server's home, or a closed directory elsewhere if its path can't hold a socket."""
    path = bytes(place.home)
    if len(path) <= _LONGEST_SOCKET_DIR and path.isascii() and not set(',"') & set(str(place.home)):
        return place.home
    name = hashlib.sha256(path).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"confirmed-owner-{os.geteuid()}-{name}"
    own_directory(directory, place.home.stat().st_uid)
    return directory


def _listens(sockets: Path) -> bool:
    """Whether a server listens there. A dead one's socket refuses, whatever its files say.

    The kernel knows this across containers, where process ids mean nothing.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(sockets / _SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):
            # Its queue is full, so it is alive but overloaded.
            return True
    return True


def _pid_file(place: Place) -> Path:
    return place.data / "postmaster.pid"


def _server(place: Place) -> psutil.Process | None:
    """Return the server's process, if it is visible from here."""
    try:
        pid = int(_pid_file(place).read_text().splitlines()[0])
        process = psutil.Process(pid)
        is_ours = str(place.data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if is_ours else None


def _is_ready(place: Place, pid: int) -> bool:
    try:
        lines = _pid_file(place).read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _start(place: Place, sockets: Path) -> subprocess.Popen[bytes]:
    _clear_up_after_dead_server(place, sockets)
    process = place.spawn(
        "postgres", "-D", str(place.data), *_options(
            listen_addresses="",
            unix_socket_directories=str(sockets),
            unix_socket_permissions="0700",
            logging_collector="off",
            # We log errors ourselves. The server's own lines would name rows, values, and statements,
            # and whoever causes errors could fill the disk with them.
            log_min_messages="log",
            log_min_error_statement="panic",
            log_error_verbosity="terse",
            log_checkpoints="off",
            jit="off",
            # After a crash it ends, and whoever keeps it running starts it again. If it recovered by
            # itself and that failed, such as on a full disk, PostgreSQL 18 would stand still for good.
            restart_after_crash="off",
        ),
    )  # fmt: skip
    deadline = time.monotonic() + START_DEADLINE
    with killed_on_failure(process):
        while not _is_ready(place, process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise place.failed("to start")
            time.sleep(0.01)
    return process


def _clear_up_after_dead_server(place: Place, sockets: Path) -> None:
    """Remove the lock files of a server that was killed.

    The process id in them may now belong to another process, which would make PostgreSQL refuse to
    start. We hold our own lock and have seen that nothing listens. That leaves the dead server's
    children to protect the data from; their working directory is the data directory.
    """
    if not _pid_file(place).exists():
        return
    deadline = time.monotonic() + _STOP_DEADLINE
    while any(_works_in(process, place.data) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise EmbeddedDatabaseError(f"processes of a dead server still use {place.data}")
        time.sleep(0.02)
    (sockets / f"{_SOCKET}.lock").unlink(missing_ok=True)
    # It may have ended by itself just now, and have removed it.
    _pid_file(place).unlink(missing_ok=True)


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.cwd() == str(directory)
    except psutil.Error:
        return False


def _options(**settings: str) -> Sequence[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _stop(place: Place) -> None:
    server = _server(place)
    if server is None:
        return
    # “Fast” shutdown ends sessions and loses nothing (PostgreSQL manual, “Shutting Down”).
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_STOP_DEADLINE)
    except psutil.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(_STOP_DEADLINE)
