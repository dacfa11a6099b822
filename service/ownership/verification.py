"""When a claim is verified, when it is not any more, and when it is looked at again: pure rules.

| claim      | the code was   | then                                                                 |
|------------|----------------|----------------------------------------------------------------------|
| unverified | found          | verified                                                             |
| unverified | absent         | stays so, with what is wrong                                         |
| verified   | found          | stays so; what failed before is forgotten                            |
| verified   | absent         | ends once three such answers span 72 hours, and a day after a warning |
| any        | not to be told | stays as it is: a failed look-up never ends an ownership             |

Checked is an unverified claim every 5 minutes from when its checks began, after a day hourly, after two
weeks daily; a verified one daily. One whose code is absent is checked every 6 hours, one whose
look-ups fail after 5 minutes, 10, and so on up to a day.
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
"""How long before its end an ownership's owner is warned, at the least."""


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
    """How a claim stands after a check, when the next is due, and what has changed, if anything."""

    standing: Standing
    next_check_at: datetime
    change: Change | None


def begun(standing: Standing, now: datetime) -> Standing:
    """A claim whose checks begin now; one whose checks go on already stays as it is."""
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
    """What a check makes of a claim whose checks have begun.

    `reason` is what is wrong where the code is absent. `spread`, from 0 to 1, brings daily checks
    forward by up to two hours, so that many that fell due together part.
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
    """The code of a verified claim is not there, says an authority."""
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
    # At least three have said so by then: the first, the one that brought the warning, and this one.
    if now - since < GRACE or now - missed.warned_at < WARNING:
        return Step(missed, next_check_at, None)
    lapsed = msgspec.structs.replace(
        missed,
        # As if begun anew, so that a record that comes back is soon seen.
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
    """Twice as long each time for a verified claim; an unverified one keeps its turn."""
    assert failed.begun_at is not None
    if not failed.is_verified:
        return _interval(failed.begun_at, now)
    # 2^10 times five minutes is more than a day.
    return min(FIRST_INTERVAL * 2 ** min(failed.failures - 1, 10), DAY)
