"""Print the migrated schema, for sql/schema.sql: `make schema`."""

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path

from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.place import package

# Lines that aren't part of the schema: session settings, psql commands, comments, blank lines.
# `check_function_bodies` stays, because functions come before the tables they read.
_NOISE = re.compile(
    r"^(--.*|SET (?!check_function_bodies).*|SELECT pg_catalog\.set_config.*|\\.*|)\n", re.MULTILINE
)

_LEFT_OUT = ("_pogo_*", "answer_before", "answer_2*")


def dump(url: str) -> str:
    """A database's schema as SQL, without the migration tool's tables and those of single months."""
    program = package() / "pginstall18" / "bin" / "pg_dump"
    dumped = subprocess.run(
        [
            program,
            "--schema-only",
            "--no-owner",
            *(f"--exclude-table={name}" for name in _LEFT_OUT),
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return re.sub(r"(;\n)(?=\S)", r"\1\n", _NOISE.sub("", dumped))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, embedded_postgres(Path(directory)) as url:
        asyncio.run(migrate(url))
        print(dump(url), end="")  # noqa: T201 - its job is to print
