"""What `confirmed-owner status` says, and which of it needs attention."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from service import __version__
from service.processes.queue import Depth
from service.processes.shared_metrics import Process, Told
from service.status.readings import Disk, Known

# Beyond these many seconds, a process that tells of itself every second hangs, and a job that
# workers are notified of has none.
SILENT_FOR = 10.0
JOBS_WAIT = 60.0

# The least part of the disk that should be free, and the most of the server's connections to use.
LEAST_FREE = 0.05
MOST_CONNECTIONS = 0.9


class Connections(msgspec.Struct, frozen=True):
    """The connections of one pool, in all processes of a role together."""

    role: str
    pool: str
    in_use: int
    waiting: int
    most: int


class Report(msgspec.Struct, frozen=True):
    """What is going on. `attention` has a sentence for everything that needs it.

    What processes count, they count since they started. `database` is None if it couldn't be asked;
    `database_problem` says why.
    """

    version: str
    processes: Sequence[Process]
    requests_in_progress: int
    refused: Mapping[str, int]
    limits_reached: Mapping[str, int]
    connections: Sequence[Connections]
    processes_without_database: int
    vendor_breakers_open: Mapping[str, int]
    database: Known | None
    database_problem: str | None
    disk: Disk
    attention: Sequence[str] = ()


def report_of(told: Told, known: Known | str, disk: Disk) -> Report:
    """Put together what processes tell, and what the database knows, or why it couldn't be asked."""
    in_use = told.by("confirmed_owner_connections", "role", "pool")
    waiting = told.by("confirmed_owner_connections_awaited", "role", "pool")
    most = told.by("confirmed_owner_connections_most", "role", "pool")
    report = Report(
        version=__version__,
        processes=told.processes,
        requests_in_progress=round(sum(told.by("confirmed_owner_requests_in_progress").values())),
        refused=_counts(told, "confirmed_owner_refused_total", "reason"),
        limits_reached=_counts(told, "confirmed_owner_limits_reached_total", "limit"),
        connections=[
            Connections(role, pool, *(round(each[role, pool]) for each in (in_use, waiting, most)))
            for role, pool in most
        ],
        processes_without_database=round(sum(told.by("confirmed_owner_database_down").values())),
        vendor_breakers_open=_counts(told, "confirmed_owner_upstream_breakers_open", "whom"),
        database=None if isinstance(known, str) else known,
        database_problem=known if isinstance(known, str) else None,
        disk=disk,
    )
    return msgspec.structs.replace(report, attention=list(_attention(report)))


def _counts(told: Told, name: str, label: str) -> dict[str, int]:
    """Return a metric's values by a label, but those that are zero."""
    return {of: round(value) for (of,), value in told.by(name, label).items() if value}


def _attention(report: Report) -> Iterator[str]:
    roles = {process.role for process in report.processes}
    if not roles:
        yield "The service is not running on this STATE_DIR."
    elif "jobs" not in roles:
        yield "No process here does background jobs."
    for process in report.processes:
        if process.silent_for > SILENT_FOR:
            silent = _span(process.silent_for)
            yield f"Process {process.pid} ({process.role}) hangs: silent for {silent}."
    for pool in report.connections:
        if pool.waiting:
            yield f"{pool.waiting} wait for a connection of the pool “{pool.pool}” ({pool.role})."
    if (without := report.processes_without_database) > 0:
        yield f"The database doesn't respond to {without} of the processes, which refuse calls."
    if report.vendor_breakers_open.get("everyone"):
        yield "The vendor can't be reached: calls that need it are refused."
    if accounts := report.vendor_breakers_open.get("account"):
        yield f"The vendor fails for {accounts} accounts, whose calls to it are refused."
    if report.database is None:
        yield f"The database can't be asked: {report.database_problem}."
    else:
        yield from _attention_to_database(report.database)
    if report.disk.free < report.disk.bytes * LEAST_FREE:
        yield "The disk that STATE_DIR is on is nearly full."


def _attention_to_database(known: Known) -> Iterator[str]:
    if known.load.connections > known.load.most_connections * MOST_CONNECTIONS:
        yield "The database server has nearly as many connections as it allows (max_connections)."
    for queue in known.queues:
        if queue.oldest > JOBS_WAIT:
            waited = _span(queue.oldest)
            yield f"A job “{queue.entrypoint}” has waited for {waited}: no worker, or too few."
        if queue.abandoned:
            yield f"A worker died at {queue.abandoned} jobs “{queue.entrypoint}”; no other took them."
    if known.mails.retrying:
        yield f"{known.mails.retrying} emails could not be sent, and are tried again: see the log."
    if known.checks.overdue:
        oldest = _span(known.checks.oldest)
        yield f"{known.checks.overdue} checks of domains are overdue, the oldest due for {oldest}."
    for name in known.bought_out:
        yield f"{name} has used up today's calls to the vendor. To give it more: account limit."


def in_words(report: Report) -> str:
    """Return the report as lines of text, with what needs attention at the end."""
    rows = list(_rows(report))
    width = max(len(name) for name, _ in rows)
    lines = [f"confirmed-owner {report.version}", ""]
    former = None
    for name, words in rows:
        lines.append(f"{'' if name == former else name:{width}}  {words}")
        former = name
    lines.append("")
    if report.attention:
        lines += ["NEEDS ATTENTION", *(f"- {sentence}" for sentence in report.attention)]
    else:
        lines.append("Nothing needs attention.")
    return "\n".join(lines)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    roles = dict.fromkeys(process.role for process in report.processes)
    for role in roles:
        pids = [process.pid for process in report.processes if process.role == role]
        yield "processes", f"{role}: {len(pids)} (pid {', '.join(map(str, pids))})"
    if not roles:
        yield "processes", "none"
    yield "requests", f"{report.requests_in_progress} in progress"
    yield "refused", _listed(report.refused) or "none"
    yield "limits", _listed(report.limits_reached) or "none reached"
    for role in roles:
        pools = [
            f"{pool.pool} {pool.in_use} of {pool.most}"
            + (f" ({pool.waiting} wait)" * bool(pool.waiting))
            for pool in report.connections
            if pool.role == role
        ]
        yield "connections", f"{role}: {', '.join(pools) or 'none'}"
    yield "vendor", _listed(report.vendor_breakers_open, "refused for {}: {}") or "nothing refused"
    known = report.database
    if known is None:
        yield "database", f"AWAY: {report.database_problem}"
    else:
        load, mails, checks = known.load, known.mails, known.checks
        yield (
            "database",
            (f"{_size(load.bytes)}, {load.connections} of {load.most_connections} connections"),
        )
        for queue in known.queues:
            yield "jobs", _queue(queue)
        if not known.queues:
            yield "jobs", "none"
        yield (
            "emails",
            (f"{mails.queued} queued, {mails.retrying} retrying, {mails.failed} failed in a day"),
        )
        yield "domains", f"{checks.due} checks due, {checks.overdue} overdue"
    free, size = report.disk.free, report.disk.bytes
    yield "disk", f"{_size(free)} of {_size(size)} free ({free / size:.0%})"


def _queue(queue: Depth) -> str:
    since = f" (oldest for {_span(queue.oldest)})" if queue.waiting else ""
    return (
        f"{queue.entrypoint}: {queue.waiting} waiting{since}, {queue.later} later, "
        f"{queue.picked} picked, {queue.abandoned} abandoned"
    )


def _listed(counts: Mapping[str, int], form: str = "{}: {:,}") -> str:
    return ", ".join(form.format(name, count) for name, count in sorted(counts.items()))


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:,.1f} TB"
