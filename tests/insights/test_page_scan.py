"""Page scans: compare with a slow oracle, and try patterns designed to be slow."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insights.page_scan import ScanText, scan

# A small alphabet, so that patterns match often and overlap.
TEXT = st.text(alphabet="aAbBß.*{} \n\t\u00a0", max_size=24)
WILDCARDS = st.sampled_from([None, "|", "==", "|||"])


def contains(text: str, term: str, delimiter: str | None) -> bool:
    """Whether the term matches by definition: try every way to place its parts in order."""

    def folded(value: str) -> str:
        words = " ".join(value.casefold().split())
        before, after = value[:1].isspace(), value[-1:].isspace()
        return (" " * before + words + " " * after) if words else " " * before

    recorded = " ".join(text.casefold().split())
    ends = {0}
    own = f"{delimiter}*{delimiter}" if delimiter else "{{*}}"
    for part in map(folded, term.strip().replace(own, "{{*}}").split("{{*}}")):
        ends = {
            start + len(part)
            for start in range(len(recorded) + 1)
            if start >= min(ends) and recorded[start : start + len(part)] == part
        }
        if not ends:
            return False
    return True


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), WILDCARDS)
def test_scan_finds_what_a_slow_oracle_finds(
    text: str, parts: list[str], delimiter: str | None
) -> None:
    wildcard = "{{*}}" if delimiter is None else f"{delimiter}*{delimiter}"
    term = wildcard.join(parts)
    found = scan(ScanText.of(text), [term], delimiter)
    if not term.strip():
        assert found.found == found.not_found == []
    else:
        assert bool(found.found) == contains(text, term, delimiter)
        assert found.found + found.not_found == [term]


@given(TEXT, TEXT, st.sampled_from([" ", "\n", " \t ", "\u00a0\u2003"]))
def test_every_run_of_white_space_is_equal_to_every_other(
    before: str, after: str, space: str
) -> None:
    text = ScanText.of(f"x{before} {after}x")
    term = f"x{before}{space}{after}x"
    assert scan(text, [term]).found == [term]


@pytest.mark.parametrize(
    ("recorded", "term"),
    [
        ("a" * 1_000_000, "a" * 20_000 + "b"),
        ("a" * 1_000_000, "b" + "a" * 20_000),
        ("a" * 1_000_000, "{{*}}".join(["a" * 30] * 500) + "b"),
        ("ab" * 500_000, "{{*}}".join(["ba"] * 9_000) + "{{*}}bb"),
        (("a" * 999 + "b") * 1000, "a" * 1000),
        (("ab" * 40 + "c") * 12_000, "ab" * 41),
    ],
)
def test_hostile_patterns_take_time_in_proportion_to_the_text(recorded: str, term: str) -> None:
    """Measure growth: a text eight times as long must not take anywhere near 64 times as long."""

    def seconds(text: ScanText) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert scan(text, [term]).not_found == [term]
            times.append(time.perf_counter() - started)
        return min(times)

    lengths = [len(recorded) // 64, len(recorded) // 8, len(recorded)]
    taken = [seconds(ScanText.of(recorded[:length])) for length in lengths]
    for shorter, longer in pairwise(taken):
        assert longer < 32 * max(shorter, 0.001)
