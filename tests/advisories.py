"""Look up the locked dependencies in the advisories about Python packages, for `make check`.

Where advisories can't be had, as without a network, this says so and passes.
"""

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.running import ROOT

UNREACHABLE = "advisories can't be reached: the dependencies were not audited"

# The first is for a whole audit, the second for each connection.
_SECONDS, _CONNECTION_SECONDS = 120, 5

# How pip-audit ends if the network or the other side fails. It catches few of these errors.
_NETWORK_FAILED = re.compile(
    r"^(requests\.exceptions|urllib3\.exceptions|pip_audit\._service)\.|network may be blocking",
    re.MULTILINE,
)


class Advisory(msgspec.Struct):
    """A known vulnerability."""

    id: str
    fix_versions: list[str]


class Dependency(msgspec.Struct):
    """What pip-audit tells about a dependency; without a version, nothing was found out."""

    name: str
    version: str = ""
    vulns: list[Advisory] = []


class Audit(msgspec.Struct):
    """What pip-audit tells as JSON."""

    dependencies: list[Dependency]


def audit(lock: Path) -> tuple[int, str]:
    """Audit a lock file. Returns the exit status, and what to tell."""
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip"),
                *("--format", "json", "--progress-spinner", "off"),
                f"--timeout={_CONNECTION_SECONDS}",
            ],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 0, UNREACHABLE
    return verdict(done.stdout, done.stderr)


def verdict(output: str, errors: str) -> tuple[int, str]:
    """Judge by what pip-audit wrote, since its exit status is the same for most of that."""
    try:
        told = msgspec.json.decode(output, type=Audit).dependencies
    except msgspec.DecodeError:
        # Anything but the network, such as a lock file that can't be read, is for us to repair.
        return (0, UNREACHABLE) if _NETWORK_FAILED.search(errors) else (1, errors.strip())
    unknown = [each.name for each in told if not each.version]
    if len(unknown) == len(told):
        return 0, UNREACHABLE
    lines = [
        f"{each.name} {each.version} has {advisory.id}, fixed in: "
        + (", ".join(advisory.fix_versions) or "no version")
        for each in told
        for advisory in each.vulns
    ]
    status = 1 if lines else 0
    if unknown:
        lines.append(f"not audited, because no advisories name them: {', '.join(unknown)}")
    return status, "\n".join(lines or ["no advisory is about a dependency"])


if __name__ == "__main__":
    status, told = audit(ROOT / "requirements.lock")
    print(told)  # noqa: T201 - its job is to print
    sys.exit(status)
