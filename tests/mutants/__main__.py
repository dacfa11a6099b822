"""Mutation testing: break one rule at a time in a copy of the checkout, and run the tests.

`python -m tests.mutants [SUBJECT or part of what a mutant breaks ...]`, or `make mutants`. A mutant
that no test notices survives. Coverage shows which lines ran; this shows whether tests check them.
"""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import click
import msgspec

from service.postgres.embedded import embedded_postgres
from tests.mutants.catalogue import Mutant, Subject, problems, subjects
from tests.running import ROOT

ENOUGH = 0.95
"""The least part of the mutants that has to be killed."""

# Tests time out after _SLOWER times their unmutated duration, plus _GRACE seconds.
_GRACE, _SLOWER = 60.0, 4.0
# How many seconds pytest gets to tear down its fixtures once it is told to stop.
_PATIENCE = 20.0


# Only the plugins that tests need: loading all of them takes longer than testing most mutants.
_PLUGINS = ("-p", "pytest_asyncio.plugin")


class TestsFailed(Exception):
    """The tests fail even without a mutant."""


class Verdict(msgspec.Struct, frozen=True):
    """The result for one mutant of a subject."""

    subject: str
    mutant: Mutant
    is_killed: bool


async def main(wanted: Sequence[str], workers: int) -> int:
    """Try all selected mutants, report how many survive, and return the exit status."""
    chosen = subjects(wanted)
    mutants = [mutant for subject in chosen for mutant in subject.mutants]
    wrong = [problem for mutant in mutants for problem in problems(mutant)]
    if wrong or not mutants:
        click.echo("\n".join(wrong or ["no such subject, and no such mutant"]))
        return 1
    # On SIGTERM, clean up as on Ctrl-C.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _server() as database_url:
        env = {**os.environ, "DATABASE_URL": database_url}
        places = asyncio.Semaphore(workers)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_try_all(each, env, places)) for each in chosen]
        except ExceptionGroup as failed:
            if failed.split(TestsFailed)[1] is not None:
                raise
            click.echo("\n".join(map(str, failed.exceptions)))
            return 1
    return _report([verdict for task in tasks for verdict in task.result()])


async def _try_all(
    subject: Subject, env: Mapping[str, str], places: asyncio.Semaphore
) -> list[Verdict]:
    """Try a subject's mutants in a fresh copy of the checkout. Raises `TestsFailed`."""
    async with places:
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            copy = Path(directory)
            await asyncio.to_thread(_copy_checkout, copy)
            env = {**env, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            started = time.monotonic()
            # This run writes the bytecode of unmutated code. Mutants don't write any: two versions
            # written within the same second could be mistaken for each other.
            failed = await _failure(copy, subject.tests, env, within=None)
            if failed is not None:
                raise TestsFailed(f"{failed}\nThe tests of {subject.name} fail without any mutant.")
            within = _GRACE + _SLOWER * (time.monotonic() - started)
            env["PYTHONDONTWRITEBYTECODE"] = "1"
            return [await _try(subject, each, copy, env, within) for each in subject.mutants]


async def _try(
    subject: Subject, mutant: Mutant, copy: Path, env: Mapping[str, str], within: float
) -> Verdict:
    file = copy / mutant.file
    text = file.read_text()
    file.write_text(mutant.applied_to(text))
    started = time.monotonic()
    is_killed = await _failure(copy, subject.tests, env, within) is not None
    file.write_text(text)
    what = "killed  " if is_killed else "SURVIVED"
    spent = time.monotonic() - started
    click.echo(f"{what} {spent:6.1f} s  {subject.name}: {mutant.breaks}")
    return Verdict(subject.name, mutant, is_killed)


async def _failure(
    copy: Path, tests: Sequence[str], env: Mapping[str, str], within: float | None
) -> str | None:
    """Run pytest on a copy. Return its output on failure, or None if the tests pass in time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_PLUGINS, *tests,
        cwd=copy,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError:
        return f"not done in {within:.0f} seconds"
    finally:
        await _end(process)
    return output.decode(errors="replace") if process.returncode else None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop a process and everything it started, so that it drops the databases it created."""
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _copy_checkout(copy: Path) -> None:
    """Copy all files that git tracks or would add, except deleted ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(ROOT / name, copy / name)


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    """A server for all tests: the one at DATABASE_URL, or a temporary one."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as directory,
        embedded_postgres(Path(directory)) as own_url,
    ):
        # Tests create databases, which the service's own role may not do.
        url = own_url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
        connection = await asyncpg.connect(url)
        # Test data need not survive a crash.
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        yield url


def _report(verdicts: Sequence[Verdict]) -> int:
    """Print the scores and the surviving mutants, and return the exit status."""
    click.echo()
    for name in dict.fromkeys(verdict.subject for verdict in verdicts):
        _print_score(name, [verdict for verdict in verdicts if verdict.subject == name])
    score = _print_score("all", verdicts)
    for verdict in verdicts:
        if not verdict.is_killed:
            click.echo(f"survived: {verdict.mutant.file}: {verdict.mutant.breaks}")
    return 0 if score >= ENOUGH else 1


def _print_score(name: str, verdicts: Sequence[Verdict]) -> float:
    killed = sum(verdict.is_killed for verdict in verdicts)
    click.echo(f"{name}: {killed} of {len(verdicts)} killed ({killed / len(verdicts):.0%})")
    return killed / len(verdicts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("wanted", nargs="*", help="a subject, or a part of what a mutant breaks")
    parser.add_argument("--workers", type=int, default=2, help="how many at once")
    arguments = parser.parse_args()
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(asyncio.run(main(arguments.wanted, arguments.workers)))
    sys.exit(130)
