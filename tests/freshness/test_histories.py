"""The checker finds histories that no order explains, and only those."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.freshness.histories import NEVER, Answer, Change, violations

NONE, VERIFIED, ACME, APEX = "none", "verified", "Acme", "Apex"


@pytest.mark.parametrize(
    ("changes", "answers", "is_right"),
    [
        pytest.param([], [(0, 1, NONE)], True, id="nothing changed"),
        pytest.param([], [(0, 1, ACME)], False, id="a name out of nowhere"),
        pytest.param([(1, 2, ACME)], [(3, 4, ACME)], True, id="read after a grant"),
        pytest.param([(1, 2, ACME)], [(3, 4, NONE)], False, id="a stale read"),
        pytest.param([(3, 4, ACME)], [(1, 2, ACME)], False, id="a read from the future"),
        pytest.param([(1, 4, ACME)], [(2, 3, NONE)], True, id="during a change, before it"),
        pytest.param([(1, 4, ACME)], [(2, 3, ACME)], True, id="during a change, after it"),
        pytest.param(
            [(1, 2, ACME), (3, 4, VERIFIED)], [(5, 6, ACME)], False, id="a lost revocation"
        ),
        pytest.param(
            [(1, 2, ACME), (3, 4, APEX)], [(5, 6, ACME)], False, id="a name after its rename"
        ),
        pytest.param(
            [(1, 9, ACME)],
            [(2, 3, ACME), (4, 5, NONE)],
            False,
            id="one reader sees it, a later not",
        ),
        pytest.param(
            [(1, 9, ACME)], [(2, 5, ACME), (4, 6, NONE)], True, id="two readers at the same time"
        ),
        pytest.param(
            [(1, 9, ACME)],
            [(2, 3, NONE), (4, 5, ACME), (6, 7, ACME)],
            True,
            id="in force halfway through",
        ),
        pytest.param(
            [(1, NEVER, ACME)], [(5, 6, NONE), (8, 9, ACME)], True, id="an unknown outcome, late"
        ),
        pytest.param(
            [(1, NEVER, ACME)], [(5, 6, NONE), (8, 9, NONE)], True, id="an unknown outcome, never"
        ),
        pytest.param(
            [(1, NEVER, ACME)],
            [(5, 6, ACME), (8, 9, NONE)],
            False,
            id="an unknown outcome, there and back",
        ),
        pytest.param(
            [(1, 2, ACME), (3, 4, VERIFIED), (5, 6, VERIFIED), (7, 8, APEX)],
            [(2.5, 6.5, APEX)],
            False,
            id="the name of after a rename, and the grant of before",
        ),
        pytest.param(
            [(1, 2, ACME), (3, 4, VERIFIED), (5, 6, VERIFIED), (7, 8, APEX)],
            [(2.5, 7.5, APEX)],
            True,
            id="during a rename and a new grant",
        ),
        pytest.param(
            [(1, 2, ACME), (3, 4, NONE), (5, 6, ACME)],
            [(2.5, 5.5, ACME), (5.6, 5.7, NONE)],
            True,
            id="the same value before and after",
        ),
        pytest.param(
            [(1, 2, ACME), (3, 4, NONE), (5, 6, ACME)],
            [(3.5, 3.6, NONE), (3.7, 4.5, ACME)],
            False,
            id="back to a value that is over",
        ),
    ],
)
def test_history_is_right_if_some_order_explains_it(
    changes: list[tuple[float, float, str]], answers: list[tuple[float, float, str]], is_right: bool
) -> None:
    found = violations(
        NONE, [Change(*each) for each in changes], [Answer(*each) for each in answers]
    )
    assert (found == []) is is_right


def explained(told: str | None, changes: Sequence[Change], answers: Sequence[Answer]) -> bool:
    """The definition: try every order in which nothing comes before what ended before it began."""
    if not answers:
        return True
    first_end = min([*(each.ended for each in changes), *(each.ended for each in answers)])
    if (
        changes
        and changes[0].began <= first_end
        and explained(changes[0].told, changes[1:], answers)
    ):
        return True
    return any(
        answer.told == told
        and answer.began <= first_end
        and explained(told, changes, [*answers[:position], *answers[position + 1 :]])
        for position, answer in enumerate(answers)
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Change], list[Answer]]:
    """Small histories with few values, in which no two times are the same."""
    number = draw(st.integers(0, 3))
    instants = draw(st.permutations(range(2 * number + 8)))
    writes = sorted(instants[: 2 * number])
    values = st.sampled_from([NONE, VERIFIED, ACME])
    changes: list[Change] = [
        Change(began, ended, draw(values))
        for began, ended in zip(writes[::2], writes[1::2], strict=True)
    ]
    is_last_unknown: bool = draw(st.booleans())
    if changes and is_last_unknown:
        changes[-1] = Change(changes[-1].began, NEVER, changes[-1].told)
    reads = instants[2 * number :][: 2 * draw(st.integers(0, 4))]
    answers = [
        Answer(min(pair), max(pair), draw(values))
        for pair in zip(reads[::2], reads[1::2], strict=True)
    ]
    return changes, answers


@given(histories())
def test_checker_finds_what_the_definition_does(history: tuple[list[Change], list[Answer]]) -> None:
    changes, answers = history
    assert (violations(NONE, changes, answers) == []) == explained(NONE, changes, answers)
