"""Rules for account and person names: length, no links, no invisible characters."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.accounts.names import checked_name, checked_person_name
from service.errors import InvalidInput
from tests.builders import World

# A function that returns a valid name, or refuses it.
Check = Callable[[str], str]

BOTH = pytest.mark.parametrize("check", [checked_name, checked_person_name])

# Default_Ignorable_Code_Point of the Unicode Character Database, without unassigned code points.
DEFAULT_IGNORABLE = [
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0, 0xE0001),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    *range(0x2066, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0020, 0xE0080),
    *range(0xE0100, 0xE01F0),
]

CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()]


def refused(check: Check, text: str) -> bool:
    try:
        check(text)
    except InvalidInput:
        return True
    return False


@BOTH
@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "mailto:jo@x.example",
        "MAILTO:jo@x.example",
        "data:text/html,x",
        "Data:x",
        "http:acme",
        "HTTPS:acme",
        "https://acme.example",
        "ftp://acme.example",
        "x://y",
        "www.acme.example",
        "WWW.acme.example",
    ],
)
def test_link_is_no_part_of_a_name(check: Check, link: str) -> None:
    for text in (link, f"Acme {link}", f"{link} Leads", f"Acme ({link})"):
        assert refused(check, text), text


@BOTH
@pytest.mark.parametrize(
    "name",
    ["Data Leads", "Mailto Ltd", "JavaScript People", "Http & Sons", "Wwwest", "Big data: us"],
)
def test_word_that_a_link_could_begin_with_is_one(check: Check, name: str) -> None:
    assert check(name) == name


@BOTH
def test_character_that_is_not_seen_is_no_part_of_a_name(check: Check) -> None:
    accepted = [
        f"U+{code:04X}"
        for code in (*DEFAULT_IGNORABLE, *CONTROLS)
        for text in (f"Jo{chr(code)}Doe", f"{chr(code)}Jo Doe", f"Jo Doe{chr(code)}")
        if not refused(check, text)
    ]
    assert accepted == []


@given(
    check=st.sampled_from([checked_name, checked_person_name]),
    place=st.integers(0, 6),
    unseen=st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn"]).filter(
        lambda c: not c.isspace()
    ),
)
def test_control_format_or_unassigned_character_is_no_part_of_a_name(
    check: Check, place: int, unseen: str
) -> None:
    assert refused(check, "Jo Doe"[:place] + unseen + "Jo Doe"[place:])


@pytest.mark.parametrize(
    "space", ["\n", "\r\n", "\t", "\u2028", "\u2029", "\x85", "\x1c", "\u3000"]
)
def test_white_space_in_a_persons_name_is_one_space(space: str) -> None:
    assert checked_person_name(f"{space}Jo{space}{space}Doe{space}") == "Jo Doe"


@pytest.mark.parametrize(
    ("check", "length", "is_one"),
    [
        *((checked_name, length, is_one) for length, is_one in ((0, False), (1, True))),
        *((checked_person_name, length, is_one) for length, is_one in ((0, False), (1, True))),
        *(
            (check, length, is_one)
            for check in (checked_name, checked_person_name)
            for length, is_one in ((119, True), (120, True), (121, False))
        ),
    ],
)
def test_name_is_as_long_as_it_may_be_and_no_longer(
    check: Check, length: int, is_one: bool
) -> None:
    name = "x" * length
    assert refused(check, name) is not is_one
    # Length is checked after stripping spaces and composing marks with their letters.
    padded = f"  {name}\N{NO-BREAK SPACE}"
    decomposed = "a\N{COMBINING RING ABOVE}" * length
    if is_one:
        assert check(padded) == name
        assert check(decomposed) == "\N{LATIN SMALL LETTER A WITH RING ABOVE}" * length
    else:
        assert refused(check, padded)
        assert refused(check, decomposed)


@pytest.mark.parametrize("length", [1, 120])
async def test_names_that_are_accepted_can_be_kept(world: World, length: int) -> None:
    company = await world.company("x" * length)
    await world.fetch(
        "UPDATE app_user SET name = $2 WHERE email = $1",
        company.email,
        checked_person_name("y" * (1 if length == 2 else length)),
    )
    await world.rename(company, "z" * length)
    assert len(await world.fetch("SELECT FROM account WHERE name = $1", "z" * length)) == 1


@given(check=st.sampled_from([checked_name, checked_person_name]), text=st.text(max_size=130))
def test_name_that_is_accepted_is_seen_as_it_is_kept(check: Check, text: str) -> None:
    if refused(check, text):
        return
    name = check(text)
    assert check(name) == name
    assert 1 <= len(name) <= 120
    assert unicodedata.is_normalized("NFC", name)
    assert name == " ".join(name.split())
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in name)
    assert not {ord(c) for c in name} & set(DEFAULT_IGNORABLE)
