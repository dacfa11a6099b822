"""Prints the schema that the migrations make, for sql/schema.sql: `make schema`."""

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path

from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.place import package

# Session settings, psql's own commands, comments and blank lines: nothing of the schema. One setting
# stays, for functions come before the tables that they read.
_NOISE = re.compile(
    r"^(--.*|SET (?!check_function_bodies).*|SELECT pg_catalog\.set_config.*|\\.*|)\n", re.MULTILINE
)


def dump(url: str) -> str:
    """The schema of a database as statements, without the migrations' own tables."""
    program = package() / "pginstall18" / "bin" / "pg_dump"
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
