"""Verification rules over years of simulated days, against a small oracle."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ownership.verification import (
    CODE_NOT_FOUND,
    CONNECTION_ERROR,
    DAY,
    DOMAIN_NOT_FOUND,
    FIRST_INTERVAL,
    GRACE,
    HOUR,
    NOT_BEGUN,
    PENDING,
    WHILE_FAILING,
    Change,
    Outcome,
    Standing,
    advanced,
    begun,
)

START = datetime(2026, 11, 25, tzinfo=UTC)

outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["found", "absent", "failed"])
# Outcomes repeat for a while, so that tests also reach transitions that take days.
weather = st.lists(st.tuples(outcomes, st.integers(1, 30)), min_size=1, max_size=30).map(
    lambda runs: [outcome for outcome, length in runs for _ in range(length)]
)


def verified(at: datetime = START) -> Standing:
    return advanced(begun(Standing(), at), "found", at).standing


def after(standing: Standing, *checks: tuple[timedelta, Outcome]) -> tuple[Standing, list[Change]]:
    """A claim's standing after checks at these times since the start, and its changes."""
    changes = []
    for since, outcome in checks:
        step = advanced(standing, outcome, START + since)
        standing = step.standing
        changes += [step.change] if step.change else []
    return standing, changes


def test_claim_waits_for_its_checks_to_begin() -> None:
    assert Standing().reason == NOT_BEGUN
    standing = begun(Standing(), START)
    assert (standing.reason, standing.begun_at) == (PENDING, START)
    assert begun(standing, START + DAY) == standing


@pytest.mark.parametrize("outcome", ["absent", "failed"])
@pytest.mark.parametrize(
    ("age", "interval"),
    [
        (timedelta(0), FIRST_INTERVAL),
        (timedelta(hours=23), FIRST_INTERVAL),
        (timedelta(days=1), HOUR),
        (timedelta(days=13, hours=23), HOUR),
        (timedelta(days=14), DAY),
        (timedelta(days=900), DAY),
    ],
)
def test_unverified_claim_is_checked_less_and_less_often(
    outcome: Outcome, age: timedelta, interval: timedelta
) -> None:
    step = advanced(begun(Standing(), START), outcome, START + age)
    assert step.next_check_at == START + age + interval


def test_found_code_verifies_and_is_looked_for_daily() -> None:
    step = advanced(begun(Standing(), START), "found", START + HOUR)
    assert (step.change, step.standing.reason) == ("verified", None)
    assert step.standing.last_verified_at == step.standing.last_checked_at == START + HOUR
    assert step.next_check_at == START + HOUR + DAY
    spread = advanced(begun(Standing(), START), "found", START, spread=1.0)
    assert spread.next_check_at == START + DAY - 2 * HOUR


def test_reasons_are_told_apart() -> None:
    standing = begun(Standing(), START)
    assert advanced(standing, "absent", START).standing.reason == CODE_NOT_FOUND
    gone = advanced(standing, "absent", START, reason=DOMAIN_NOT_FOUND)
    assert gone.standing.reason == DOMAIN_NOT_FOUND
    assert advanced(standing, "failed", START).standing.reason == CONNECTION_ERROR


def test_look_ups_that_fail_are_tried_again_later_and_later_up_to_a_day() -> None:
    standing, waits = verified(), []
    for _ in range(12):
        step = advanced(standing, "failed", START)
        standing = step.standing
        waits.append((step.next_check_at - START) // timedelta(minutes=1))
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]
    assert standing.is_verified


def test_ownership_ends_after_three_days_with_a_mail_at_the_first_and_a_day_before() -> None:
    standing, changes = after(
        verified(), *((WHILE_FAILING * number, "absent") for number in range(1, 14))
    )
    # Checks 1 to 13 are at 6 to 78 hours: first miss at 6, warning at 54, end at 78.
    assert changes == ["failing", "about_to_lapse", "lapsed"]
    assert not standing.is_verified
    assert standing.begun_at == START + WHILE_FAILING * 13


