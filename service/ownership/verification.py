"""When a claim is verified, when it lapses, and when it is checked again: pure rules.

| claim      | lookup | then                                                                     |
|------------|--------|--------------------------------------------------------------------------|
| unverified | found  | verified                                                                 |
| unverified | absent | stays unverified, with the reason                                        |
| verified   | found  | stays verified; earlier failures are forgotten                           |
| verified   | absent | lapses once three such answers span 72 hours, and a day after a warning  |
| any        | failed | no change: a failed lookup never ends an ownership                       |

An unverified claim is checked every 5 minutes from when its checks begin, hourly after a day, and
daily after two weeks. A verified claim is checked daily. If its code is absent, it is checked every
6 hours. If lookups fail, it is checked after 5 minutes, 10, and so on up to a day.
"""

from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

Outcome: TypeAlias = Literal["found", "absent", "failed"]
Change: TypeAlias = Literal["verified", "recovered", "failing", "about_to_lapse", "lapsed"]

NOT_BEGUN = "Ownership not yet verified"
PENDING = "Verification pending"
CODE_NOT_FOUND = "Code not found"
CONNECTION_ERROR = "Connection error"
DOMAIN_NOT_FOUND = "Domain not found"
SUPERSEDED = "Superseded"

FIRST_INTERVAL = timedelta(minutes=5)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PATIENT_AFTER = timedelta(days=14)
WHILE_FAILING = timedelta(hours=6)

GRACE = timedelta(hours=72)
WARNING = timedelta(days=1)
"""The owner is warned at least this long before the ownership ends."""


class Standing(msgspec.Struct, frozen=True):
    """How a claim stands: what its checks have found so far."""

    begun_at: datetime | None = None
    is_verified: bool = False
    reason: str | None = NOT_BEGUN
    negatives: int = 0
    failing_since: datetime | None = None
    warned_at: datetime | None = None
    failures: int = 0
    last_checked_at: datetime | None = None
    last_verified_at: datetime | None = None


class Step(msgspec.Struct, frozen=True):
    """How a claim stands after a check, when the next is due, and what changed, if anything."""

    standing: Standing
    next_check_at: datetime
    change: Change | None


def begun(standing: Standing, now: datetime) -> Standing:
    """Begin a claim's checks now; if they have already begun, change nothing."""
    if standing.begun_at is not None:
        return standing
    return msgspec.structs.replace(standing, begun_at=now, reason=PENDING)


def advanced(
    standing: Standing,
    outcome: Outcome,
    now: datetime,
    *,
    reason: str = CODE_NOT_FOUND,
    spread: float = 0.0,
) -> Step:
    """Return what a check makes of a claim whose checks have begun.

    `reason` is what is wrong if the code is absent. `spread`, from 0 to 1, moves daily checks up by
    as much as two hours, so that checks due together drift apart.
    """
    assert standing.begun_at is not None
    checked = msgspec.structs.replace(standing, last_checked_at=now)
    match outcome:
        case "found":
            return _found(checked, now, spread)
        case "failed":
            failed = msgspec.structs.replace(
                checked, failures=standing.failures + 1, reason=CONNECTION_ERROR
            )
            return Step(failed, now + _after_failure(failed, now), None)
        case _:
            absent = msgspec.structs.replace(checked, failures=0, reason=reason)
            if not standing.is_verified:
                return Step(absent, now + _interval(standing.begun_at, now), None)
            return _missed(absent, now)


def keeps_until(standing: Standing, now: datetime) -> datetime:
    """Return how long a verified claim whose code is absent stays verified at least."""
    return max((standing.failing_since or now) + GRACE, (standing.warned_at or now) + WARNING)


def _found(checked: Standing, now: datetime, spread: float) -> Step:
    change: Change | None = None
    if not checked.is_verified:
        change = "verified"
    elif checked.failing_since is not None:
        change = "recovered"
    found = msgspec.structs.replace(
        checked,
        is_verified=True,
        reason=None,
        negatives=0,
        failing_since=None,
        warned_at=None,
        failures=0,
        last_verified_at=now,
    )
    return Step(found, now + DAY - 2 * HOUR * spread, change)


def _missed(absent: Standing, now: datetime) -> Step:
    """Advance a verified claim after an answer says that its code is absent."""
    since = absent.failing_since or now
    missed = msgspec.structs.replace(absent, negatives=absent.negatives + 1, failing_since=since)
    next_check_at = now + WHILE_FAILING
    if missed.negatives == 1:
        return Step(missed, next_check_at, "failing")
    if missed.warned_at is None:
        if now - since < GRACE - WARNING:
            return Step(missed, next_check_at, None)
        warned = msgspec.structs.replace(missed, warned_at=now)
        return Step(warned, next_check_at, "about_to_lapse")
    # That makes at least three: the first, the one that triggered the warning, and this one.
    if now - since < GRACE or now - missed.warned_at < WARNING:
        return Step(missed, next_check_at, None)
    lapsed = msgspec.structs.replace(
        missed,
        # Restart the schedule, so that a record that comes back is soon noticed.
        begun_at=now,
        is_verified=False,
        negatives=0,
        failing_since=None,
        warned_at=None,
    )
    return Step(lapsed, now + FIRST_INTERVAL, "lapsed")


def _interval(begun_at: datetime, now: datetime) -> timedelta:
    age = now - begun_at
    if age < DAY:
        return FIRST_INTERVAL
    return HOUR if age < PATIENT_AFTER else DAY


def _after_failure(failed: Standing, now: datetime) -> timedelta:
    """Return a delay that doubles for a verified claim; an unverified one keeps its schedule."""
    assert failed.begun_at is not None
    if not failed.is_verified:
        return _interval(failed.begun_at, now)
    # 2^10 times five minutes is more than a day.
    return min(FIRST_INTERVAL * 2 ** min(failed.failures - 1, 10), DAY)
