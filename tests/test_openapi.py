"""The service follows its own OpenAPI document, whatever schemathesis sends.

All checks are on, except those that the files in tests/schemathesis turn off, with reasons.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT, as_json, confirmed_owner, running

CONFIGS = Path(__file__).parent / "schemathesis"
LINE = {
    "cert_id": "0" * 40,
    "page_text": "I agree to be called",
    "fingerprints": ["0" * 40],
    "insights": {"properties": {"domain": "acme.example", "created_at": "2999-01-01T00:00:00Z"}},
}


# `make explore` tries more.
EXAMPLES = int(os.environ.get("EXAMPLES", "3"))

# Only these operations need a known certificate.
ABOUT_CERTIFICATES = ("runOperations", "validateCertificateId", "importCertificates")


def explore(
    url: str, key: str, config: Path, directory: Path, examples: int, *operations: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *(f"--config-file={config}", "run", f"{url}/schema/openapi.json", f"--auth=X:{key}"),
            *("--no-color", f"--max-examples={examples}", "--generation-deterministic"),
            *(f"--include-operation-id={each}" for each in operations),
        ],
        # Schemathesis leaves files behind.
        cwd=directory,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.schemathesis.hooks",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("config", "examples", "operations"),
    [
        ("any_certificate", EXAMPLES // 3, ()),
        ("known_certificate", EXAMPLES, ABOUT_CERTIFICATES),
    ],
)
def test_whole_document_holds(
    env: dict[str, str], tmp_path: Path, config: str, examples: int, operations: tuple[str, ...]
) -> None:
    as_json("account", "create", "Acme, Inc.", "--email", "jo@acme.example", env=env)
    key = as_json("key", "create", "Acme, Inc.", env=env)["api_key"]
    confirmed_owner("import", "-", env=env, stdin=json.dumps(LINE).encode())
    with running(env, tmp_path / "log") as service:
        explore(service.url, key, CONFIGS / f"{config}.toml", tmp_path, examples, *operations)