def test_code_that_comes_back_in_time_changes_nothing_else() -> None:
    standing, changes = after(
        verified(),
        *((WHILE_FAILING * number, "absent") for number in range(1, 12)),
        (timedelta(hours=71), "found"),
    )
    assert changes == ["failing", "about_to_lapse", "recovered"]
    assert standing == Standing(
        begun_at=START,
        is_verified=True,
        reason=None,
        last_checked_at=START + timedelta(hours=71),
        last_verified_at=START + timedelta(hours=71),
    )


def test_workers_that_stood_still_for_weeks_warn_a_day_before_they_end_anything() -> None:
    standing, changes = after(
        verified(), (DAY, "absent"), (20 * DAY, "absent"), (20 * DAY + HOUR, "absent")
    )
    assert (standing.is_verified, changes) == (True, ["failing", "about_to_lapse"])
    standing, changes = after(standing, (21 * DAY, "absent"))
    assert (standing.is_verified, changes) == (False, ["lapsed"])


NEARLY = timedelta(seconds=1)


def h(hours: float) -> timedelta:
    return timedelta(hours=hours)


@pytest.mark.parametrize(
    ("misses", "changes"),
    [
        ([h(0)], ["failing"]),
        ([h(0), h(48) - NEARLY], ["failing"]),
        ([h(0), h(48)], ["failing", "about_to_lapse"]),
        ([h(0), h(48), h(72) - NEARLY], ["failing", "about_to_lapse"]),
        ([h(0), h(48), h(72)], ["failing", "about_to_lapse", "lapsed"]),
        ([h(0), h(6), h(12), h(72)], ["failing", "about_to_lapse"]),
        # However long the code has been missing, the warning leaves a full day.
        ([h(0), h(60), h(84) - NEARLY], ["failing", "about_to_lapse"]),
        ([h(0), h(60), h(84)], ["failing", "about_to_lapse", "lapsed"]),
        ([h(0), h(500), h(524) - NEARLY], ["failing", "about_to_lapse"]),
        ([h(0), h(500), h(524)], ["failing", "about_to_lapse", "lapsed"]),
        # After the end, everything starts over.
        ([h(0), h(48), h(72), h(72) + NEARLY], ["failing", "about_to_lapse", "lapsed"]),
    ],
)
def test_ownership_ends_after_72_hours_and_a_day_after_the_warning_to_the_second(
    misses: list[timedelta], changes: list[Change]
) -> None:
    standing, told = after(verified(), *((DAY + since, "absent") for since in misses))
    assert told == changes
    assert standing.is_verified == ("lapsed" not in changes)


@pytest.mark.parametrize("since", [h(48), h(72), h(500)])
def test_look_up_that_fails_neither_warns_nor_ends_anything(since: timedelta) -> None:
    checks: list[tuple[timedelta, Outcome]] = [(h(0), "absent"), (since, "failed")]
    standing, told = after(verified(), *checks)
    assert (standing.is_verified, told) == (True, ["failing"])
    _, told = after(verified(), (h(0), "absent"), (h(48), "absent"), (since + h(48), "failed"))
    assert told == ["failing", "about_to_lapse"]


def minutes_to_next(
    standing: Standing, outcome: Outcome, at: timedelta, spread: float = 0
) -> float:
    now = START + at
    step = advanced(standing, outcome, now, spread=spread)
    return (step.next_check_at - now) / timedelta(minutes=1)


@pytest.mark.parametrize("outcome", ["absent", "failed"])
@pytest.mark.parametrize(
    ("age", "minutes"),
    [
        (h(0), 5),
        (h(24) - NEARLY, 5),
        (h(24), 60),
        (h(14 * 24) - NEARLY, 60),
        (h(14 * 24), 1440),
    ],
)
def test_unverified_claim_is_checked_after_5_minutes_an_hour_or_a_day(
    outcome: Outcome, age: timedelta, minutes: float
) -> None:
    assert minutes_to_next(begun(Standing(), START), outcome, age) == minutes


