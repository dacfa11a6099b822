"""The mutants: what each one changes and breaks, and which tests should notice.

Each subject has a TOML file next to this module.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.running import ROOT

_HERE = Path(__file__).parent


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An edit that breaks a rule: replace `old`, which occurs in the file once, with `new`."""

    file: str
    old: str
    new: str
    breaks: str

    def applied_to(self, text: str) -> str:
        """Apply the edit to the file's text. Raises `ValueError` if that's not possible.

        What would undo a migration never runs, so it stays as it is and doesn't count.
        """
        text, undo, rest = text.partition("\n-- migrate: rollback")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file}: “{self.breaks}”: its old text is there {found} times")
        return text.replace(self.old, self.new) + undo + rest


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mutants that the same tests should notice."""

    name: str
    tests: list[str]
    mutants: list[Mutant]


def subjects(wanted: Sequence[str] = ()) -> list[Subject]:
    """All subjects, or only those wanted by name and the mutants wanted by part of `breaks`."""
    found = [
        msgspec.convert(
            {"name": file.stem, **msgspec.toml.decode(file.read_bytes(), type=dict)}, Subject
        )
        for file in sorted(_HERE.glob("*.toml"))
    ]
    if not wanted:
        return found
    names = {subject.name for subject in found}.intersection(wanted)
    parts = [each for each in wanted if each not in names]
    chosen = [
        subject
        if subject.name in names
        else msgspec.structs.replace(
            subject,
            mutants=[
                each for each in subject.mutants if any(part in each.breaks for part in parts)
            ],
        )
        for subject in found
    ]
    return [subject for subject in chosen if subject.mutants]


def problems(mutant: Mutant) -> list[str]:
    """Why a mutant can't be made from the current checkout; empty if it can."""
    try:
        mutant.applied_to((ROOT / mutant.file).read_text())
    except (OSError, ValueError) as error:
        return [str(error)]
    return [] if mutant.new != mutant.old else [f"{mutant.file}: “{mutant.breaks}” changes nothing"]
