"""Prints the schema that the migrations make, for sql/schema.sql: `make schema`."""

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path

from service.database import migrate
from service.embedded import _package, embedded_postgres

# Session settings, psql's own commands, comments and blank lines: nothing of the schema.
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\.*|)\n", re.MULTILINE)


def dump(url: str) -> str:
    """The schema of a database as statements, without the migrations' own tables."""
    program = _package() / "pginstall18" / "bin" / "pg_dump"
    dumped = subprocess.run(
        [program, "--schema-only", "--no-owner", "--exclude-table=_pogo_*", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return re.sub(r"(;\n)(?=\S)", r"\1\n", _NOISE.sub("", dumped))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, embedded_postgres(Path(directory)) as url:
        asyncio.run(migrate(url))
        print(dump(url), end="")  # noqa: T201 - printing is what it is for
