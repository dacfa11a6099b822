"""The audit of the dependencies: known vulnerabilities fail it, and having no advisories doesn't."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.advisories import UNREACHABLE, audit, verdict
from tests.running import ROOT

CLEAN: Any = {"name": "click", "version": "8.2.0", "vulns": []}
SKIPPED: Any = {"name": "idna", "skip_reason": "Dependency not found"}
FIXED: Any = {"id": "PYSEC-1", "fix_versions": ["3.1.7", "4.0"], "aliases": [], "description": "x"}
NEVER_FIXED: Any = {"id": "PYSEC-2", "fix_versions": [], "aliases": ["CVE-2"], "description": "x"}
VULNERABLE: Any = {"name": "jinja2", "version": "3.1.6", "vulns": [FIXED, NEVER_FIXED]}


@pytest.mark.parametrize(
    ("dependencies", "status", "told"),
    [
        ([CLEAN], 0, ["no advisory is about a dependency"]),
        (
            [CLEAN, VULNERABLE],
            1,
            [
                "jinja2 3.1.6 has PYSEC-1, fixed in: 3.1.7, 4.0",
                "jinja2 3.1.6 has PYSEC-2, fixed in: no version",
            ],
        ),
        ([CLEAN, SKIPPED], 0, ["not audited, because no advisories name them: idna"]),
        ([SKIPPED, SKIPPED], 0, [UNREACHABLE]),
        ([], 0, [UNREACHABLE]),
    ],
)
def test_vulnerabilities_fail_the_audit_and_missing_advisories_do_not(
    dependencies: list[Any], status: int, told: list[str]
) -> None:
    output = json.dumps({"dependencies": dependencies, "fixes": []})
    assert verdict(output, "") == (status, "\n".join(told))


def test_vulnerability_fails_the_audit_even_if_others_were_skipped() -> None:
    status, told = verdict(json.dumps({"dependencies": [SKIPPED, VULNERABLE]}), "")
    assert status == 1
    assert "PYSEC-1" in told
    assert "idna" in told


@pytest.mark.parametrize(
    "errors",
    [
        "Traceback …\nrequests.exceptions.ConnectionError: Max retries exceeded",
        "Traceback …\npip_audit._service.interface.ServiceError",
        "ERROR: Tip: your network may be blocking this service.",
    ],
)
def test_failing_network_passes_and_says_so(errors: str) -> None:
    assert verdict("", errors) == (0, UNREACHABLE)


def test_offline_audit_passes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert audit(ROOT / "requirements.lock") == (0, UNREACHABLE)


def test_lock_file_that_can_not_be_read_fails(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("click\n")
    status, told = audit(lock)
    assert status == 1
    assert "hashed requirements" in told
