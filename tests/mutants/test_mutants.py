"""The list of mutants matches the code."""

from collections import Counter

from tests.mutants.catalogue import problems, subjects
from tests.running import ROOT


def test_every_mutant_can_be_made() -> None:
    mutants = [mutant for subject in subjects() for mutant in subject.mutants]
    assert [problem for mutant in mutants for problem in problems(mutant)] == []


def test_every_mutant_is_there_once() -> None:
    mutants = [mutant for subject in subjects() for mutant in subject.mutants]
    breaks = Counter(mutant.breaks for mutant in mutants)
    edits = Counter((mutant.file, mutant.old, mutant.new) for mutant in mutants)
    assert [each for each, count in (breaks + edits).items() if count > 1] == []


def test_tests_that_should_notice_are_there() -> None:
    paths = [path for subject in subjects() for path in subject.tests]
    assert [path for path in paths if not (ROOT / path).exists()] == []
