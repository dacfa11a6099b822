"""Run a server for root in a user namespace, where root has another user id.

To the rest of the system its files are root's, and no directory has to be opened to anyone.
"""

import pwd
import shutil
import subprocess
from pathlib import Path

from service.postgres.place import Place


def place_in_namespace(home: Path, binaries: Path) -> Place | None:
    """Return the server's place in a namespace.

    None if the system refuses namespaces, or the server's home is closed to them.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    # initdb looks up its user by id, and every system has a “nobody”.
    nobody = pwd.getpwnam("nobody")
    prefix = (unshare, "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
    place = Place(binaries, home, prefix=prefix)
    return place if _can_run(place) else None


def _can_run(place: Place) -> bool:
    """Whether a PostgreSQL program starts there and can write to its home."""
    probes = ([str(place.binaries / "postgres"), "--version"], ["test", "-w", str(place.home)])
    return all(
        subprocess.run([*place.prefix, *probe], capture_output=True, check=False).returncode == 0
        for probe in probes
    )
