"""What the record of an answer takes: bytes on disk, and bytes of WAL.

The table holds a million answers before, so that its indexes are as deep as they will be, and a new
answer's entries fall between others. The WAL counts from a checkpoint, after which the first change to
each page writes the whole page: more for each answer, the fewer there are until the next checkpoint.
"""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from service.answers.sealing import seal
from service.postgres.pools import open_database
from tests.bench.cluster import CERT_ID, Bench, Filled, program
from tests.bench.measuring import Figure
from tests.bench.statement import answer_many

_BEFORE = 1_000_000
_ANSWERS = 50_000

_FILL = f"""
INSERT INTO answer (id, account_id, api_key_id, cert_id, domain, status, answered_at)
SELECT uuidv7(), api_key.account_id, api_key.id, {CERT_ID},
    'shop.domain' || n || '.example', 'verified', now() - interval '1 hour'
FROM api_key, generate_series($1::bigint + 1, $1::bigint + $2) AS n
"""
_SIZES = """
SELECT sum(pg_table_size(relid))::bigint, sum(pg_indexes_size(relid))::bigint,
    pg_current_wal_flush_lsn()::text
FROM pg_partition_tree('answer')
"""


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database("storage", owned=10_000, certificates=100_000)
    _seal(filled)
    filled.ask(_FILL, filled.certificates, _BEFORE)
    filled.ask("VACUUM ANALYZE answer")
    filled.ask("CHECKPOINT")
    before = _look(filled)
    answers = answer_many(filled, _ANSWERS).answers
    after = _look(filled)
    records, pages = _wal(filled, before, after)
    case = "the record of an answer"
    for key, says, size in (
        ("table_bytes", "on disk, its row", after.table - before.table),
        ("index_bytes", "on disk, its entries in indexes", after.indexes - before.indexes),
        ("wal_bytes", "WAL, without whole pages", records),
        ("wal_page_bytes", f"WAL, whole pages, for {answers:,} since a checkpoint", pages),
    ):
        yield Figure(f"storage.{key}", case, says, [size / answers], "B")
    sealed = _seal(filled)
    size = sum(_wal(filled, after, _look(filled)))
    yield Figure("storage.sealing_wal_bytes", "sealing an answer", "WAL", [size / sealed], "B")


def _seal(filled: Filled) -> int:
    """Seal what was answered. What is put on record later, but dated before, counts as sealed."""

    async def sealed() -> int:
        async with open_database(filled.url) as database:
            return await seal(database, "bench/answers", bytes(32))

    return asyncio.run(sealed())


class _Look(NamedTuple):
    table: int
    indexes: int
    wal: str


def _look(filled: Filled) -> _Look:
    """How large answers are now, and how far the WAL is."""
    (found,) = filled.ask(_SIZES)
    return _Look(*found)


def _wal(filled: Filled, since: _Look, until: _Look) -> tuple[int, int]:
    """How many bytes were written between two looks: as records, and as whole pages in them."""
    ((directory,),) = filled.ask("SHOW data_directory")
    done = subprocess.run(
        [program("pg_waldump"), "--stats", f"--path={directory}/pg_wal",
         f"--start={since.wal}", f"--end={until.wal}"],
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip
    (total,) = re.findall(r"^Total +\d+ +(\d+) \S+ +(\d+) ", done.stdout, re.MULTILINE)
    records, pages = total
    return int(records), int(pages)
