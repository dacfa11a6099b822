"""`make kills`: kill processes while batches are checked, and compare the results byte for byte.

The service and workers run on an embedded PostgreSQL. A file is checked undisturbed for reference.
Then the same file is checked again and again, by calls or by `confirmed-owner check`, while `kill -9`
ends one process after the other: what serves HTTP, workers, the parent, the database server, one of
its backends, or the client. What doesn't start again by itself is started again. Each time:

- Results in every format are those of the reference, but for the answers' ids.
- Each answer is on record once, with the row's id and status, and there are no others.
- A second download is the same, as a whole and by ranges.
- Nothing is left to do, and no part of the upload is left.

`KILLS` and `ROWS` say how many, and `SEED` repeats a failure as far as time allows.
"""

import asyncio
import csv
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import python_calamine
from pyarrow import parquet

from service.batches import batches
from service.batches.records import Format
from service.certificates.imports import import_lines
from service.postgres.embedded import embedded_postgres
from service.postgres.pools import open_database
from tests.builders import Company, World, web_id
from tests.kept import Processes, fetch_again
from tests.running import COMMAND, environment, free_port, running

PHASES = ("uploading", "reading", "answering", "summarizing", "writing", "downloading")
VICTIMS = ("server", "job worker", "worker", "run", "postmaster", "backend")
FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet", "xlsx")

# How many kills are meant for each phase of one check. Some come too late for theirs, and fall out.
KILLS_OF: Mapping[str, int] = {
    "uploading": 2, "reading": 2, "answering": 3, "summarizing": 1, "writing": 2, "downloading": 1
}  # fmt: skip

# After these, a caller asks again.
_AGAIN = (429, 502, 503, 504)

_BLOCK = 64 * 1024

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How large the check is, how many kills there are at most, and whether to wait for heartbeats.

    A job whose worker was killed is taken over once its heartbeat is 30 seconds old. Without waiting,
    all heartbeats are made old, so that the jobs of living workers are done twice as well.
    """

    rows: int
    kills: int
    workers: int = 2
    hosts: int = 300
    certificates: int = 3000
    note: int = 60
    """How many characters the longest column of a row has."""
    waits: bool = True
    kills_of: Mapping[str, int] = field(default_factory=lambda: KILLS_OF)
    formats: Sequence[Format] = FORMATS


@dataclass
class Reference:
    """What a check comes to if nothing is killed, and how many seconds each phase takes."""

    files: dict[Format, bytes]
    counts: dict[str, int]
    summary: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class Scene:
    """Where it happens: the processes, the caller, and the file."""

    url: str
    """Of the database."""
    directory: Path
    processes: Processes
    buyer: Company
    file: Path
    scale: Scale
    random: random.Random
    say: Say
    killed: list[str] = field(default_factory=list)
    """Of what kind, and in which phase."""
    phase: str | None = None
    """What the client does that the database doesn't tell."""
    checks: int = 0
    checker: asyncio.subprocess.Process | None = None

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Ask the database, again while it is away."""
        return await fetch_again(self.url, statement, *arguments)

    async def moment(self) -> tuple[str, tuple[object, ...]]:
        """The phase of the latest batch, and numbers that change whenever it gets on."""
        rows = await self.fetch(
            """
            SELECT
                CASE WHEN state = 'finished' AND EXISTS (
                    SELECT FROM batch_format AS form WHERE form.batch_id = batch.id
                    AND NOT is_complete
                ) THEN 'writing' ELSE state END,
                id, upload_bytes,
                (SELECT count(*) FROM batch_chunk AS chunk WHERE chunk.batch_id = batch.id),
                (
                    SELECT count(*) FROM batch_chunk AS chunk
                    WHERE chunk.batch_id = batch.id AND told IS NOT NULL
                ),
                (SELECT count(*) FROM batch_result AS part WHERE part.batch_id = batch.id)
            FROM batch WHERE deleted_at IS NULL ORDER BY id DESC LIMIT 1
            """
        )
        if self.phase == "uploading" or not rows:
            # There are former batches, too.
            return "uploading", tuple(rows[0]) if rows else ()
        phase, *progress = rows[0]
        if self.phase == "downloading" and phase == "finished":
            phase = "downloading"
        return phase, tuple(progress)


def text_of(rows: int, certificates: Sequence[str], note: int, choice: random.Random) -> bytes:
    """A file of leads: most certificates are on record, some are not, and some are no ids."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["lead", "certificate", "vendor", "day", "note"])
    for number in range(rows):
        kind = choice.random()
        certificate = (
            choice.choice(certificates)
            if kind < 0.95
            else f"{choice.getrandbits(160):040x}"
            if kind < 0.98
            else choice.choice(["", "no id", "1.2E+39"])
        )
        lines.writerow(
            [
                f"lead {number}",
                certificate,
                f"Vendor {choice.randrange(20)}",
                f"2026-0{choice.randrange(1, 9)}-1{choice.randrange(10)}",
                choice.choice(["=1+1", 'a "quote"', "two\nlines", "süß", "a, b", "plain"])
                + "x" * choice.randrange(note),
            ]
        )
    return text.getvalue().encode()


