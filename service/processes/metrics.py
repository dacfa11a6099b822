"""Prometheus metrics. They say nothing about who asked, or about whom."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "confirmed_owner_requests",
    "Calls to the Certificate API, by HTTP status.",
    ["status"],
)
ANSWERS = Counter(
    "confirmed_owner_answers",
    "Recorded answers, by what they say about the owner.",
    ["status"],
)
DURATION = Histogram(
    "confirmed_owner_request_seconds",
    "How long answered calls to the Certificate API took.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
BATCH_SIZE = Histogram(
    "confirmed_owner_batch_size",
    "How many calls shared one query.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_ROWS = Counter(
    "confirmed_owner_batch_rows",
    "Rows of batches that were answered, by what they were told.",
    ["result"],
)
UPSTREAM = Counter(
    "confirmed_owner_upstream_calls",
    "Calls to the vendor, by HTTP status or other outcome.",
    ["result"],
)
UPSTREAM_DURATION = Histogram(
    "confirmed_owner_upstream_seconds",
    "How long calls to the vendor took.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IMPORTED = Counter(
    "confirmed_owner_imported_lines",
    "Lines of certificate imports over HTTP, by result.",
    ["result"],
)
MAILS = Counter(
    "confirmed_owner_mails",
    "Attempts to send an email: sent, written to the outbox, or about whom the failure is.",
    ["result"],
)
REFUSED = Counter(
    "confirmed_owner_refused",
    "Requests refused as more than the caller may send (too_many_calls, limit_reached), as more "
    "than the process takes (overloaded), or while the database or the vendor is away "
    "(unavailable).",
    ["reason"],
)
LIMITS = Counter(
    "confirmed_owner_limits_reached",
    "How often a limit per hour or day refused something, by what it limits.",
    ["limit"],
)

# What each process has in use, as of the last second; see `vitals`.
HEARTBEAT = Gauge(
    "confirmed_owner_heartbeat_timestamp_seconds",
    "When a process was last heard of, by what it does.",
    ["role"],
    multiprocess_mode="liveall",
)
IN_PROGRESS = Gauge(
    "confirmed_owner_requests_in_progress",
    "Requests in progress.",
    multiprocess_mode="livesum",
)
CONNECTIONS = Gauge(
    "confirmed_owner_connections",
    "Database connections in use, by what the process does and by pool.",
    ["role", "pool"],
    multiprocess_mode="livesum",
)
CONNECTIONS_MOST = Gauge(
    "confirmed_owner_connections_most",
    "How many database connections can be in use.",
    ["role", "pool"],
    multiprocess_mode="livesum",
)
CONNECTIONS_AWAITED = Gauge(
    "confirmed_owner_connections_awaited",
    "How many wait for a database connection.",
    ["role", "pool"],
    multiprocess_mode="livesum",
)
DATABASE_DOWN = Gauge(
    "confirmed_owner_database_down",
    "Processes that refuse what needs the database, because it doesn't respond.",
    ["role"],
    multiprocess_mode="livesum",
)
BREAKERS_OPEN = Gauge(
    "confirmed_owner_upstream_breakers_open",
    "Open circuit breakers to the vendor: one for everyone in each process, and one per account.",
    ["whom"],
    multiprocess_mode="livesum",
)
