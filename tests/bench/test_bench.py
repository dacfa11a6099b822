"""What the benchmark compares does the same work, and its figures say what was measured.

Parts that put load on servers have no short form: to start those takes too long.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.bench.__main__ import write
from tests.bench.cluster import Bench, Filled
from tests.bench.measuring import Figure, Turn, in_turns
from tests.bench.parts.database import Script
from tests.bench.statement import answer_many


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack).database("few", owned=100, certificates=200)


def recorded(filled: Filled) -> dict[str, int]:
    """How many answers are on record, by what they said."""
    return dict(filled.ask("SELECT status, count(*) FROM answer GROUP BY status"))


def test_pgbench_decides_and_records_as_many_answers_as_it_counts(
    filled: Filled, tmp_path: Path
) -> None:
    ours = answer_many(filled, 320)
    before = recorded(filled)
    # Each connection's first question is not counted.
    assert sum(before.values()) == ours.answers + 2
    assert before.keys() == {"named", "verified", "none"}
    theirs = Script(filled, tmp_path / "script").run(1)
    after = recorded(filled)
    # The statement was sent once to see what is sent.
    assert sum(after.values()) - sum(before.values()) == theirs.answers + 32
    assert all(after[status] > before[status] for status in before)
    assert ours.postgres_cpu > 0
    assert theirs.postgres_cpu > 0


def test_every_target_has_its_turn_in_every_round_and_each_the_first_in_one() -> None:
    order: list[str] = []

    def turn(name: str) -> Turn:
        order.append(name)
        return Turn(answers=len(order), seconds=1.0, server_cpu=0.0, postgres_cpu=0.0)

    rounds = in_turns({name: partial(turn, name) for name in "abc"}, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert rounds.values("rate", "a") == [4, 9, 11]
    assert rounds.ratios("rate", "b", "a") == [5 / 4, 7 / 9, 12 / 11]


@pytest.mark.parametrize(
    ("at_least", "at_most", "meets"),
    [(2, None, True), (2.1, None, False), (None, 2, True), (None, 1.9, False), (None, None, True)],
)
def test_bar_is_met_by_the_median(
    at_least: float | None, at_most: float | None, meets: bool
) -> None:
    figure = Figure("part.figure", "", "", [1, 9, 2], at_least=at_least, at_most=at_most)
    assert figure.meets_bar is meets


def test_measuring_one_part_keeps_the_figures_of_the_others(tmp_path: Path) -> None:
    output = tmp_path / "state" / "bench.json"
    write([Figure("single.c64.rps", "", "", [1, 2, 3]), Figure("cold.old_s", "", "", [1])], output)
    write([Figure("cold.fresh_s", "", "", [4])], output)
    assert msgspec.json.decode(output.read_bytes()) == {
        "single": {"c64": {"rps": 2}},
        "cold": {"fresh_s": 4},
    }