async def settled(world: World, scale: Scale) -> tuple[Company, list[str]]:
    """A buyer, and certificates of many hosts, of which some have owners and some of those a name."""
    buyer = await world.company("Buyer")
    sellers = [await world.company(f"Seller {number}") for number in range(10)]
    for seller in sellers[:6]:
        await world.permit(seller, buyer)
    hosts = [f"shop{number}.example" for number in range(scale.hosts)]
    for number, host in enumerate(hosts[::2]):
        await world.own(sellers[number % 10], host, covers_subdomains=number % 3 == 0)
    ids = [web_id() for _ in range(scale.certificates)]
    lines = [
        b'{"cert_id": "%s", "insights": {"properties": {"domain": "%s%s"}}}'
        % (
            cert_id.encode(),
            b"www." if number % 5 == 0 else b"",
            hosts[number % scale.hosts].encode(),
        )
        for number, cert_id in enumerate(ids)
    ]
    for start in range(0, len(lines), 500):
        async with world.database.general.transaction() as connection:
            for result in await import_lines(
                connection, list(enumerate(lines[start : start + 500], 1))
            ):
                assert not result.error, result.error
    return buyer, ids


class Caller:
    """Calls the service as a careful client does: again if it is away or busy."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.client = httpx.AsyncClient(
            base_url=scene.processes.url, headers=scene.buyer.headers, timeout=20
        )

    async def _again(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        deadline = time.monotonic() + 120
        while True:
            with suppress(httpx.TransportError):
                response = await call()
                if response.status_code not in _AGAIN:
                    assert response.is_success, (response.status_code, response.text)
                    return response
            assert time.monotonic() < deadline, "the service is away for two minutes"
            await asyncio.sleep(0.1)

    async def get(self, path: str, **parameters: str) -> Any:
        """What is at a path."""
        return (await self._again(lambda: self.client.get(path, params=parameters))).json()

    async def upload(self, path: Path, key: str) -> str:
        """Upload a file, and return the batch's id."""

        async def blocks() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    yield block

        async def call() -> httpx.Response:
            return await self.client.post(
                "/v1/batches",
                params={"name": path.name},
                content=blocks(),
                headers={"Content-Type": "application/octet-stream", "Idempotency-Key": key},
            )

        batch_id: str = (await self._again(call)).json()["id"]
        return batch_id

    async def ended(self, batch_id: str) -> Any:
        """A batch once it has ended."""
        deadline = time.monotonic() + 600
        while True:
            batch = await self.get(f"/v1/batches/{batch_id}")
            if batch["ended_at"] is not None:
                assert batch["state"] == "finished", batch
                return batch
            assert time.monotonic() < deadline, ("the batch is stuck", batch)
            await asyncio.sleep(0.1)

    async def download(
        self, batch_id: str, form: Format, *, cuts: Sequence[int] = (), end: int | None = None
    ) -> bytes:
        """Download results, going on where a download was cut off; at once, or up to each cut."""
        path, got = f"/v1/batches/{batch_id}/results", bytearray()
        deadline = time.monotonic() + 300
        for cut in [*cuts, end]:
            while cut is None or len(got) < cut:
                asked = f"bytes={len(got)}-" if cut is None else f"bytes={len(got)}-{cut - 1}"
                is_whole = cut is None and not got
                with suppress(httpx.TransportError):
                    async with self.client.stream(
                        "GET",
                        path,
                        params={"format": form},
                        headers={} if is_whole else {"Range": asked},
                    ) as response:
                        if response.status_code in (200, 206):
                            assert response.status_code == (200 if is_whole else 206)
                            async for block in response.aiter_raw():
                                got += block
                            if cut is None:
                                return bytes(got)
                            continue
                        assert response.status_code in (*_AGAIN, 202), response.status_code
                assert time.monotonic() < deadline, (form, "is not there after five minutes")
                await asyncio.sleep(0.1)
        return bytes(got)


