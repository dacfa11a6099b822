"""Structured logs: one line per event, for people (console) or machines (json).

Only values passed by name are logged. No handler passes headers, bodies, or anything about a
consumer, so keys and personal data never get into the logs.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec
import structlog

from service.settings import LogFormat

# Without this, Granian would write its own lines in its own format.
GRANIAN_LOGGING = {
    "loggers": {
        name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")
    }
}


_log = structlog.get_logger("service.access")
# Where the access log goes as JSON, if it does.
_plain: TextIO | None = None


def _as_json(line: object, **_: object) -> str:
    return msgspec.json.encode(line).decode()


def log_request(
    *, method: str, path: str | None, status: int, milliseconds: float, request_id: str
) -> None:
    """Log a request. `path` is the pattern of its route, if it has one."""
    fields = {
        "method": method,
        "path": path,
        "status": status,
        "milliseconds": milliseconds,
        "request_id": request_id,
    }
    if _plain is None:
        _log.info("request", **fields)
        return
    # There is a line for each request, and structlog's way to the same one takes six times as long.
    line = {"event": "request", **fields, "level": "info", "timestamp": datetime.now(UTC)}
    _plain.write(f"{_as_json(line)}\n")


def configure_logs(log_format: LogFormat) -> None:
    """Send our own and every library's log lines to standard error, in one format."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    global _plain
    _plain = sys.__stderr__ if log_format == "json" else None
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(serializer=_as_json)
    # Our own lines go straight to standard error: the way through the standard library takes most of
    # the time of a line, and there is one for each request.
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.__stderr__),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    # It logs every request with its URL, and our URLs contain certificate ids.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