def test_verified_claim_is_checked_daily_and_every_6_hours_while_its_code_is_gone() -> None:
    assert minutes_to_next(begun(Standing(), START), "found", h(0)) == 1440
    assert minutes_to_next(verified(), "found", h(24)) == 1440
    assert minutes_to_next(verified(), "found", h(24), spread=1) == 1320
    assert minutes_to_next(verified(), "found", h(24), spread=0.5) == 1380
    assert minutes_to_next(verified(), "failed", h(24)) == 5
    standing = verified()
    for hours in (0, 6, 48):
        assert minutes_to_next(standing, "absent", h(hours)) == 360
        standing = advanced(standing, "absent", START + h(hours)).standing
    # A lost domain is checked as often as a newly added one.
    assert minutes_to_next(standing, "absent", h(72)) == 5
    lost = advanced(standing, "absent", START + h(72)).standing
    assert minutes_to_next(lost, "absent", h(96) - NEARLY) == 5
    assert minutes_to_next(lost, "absent", h(96)) == 60


@given(weather)
def test_claim_stands_as_the_oracle_says(checks: list[Outcome]) -> None:
    standing, now, history = begun(Standing(), START), START, list[tuple[datetime, Outcome]]()
    was_verified = False
    for outcome in checks:
        step = advanced(standing, outcome, now)
        history.append((now, outcome))
        expected = oracle(was_verified, history)
        assert step.standing.is_verified == expected
        assert (step.change == "verified") == (expected and not was_verified)
        assert (step.change == "lapsed") == (was_verified and not expected)
        assert now < step.next_check_at <= now + DAY
        if step.change == "lapsed":
            # Earlier misses no longer count.
            history.clear()
        standing, now, was_verified = step.standing, step.next_check_at, expected


def oracle(was_verified: bool, history: list[tuple[datetime, Outcome]]) -> bool:
    """Whether the claim is verified, from its whole history."""
    now, outcome = history[-1]
    if outcome == "found":
        return True
    misses: list[datetime] = []
    for at, what in history:
        if what == "found":
            misses = []
        elif what == "absent":
            misses.append(at)
    warned_by = next((at for at in misses[1:] if at - misses[0] >= GRACE - DAY), None)
    has_ended = (
        outcome == "absent"
        and len(misses) >= 3
        and now - misses[0] >= GRACE
        and warned_by is not None
        and now - warned_by >= DAY
    )
    return was_verified and not has_ended


@given(st.lists(st.sampled_from(["found", "failed"]), max_size=500))
def test_failures_alone_never_end_an_ownership(checks: list[Outcome]) -> None:
    standing, now = verified(), START
    for outcome in checks:
        step = advanced(standing, outcome, now)
        assert step.standing.is_verified
        assert step.change is None
        standing, now = step.standing, step.next_check_at


@given(weather)
def test_ownership_ends_only_after_three_negatives_over_three_days(checks: list[Outcome]) -> None:
    standing, now = verified(), START
    misses: list[datetime] = []
    for outcome in checks:
        step = advanced(standing, outcome, now)
        misses = [] if outcome == "found" else misses + ([now] if outcome == "absent" else [])
        if step.change == "lapsed":
            assert outcome == "absent"
            assert len(misses) >= 3
            assert misses[-1] - misses[0] >= timedelta(hours=72)
            misses = []
        standing, now = step.standing, step.next_check_at


def test_answer_that_there_is_no_code_ends_the_row_of_failures() -> None:
    standing = verified()
    for outcome in ("failed", "failed", "absent"):
        standing = advanced(standing, outcome, START).standing
    assert advanced(standing, "failed", START).next_check_at == START + FIRST_INTERVAL