async def checked_by_calls(scene: Scene, caller: Caller) -> str:
    """Check the file by calls, and return the batch's id."""
    scene.phase = "uploading"
    batch_id = await caller.upload(scene.file, f"check {scene.checks}")
    scene.phase = None
    await caller.ended(batch_id)
    return batch_id


async def checked_by_command(scene: Scene, caller: Caller) -> str:
    """Check the file by the command, again and again until it has succeeded."""
    before = {batch["id"] for batch in (await caller.get("/v1/batches"))["items"]}
    results = scene.file.with_name(f"{scene.file.stem}.checked.csv")
    results.unlink(missing_ok=True)
    env = environment(
        scene.directory,
        CONFIRMED_OWNER_URL=scene.processes.url,
        CONFIRMED_OWNER_API_KEY=scene.buyer.key,
    )
    for attempt in range(50):
        scene.phase = "uploading"
        watching = asyncio.create_task(_watched(scene, caller, before))
        scene.checker = await asyncio.create_subprocess_exec(
            *COMMAND, "check", str(scene.file), *["--resume"] * (attempt > 0),
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        _, told = await scene.checker.communicate()
        status, scene.checker = scene.checker.returncode, None
        watching.cancel()
        if status == 0:
            break
        # Killed, or the service was away for too long. Other failures are the file's.
        assert status in (1, -signal.SIGKILL), (status, told.decode())
        scene.say(f"  check ended with {status}, and goes on: {told.decode().strip()[-120:]}")
    scene.phase = None
    (batch_id,) = {batch["id"] for batch in (await caller.get("/v1/batches"))["items"]} - before
    assert results.read_bytes() == await caller.download(batch_id, "csv")
    return str(batch_id)


async def _watched(scene: Scene, caller: Caller, before: set[str]) -> None:
    """Note what the command does: it uploads until there is a batch that is uploaded."""
    results = scene.file.with_name(f".{scene.file.stem}.checked.csv.part")
    while True:
        some = (await caller.get("/v1/batches"))["items"]
        new = [each for each in some if each["id"] not in before]
        is_uploaded = bool(new) and new[0]["state"] != "uploading"
        scene.phase = (
            "uploading" if not is_uploaded else "downloading" if results.exists() else None
        )
        await asyncio.sleep(0.02)


async def downloaded(scene: Scene, caller: Caller, batch_id: str) -> dict[Format, bytes]:
    """Have the results made in each format, and download them."""
    files: dict[Format, bytes] = {}
    for form in scene.scale.formats:
        scene.phase = "downloading"
        files[form] = await caller.download(batch_id, form)
        scene.phase = None
    return files


async def timed(scene: Scene) -> dict[str, float]:
    """Note how many seconds each phase takes, until this is canceled."""
    seconds = dict.fromkeys(PHASES, 0.05)
    last = time.monotonic()
    with suppress(asyncio.CancelledError):
        while True:
            phase, _ = await scene.moment()
            now = time.monotonic()
            seconds[phase] = seconds.get(phase, 0) + now - last
            last = now
            await asyncio.sleep(0.01)
    return seconds


async def reference_of(scene: Scene, caller: Caller) -> Reference:
    """Check the file while nothing is killed."""
    timing = asyncio.create_task(timed(scene))
    await asyncio.sleep(0)
    batch_id = await checked_by_calls(scene, caller)
    files = await downloaded(scene, caller, batch_id)
    timing.cancel()
    batch = await caller.get(f"/v1/batches/{batch_id}")
    summary = await caller.get(f"/v1/batches/{batch_id}/summary")
    reference = Reference(files, batch["counts"], summary, await timing)
    await verify(scene, caller, reference, batch_id, files)
    return reference


async def kill_at_random(scene: Scene, seconds: dict[str, float], kinds: Sequence[str]) -> None:
    """Kill processes at random moments of one check, until all phases are over."""
    choice = scene.random
    before: object = None
    planned = [
        (phase, choice.random(), choice.random() < 0.7)
        for phase in PHASES
        for _ in range(scene.scale.kills_of.get(phase, 0))
    ]
    for phase, share, is_after_progress in planned:
        if len(scene.killed) >= scene.scale.kills:
            return
        while True:
            moment = await scene.moment()
            now = moment[0]
            is_over = now == "finished" and phase not in ("writing", "downloading")
            if is_over or (now in PHASES and PHASES.index(now) > PHASES.index(phase)):
                break
            if now == phase and (moment != before or not is_after_progress):
                await asyncio.sleep(share * seconds[phase] / (1 + scene.scale.kills_of[phase]))
                before = await scene.moment()
                await kill_one(scene, before[0], kinds)
                break
            await asyncio.sleep(0.01)


async def kill_one(scene: Scene, phase: str, kinds: Sequence[str]) -> None:
    """Kill one process of any kind there is."""
    choice = scene.random
    victims = [*kinds, *["client"] * (scene.checker is not None)]
    choice.shuffle(victims)
    for victim in victims:
        if victim == "client" and scene.checker is not None:
            with suppress(ProcessLookupError):
                scene.checker.kill()
                break
        elif scene.processes.kill(victim, choice):
            break
    else:
        return
    scene.killed.append(f"{victim}, {phase}")
    scene.say(f"  kill {len(scene.killed)}: {victim}, while {phase}")
    if not scene.scale.waits:
        await forget_heartbeats(scene)


async def forget_heartbeats(scene: Scene) -> None:
    """Let workers take over at once what others have picked, whether those are dead or alive."""
    await scene.fetch(
        "UPDATE pgqueuer SET heartbeat = heartbeat - interval '31 seconds' WHERE status = 'picked'"
    )


async def have_workers_look(scene: Scene) -> None:
    """Tell workers twice a second to look for jobs: those that start again missed what was told."""
    while True:
        await scene.fetch("DELETE FROM pgqueuer WHERE false")
        await asyncio.sleep(0.5)


async def verify(
    scene: Scene, caller: Caller, reference: Reference, batch_id: str, files: dict[Format, bytes]
) -> None:
    """Hold a batch that has ended against the reference, and against what is on record."""
    batch = await caller.get(f"/v1/batches/{batch_id}")
    assert batch["counts"] == reference.counts, (batch, reference.counts)
    summary = await caller.get(f"/v1/batches/{batch_id}/summary")
    assert summary == reference.summary, (summary, reference.summary)
    await done_with(scene, batch_id)
    prefix, rows = await answers_of(scene, batch_id, files["csv"])
    for form in scene.scale.formats:
        theirs = _first_answer_id(reference.files["csv"])
        assert _plain(form, files[form], prefix) == _plain(form, reference.files[form], theirs), (
            form
        )
        size = len(files[form])
        cuts = sorted(scene.random.sample(range(1, size), min(9, size - 1)))
        assert await caller.download(batch_id, form) == files[form], form
        assert await caller.download(batch_id, form, cuts=cuts, end=size) == files[form], form
    scene.say(f"  {rows:,} rows as in the reference, {sum(map(len, files.values())):,} bytes")


async def done_with(scene: Scene, batch_id: str) -> None:
    """Wait until no job of a batch is left, and check that nothing else is left of its work."""
    deadline = time.monotonic() + 180
    while await scene.fetch(
        "SELECT FROM pgqueuer WHERE entrypoint = $1 AND payload = $2",
        batches.JOB,
        batch_id.encode(),
    ):
        assert time.monotonic() < deadline, "jobs of the batch are left after three minutes"
        if not scene.scale.waits:
            await forget_heartbeats(scene)
        await asyncio.sleep(0.2)
    (left,) = await scene.fetch(
        """
        SELECT
            chunks - (SELECT count(*) FROM batch_chunk AS chunk WHERE chunk.batch_id = batch.id),
            rows - (SELECT sum(rows) FROM batch_chunk AS chunk WHERE chunk.batch_id = batch.id),
            (SELECT count(*) FROM batch_upload AS part WHERE part.batch_id = batch.id)
        FROM batch WHERE id = $1
        """,
        UUID(batch_id),
    )
    assert tuple(left) == (0, 0, 0), ("chunks missing, rows missing, parts of uploads", left)


async def answers_of(scene: Scene, batch_id: str, results: bytes) -> tuple[str, int]:
    """Check that the answers of results are on record once, and that the account has no others.

    Return what their ids begin with, and how many rows the results have.
    """
    rows = list(csv.DictReader(io.StringIO(results.decode("utf-8-sig"), newline="")))
    assert len(rows) == scene.scale.rows, (len(rows), scene.scale.rows)
    told = Counter((row["answer_id"], row["status"]) for row in rows if row["answer_id"])
    assert set(told.values()) == {1}
    for number, row in enumerate(rows):
        assert row["lead"] == f"lead {number}"
        assert bool(row["answer_id"]) != bool(row["error"])
        assert not row["answer_id"] or int(row["answer_id"][-6:], 16) == number
    (prefix,) = {answer_id[:-6] for answer_id, _ in told}
    first = UUID(f"{prefix}000000")
    on_record = await scene.fetch(
        "SELECT id::text, status FROM answer WHERE id >= $1 AND id <= $2",
        first,
        UUID(int=first.int + 2**24 - 1),
    )
    assert Counter(map(tuple, on_record)) == told
    (others,) = await scene.fetch(
        """
        SELECT count(*), count(DISTINCT id) FROM answer
        WHERE account_id = $1 AND NOT EXISTS (
            SELECT FROM batch
            WHERE answer.id >= first_answer_id AND right(first_answer_id::text, 6) = '000000'
            AND left(answer.id::text, 30) = left(first_answer_id::text, 30)
        )
        """,
        scene.buyer.id,
    )
    assert tuple(others) == (0, 0), others
    return prefix, len(rows)


def _first_answer_id(results: bytes) -> str:
    for row in csv.DictReader(io.StringIO(results.decode("utf-8-sig"), newline="")):
        if row["answer_id"]:
            return row["answer_id"][:-6]
    raise AssertionError("no row has an answer")


def _plain(form: Format, file: bytes, prefix: str) -> object:
    """Results but for what a batch's answers begin with: bytes of text, and the cells of others."""
    if form in ("csv", "ndjson"):
        return file.replace(prefix.encode(), b"")
    rows: Iterable[Sequence[object]]
    if form == "parquet":
        table = parquet.read_table(pa.BufferReader(file))
        return table.schema, table.drop(["answer_id"]).to_pydict()
    rows = python_calamine.load_workbook(io.BytesIO(file)).get_sheet_by_index(0).to_python()
    return [row[:-1] for row in rows]


@asynccontextmanager
async def scene_of(
    directory: Path, scale: Scale, seed: int, say: Say
) -> AsyncIterator[tuple[Scene, Caller, Reference]]:
    """Start the processes, and check a file for reference."""
    state, port = directory / "state", free_port()
    env = environment(state, PORT=str(port))
    log = directory / "log"
    with running(env, log) as service, embedded_postgres(state) as url:
        processes = Processes(env, log, service, scale.workers)
        keeping = asyncio.create_task(processes.keep())
        try:
            async with (
                open_database(url) as database,
                httpx.AsyncClient(base_url=service.url) as client,
            ):
                choice = random.Random(seed)
                buyer, certificates = await settled(World(database, client), scale)
                file = directory / "leads.csv"
                file.write_bytes(text_of(scale.rows, certificates, scale.note, choice))
            scene = Scene(url, directory, processes, buyer, file, scale, choice, say)
            caller = Caller(scene)
            reference = await reference_of(scene, caller)
            yield scene, caller, reference
            await caller.client.aclose()
        except BaseException:
            say(log.read_text()[-20_000:])
            raise
        finally:
            keeping.cancel()
            processes.stop()


async def check_while_killing(
    scene: Scene, caller: Caller, reference: Reference, kinds: Sequence[str] = VICTIMS
) -> None:
    """Check the file once while processes are killed, and hold the outcome against the reference."""
    scene.checks += 1
    by_command = scene.checks % 2 == 0
    scene.say(f"check {scene.checks}, by {'command' if by_command else 'calls'}")
    began = time.monotonic()
    killing = asyncio.create_task(kill_at_random(scene, reference.seconds, kinds))
    telling = None if scene.scale.waits else asyncio.create_task(have_workers_look(scene))
    check = checked_by_command if by_command else checked_by_calls
    batch_id = await check(scene, caller)
    files = await downloaded(scene, caller, batch_id)
    killing.cancel()
    with suppress(asyncio.CancelledError):
        await killing
    scene.say(f"  downloaded after {time.monotonic() - began:.0f} s")
    await verify(scene, caller, reference, batch_id, files)
    if telling is not None:
        telling.cancel()


async def kills(scale: Scale, seed: int, say: Say) -> Sequence[str]:
    """Check a file until enough processes were killed; return which, and while what was done."""
    with tempfile.TemporaryDirectory() as directory:
        async with scene_of(Path(directory), scale, seed, say) as (scene, caller, reference):
            took = ", ".join(f"{phase} {reference.seconds[phase]:.1f}" for phase in PHASES)
            say(f"the reference took seconds: {took}")
            while len(scene.killed) < scale.kills:
                await check_while_killing(scene, caller, reference)
            return scene.killed


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    scale = Scale(
        rows=int(os.environ.get("ROWS") or 200_000), kills=int(os.environ.get("KILLS") or 20)
    )
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f}  {text}\n")

    say(f"SEED={seed} KILLS={scale.kills} ROWS={scale.rows}")
    killed = Counter(asyncio.run(kills(scale, seed, say)))
    for what, times in sorted(killed.items()):
        say(f"{times} × {what}")
    say(f"PASS: {killed.total()} kills changed nothing")


if __name__ == "__main__":
    main()
