"""Prometheus metrics. They say nothing about who asked, or about whom."""

from prometheus_client import Counter, Histogram

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
