"""The command that imports certificates."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from service.processes.commands import as_json_option, with_connection

if TYPE_CHECKING:
    from service.postgres.pools import Connection

# Further errors are only counted, so that an import's memory doesn't grow with its mistakes.
_ERRORS_KEPT = 1000
# What shells return for a command ended by Ctrl-C: 128 and the number of the signal.
_INTERRUPTED = 130


@click.command("import")
@click.argument("file", type=click.File("rb"))
@as_json_option
@click.pass_context
def import_command(context: click.Context, file: BinaryIO, as_json: bool) -> None:
    """Import certificates for all callers from FILE, one JSON object per line.

    “-” is standard input. A bad line doesn't stop the others, but makes the exit status 1. After
    Ctrl-C, it is 130, and what was imported stays.
    """
    from service.certificates.imports import (
        LineResult,
        check_are_lines,
        import_lines,
        in_groups,
        numbered_lines,
    )

    counts: Counter[str] = Counter()
    errors: list[LineResult] = []

    def report(result: LineResult) -> None:
        counts[str(result.result or "failed")] += 1
        if not result.error:
            return
        if as_json:
            if len(errors) < _ERRORS_KEPT:
                errors.append(result)
        else:
            error = result.error
            given = f", not “{error.value}”" if error.value else ""
            click.echo(f"line {result.line}: {error.field} {error.reason}{given}", err=True)

    async def work(connection: "Connection") -> None:
        # asyncio's handler would wait until the next line arrives, such as through a pipe.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with _progress(file) as advance:
            for some in in_groups(numbered_lines(file)):
                if not counts:
                    check_are_lines(some)
                async with connection.transaction():
                    results = await import_lines(connection, some)
                for result in results:
                    report(result)
                advance(len(some), sum(len(line) for _, line in some))

    is_interrupted = False
    try:
        with_connection(context.obj, work)
    except KeyboardInterrupt:
        is_interrupted = True
    summary = {"lines": counts.total()}
    summary |= {name: counts[name] for name in ("created", "updated", "unchanged", "failed")}
    if as_json:
        left_out = counts["failed"] - len(errors)
        click.echo(msgspec.json.encode(summary | {"errors": errors, "errors_left_out": left_out}))
    else:
        lines = summary.pop("lines")
        told = [f"{lines:,} {'line' if lines == 1 else 'lines'}"]
        told += [f"{count:,} {name}" for name, count in summary.items()]
        if is_interrupted:
            told.append("then interrupted; run it again to import the rest")
        click.echo(", ".join(told))
    context.exit(_INTERRUPTED if is_interrupted else 1 if counts["failed"] else 0)


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if on a terminal; yield a function that takes lines and bytes done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    try:
        size = os.fstat(file.fileno()).st_size or None
    except OSError:
        size = None
    with Progress(
        TextColumn("Importing"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("import", total=size, lines=0, rate=0)

        def advance(lines: int, length: int) -> None:
            state = progress.tasks[0]
            done = state.fields["lines"] + lines
            rate = done / state.elapsed if state.elapsed else 0
            progress.update(task, advance=length, lines=done, rate=rate)

        yield advance


commands = [import_command]
