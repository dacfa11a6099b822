"""`make bench`: measure, in one run, what the service costs and what it is compared with.

Prints one table, and writes the medians to STATE_DIR/bench.json. Arguments name parts to measure.
Compare figures of one run only: machines differ, and have better and worse minutes.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from service.settings import load_settings
from tests.bench.cluster import Bench
from tests.bench.measuring import Figure
from tests.bench.parts import (
    batch,
    bulk,
    cold,
    database,
    dns,
    growth,
    pages,
    peer,
    processes,
    single,
    storage,
    upstream,
)

PARTS: dict[str, Callable[[Bench], Iterable[Figure]]] = {
    "single": single.measure,
    "peer": peer.measure,
    "database": database.measure,
    "growth": growth.measure,
    "processes": processes.measure,
    "cold": cold.measure,
    "storage": storage.measure,
    "upstream": upstream.measure,
    "dns": dns.measure,
    "bulk": bulk.measure,
    "batch": batch.measure,
    "pages": pages.measure,
}


def main(chosen: Sequence[str]) -> None:
    if unknown := set(chosen) - PARTS.keys():
        sys.exit(f"no part is called {', '.join(unknown)}: there are {', '.join(PARTS)}")
    output = load_settings().state_dir / "bench.json"
    log = Console(stderr=True)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        # Whatever a later part does, what was measured is told.
        stack.callback(lambda: log.log(f"written to {output}"))
        width = None if sys.stdout.isatty() else 120
        stack.callback(lambda: Console(width=width).print(table_of(figures)))
        bench = Bench(Path(directory), stack)
        for part in chosen or PARTS:
            started = time.monotonic()
            figures += (measured := list(PARTS[part](bench)))
            write(measured, output)
            log.log(f"{part}: {time.monotonic() - started:.0f} s")


def table_of(figures: Sequence[Figure]) -> Table:
    """What was measured, for people."""
    table = Table("part", "figure", title="What the service costs")
    for column in ("median", "bar", "least – most"):
        table.add_column(column, justify="right", no_wrap=True)
    part = case = ""
    for figure in figures:
        if figure.part != part:
            table.add_section()
        if (figure.part, figure.case) != (part, case):
            table.add_row("" if figure.part == part else figure.part, f"[bold]{figure.case}[/bold]")
        bar = _bar(figure)
        table.add_row(
            "",
            f"  {figure.says}",
            f"{_number(figure.median)} {figure.unit}".rstrip(),
            bar if figure.meets_bar else f"[red]{bar} missed[/red]",
            f"{_number(min(figure.values))} – {_number(max(figure.values))}"
            if len(figure.values) > 1
            else "",
        )
        part, case = figure.part, figure.case
    return table


def _bar(figure: Figure) -> str:
    if figure.at_least is not None:
        return f"≥ {figure.at_least:g}"
    return "" if figure.at_most is None else f"≤ {figure.at_most:g}"


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(figures: Sequence[Figure], output: Path) -> None:
    """Replace what was measured now, and keep the other parts of an earlier run."""
    everything: dict[str, Any] = msgspec.json.decode(output.read_bytes()) if output.exists() else {}
    for figure in figures:
        everything[figure.part] = {}
    for figure in figures:
        *path, name = figure.key.split(".")
        place = everything
        for step in path:
            place = place.setdefault(step, {})
        place[name] = figure.median
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(everything)))


if __name__ == "__main__":
    main(sys.argv[1:])
