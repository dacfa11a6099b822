"""The command that checks files: `confirmed-owner check`."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from service.batches.summaries import RESULTS, WORDS, vendors_in
from service.processes.commands import as_json_option
from service.processes.remote import Remote, remote_options

if TYPE_CHECKING:
    from rich.console import Console

    from service.batches.checking import Checked

# What shells return for a command ended by Ctrl-C: 128 and the number of the signal.
_INTERRUPTED = 130

_DOMAINS_SHOWN = 10

# Of which progress is told in rows, and not in bytes.
_IN_ROWS = ("Reading", "Answering")


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=Path))
@click.option("--column", help="The column to ask about. By default, it is found by its content.")
@click.option("--sheet", help="The sheet of a spreadsheet. By default, the first one with rows.")
@click.option("--as-of", help="Answer as of this past time, such as 2026-03-01.")
@click.option(
    "--fail-on",
    default="",
    metavar="RESULTS",
    help=f"Exit with 1 if a row is one of these: {', '.join(RESULTS)}.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Also write a report to print or mail."
)
@click.option("--resume", is_flag=True, help="Go on with a check that was interrupted.")
@as_json_option
@remote_options
@click.pass_context
def check_command(
    context: click.Context,
    remote: Remote,
    files: Sequence[Path],
    column: str | None,
    sheet: str | None,
    as_of: str | None,
    fail_on: str,
    html: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Ask who owns the sites that the certificates or pages in FILES come from.

    Writes NAME.checked.csv beside NAME.csv, and so on for .ndjson, .parquet, and .xlsx: every column
    as it was, and the answers. “-” reads standard input and writes to standard output.

    The exit status is 0 if all files were checked, 1 if --fail-on says so, and 2 if a file can't be
    checked.
    """
    from rich.console import Console

    from service.batches.checking import Failed, check, output_for

    wanted = {each.strip() for each in fail_on.split(",") if each.strip()}
    if unknown := wanted.difference(RESULTS):
        raise click.BadParameter(
            f"“{min(unknown)}” is none of {', '.join(RESULTS)}", param_hint="--fail-on"
        )
    parameters = {"column": column, "sheet": sheet, "as_of": _time(as_of)}
    given = {name: value for name, value in parameters.items() if value is not None}
    console = Console(stderr=True)
    done: list[Checked] = []
    has_failed = False
    for path in files:
        try:
            with _progress(console, path) as progress, _input(path) as (source, output):
                if not source.is_file():
                    raise Failed(f"{path}: there is no such file")
                checked = check(
                    remote,
                    source,
                    "standard input" if str(path) == "-" else path.name,
                    output or output_for(path),
                    given,
                    progress,
                    resume=resume,
                )
                if output is not None:
                    with output.open("rb") as results:
                        shutil.copyfileobj(results, sys.stdout.buffer)
                    checked.file, checked.output = "-", None
                done.append(checked)
        except Failed as error:
            has_failed = True
            click.echo(f"Error: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("Interrupted. Go on with: confirmed-owner check --resume …", err=True)
            context.exit(_INTERRUPTED)
        else:
            if not as_json:
                _show(done[-1], console)
    if as_json:
        click.echo(msgspec.json.encode(done), err=any(each.output is None for each in done))
    if html is not None and done:
        from service.batches.report import report

        html.write_text(report(done), encoding="utf-8")
        if not as_json:
            click.echo(f"The report is in {html}.", err=True)
    told = {name for each in done for name, rows in each.batch["counts"].items() if rows}
    context.exit(2 if has_failed else 1 if wanted & told else 0)


def _time(text: str | None) -> str | None:
    """Return a time with its time zone: that of this machine, and midnight, if it says neither."""
    from datetime import datetime

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"“{text}” is no time such as 2026-03-01 or 2026-03-01T12:00:00Z", param_hint="--as-of"
        ) from None
    return (at if at.tzinfo else at.astimezone()).isoformat()


@contextmanager
def _input(path: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield where a file is, and where to write its results if that is not beside it."""
    if str(path) != "-":
        yield path, None
        return
    with tempfile.TemporaryDirectory() as directory:
        # An upload may have to be sent again, which a pipe can't.
        source = Path(directory) / "input"
        with source.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield source, Path(directory) / "output"


@contextmanager
def _progress(console: "Console", path: Path) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar if on a terminal."""
    from rich.filesize import decimal
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description} {task.fields[file]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, of: int | None) -> None:
            if what not in tasks:
                for former in tasks.values():
                    bars.update(former, visible=False)
                tasks[what] = bars.add_task(what, file=path.name, total=of, rate="")
            speed = bars.tasks[tasks[what]].speed or 0
            rate = f"{speed:,.0f} rows/s" if what in _IN_ROWS else f"{decimal(int(speed))}/s"
            bars.update(tasks[what], completed=done, total=of, rate=rate if speed else "")

        yield advance


def _show(checked: "Checked", console: "Console") -> None:
    """Print what a file was told, as tables."""
    from rich.markup import escape
    from rich.table import Table

    batch, summary = checked.batch, checked.summary
    counts = batch["counts"]
    table = Table(title=escape(f"{checked.file}: {batch['rows']:,} rows as of {batch['as_of']}"))
    for heading in ("Told", "Rows", "Share"):
        table.add_column(heading, justify="left" if heading == "Told" else "right")
    for name in RESULTS:
        if counts[name]:
            share = counts[name] / max(1, batch["rows"])
            table.add_row(WORDS[name], f"{counts[name]:,}", f"{share:.1%}")
    console.print(table)
    unowned = [each for each in summary["domains"] if each["status"] == "none"]
    if unowned:
        table = Table(title="Domains without a verified owner")
        table.add_column("Domain")
        table.add_column("Rows", justify="right")
        for each in unowned[:_DOMAINS_SHOWN]:
            table.add_row(escape(each["domain"]), f"{each['rows']:,}")
        console.print(table)
        if len(unowned) > _DOMAINS_SHOWN:
            console.print(f"and {len(unowned) - _DOMAINS_SHOWN:,} more")
    vendors = vendors_in(summary)
    if vendors is not None:
        table = Table(title=f"By {escape(vendors['name'])}")
        table.add_column("Value")
        for name in RESULTS:
            table.add_column(WORDS[name], justify="right")
        for each in vendors["values"]:
            cells = [f"{each.get(name, 0):,}" for name in RESULTS]
            table.add_row(escape(each["value"] or "–"), *cells)
        console.print(table)
    if checked.output is not None:
        console.print(f"The results are in {escape(checked.output)}.")


commands = [check_command]
