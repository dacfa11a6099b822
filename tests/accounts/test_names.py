"""Account names: which are valid, and which could deceive."""

import os
import unicodedata
from collections.abc import Callable
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.accounts.names import checked_name, skeleton
from service.errors import InvalidName
from tests.builders import NO_VERIFIED, VERIFIED, World

# Characters that are invisible or change the text direction.
INVISIBLE = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\u2066\u2069\u061c\u034f\u3164\ufe0f\U000e0041"
    "\0\x1b\n\r\t\u2028"
)
# Look-alikes for letters in the two fixed answers.
LOOKALIKES = {
    "A": "АΑᎪ𝐀Ａ", "c": "сϲ𝐜ｃ", "i": "іⅰ𝐢ｉ", "e": "е𝐞ｅ", "o": "оο𝐨ｏ", "P": "РΡ𝐏Ｐ", "N": "Ν𝐍Ｎ",
    "I": "lІΙ1|", "a": "а𝐚ａ", "p": "рｐ", "s": "ѕｓ", "V": "Ｖ", " ": "\u00a0\u2003\u3000  -_.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Acme, Inc.", "Acme, Inc."),
        ("  Acme   Leads ", "Acme Leads"),
        ("A\u030angstro\u0308m Media", "Ångström Media"),
        ("株式会社リード", "株式会社リード"),
        ("3M", "3M"),
        ("ActiveProspect, Inc.", "ActiveProspect, Inc."),
        ("O’Neill & Söhne (Leads) GmbH", "O’Neill & Söhne (Leads) GmbH"),
    ],
)
def test_name_is_kept_as(text: str, name: str) -> None:
    assert checked_name(text) == name
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "text",
    ["", " ", "A", "…!", "x" * 121, "https://acme.example", "Acme www.acme.example", "http:acme"],
)
def test_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        checked_name(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{VERIFIED}™",
        f"{VERIFIED} 1",
        f"“{VERIFIED}”",
        "ActiveProspect Verìfied Account",
        "ActiveProspect Verlfied Account",
        "Active Prospect: Verified-Account",
        "null",
        "NONE",
    ],
)
def test_name_that_could_be_taken_for_an_answer_is_refused(text: str) -> None:
    with pytest.raises(InvalidName, match="different from the reserved names"):
        checked_name(text)


@given(st.sampled_from(INVISIBLE), st.integers(0, 9))
def test_name_with_an_unseen_character_is_refused(character: str, place: int) -> None:
    with pytest.raises(InvalidName):
        checked_name("Acme Leads"[:place] + character + "Acme Leads"[place:])


@given(st.data())
def test_name_that_looks_like_a_fixed_answer_is_refused(data: st.DataObject) -> None:
    fixed = data.draw(st.sampled_from([NO_VERIFIED, VERIFIED]))
    disguised = "".join(
        data.draw(st.sampled_from([letter, *LOOKALIKES.get(letter, "")])) for letter in fixed
    )
    with pytest.raises(InvalidName):
        checked_name(disguised)


@pytest.mark.parametrize("fixed", [NO_VERIFIED, VERIFIED])
def test_fixed_answer_in_another_case_is_refused(fixed: str) -> None:
    for text in (fixed, fixed.upper(), fixed.lower(), fixed.title(), fixed.swapcase()):
        with pytest.raises(InvalidName):
            checked_name(text)


CASES: list[Callable[[str], str]] = [str, str, str.upper, str.lower, str.title, str.swapcase]
FORMS: list[Literal["NFC", "NFD", "NFKC", "NFKD"]] = ["NFC", "NFD", "NFKC", "NFKD"]


def disguised(name: str, random: Random) -> str:
    """Disguise a name with another case, look-alikes, and invisible characters."""
    letters = [
        random.choice([letter, *LOOKALIKES.get(letter, "")]) if random.random() < 0.3 else letter
        for letter in random.choice(CASES)(name)
    ]
    for _ in range(random.choice([0, 0, 1, 2])):
        letters.insert(random.randrange(len(letters) + 1), random.choice(INVISIBLE + " .-_"))
    end = random.choice(["", "", "!", " 1", "™"])
    return unicodedata.normalize(random.choice(FORMS), "".join(letters)) + end


# `make explore` tries more.
DISGUISES = int(os.environ.get("DISGUISES", "10000"))


def test_none_of_thousands_of_disguises_passes_for_a_fixed_answer() -> None:
    random = Random(20261125)
    for number in range(DISGUISES):
        text = disguised((NO_VERIFIED, VERIFIED)[number % 2], random)
        with pytest.raises(InvalidName):
            checked_name(text)


def test_none_of_thousands_of_disguises_passes_for_another_accounts_name() -> None:
    random, name = Random(20261125), "Apricot Sales Company"
    taken, refused = skeleton(name), 0
    for _ in range(DISGUISES):
        text = "".join(
            random.choice([letter, *LOOKALIKES.get(letter, "")]) if letter != " " else letter
            for letter in name
        )
        if random.random() < 0.5:
            place = random.randrange(len(text))
            text = text[:place] + random.choice(INVISIBLE) + text[place:]
        try:
            checked = checked_name(text)
        except InvalidName:
            refused += 1
        else:
            assert skeleton(checked) == taken, text
    assert 0 < refused < DISGUISES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Modern Leads", "Modem Leads"),
        ("Western Leads", "VVestern Leads"),
        ("Paypal Leads", "PaypaI Leads"),
        ("Orange Leads", "0range Leads"),
        ("Acme Leads", "ACME LEADS"),
        ("O'Neill Leads", "O’Neill Leads"),
    ],
)
def test_names_that_can_be_taken_for_each_other_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


async def test_no_two_accounts_may_look_alike(world: World) -> None:
    await world.company("Paypal Leads")
    with pytest.raises(InvalidName, match="different from every other"):
        await world.company("PaypaI Leads")
    other = await world.company("Other Leads")
    with pytest.raises(InvalidName, match="different from every other"):
        await world.rename(other, "Раypal Leads")
    assert skeleton("Paypal Leads") == skeleton("PaypaI Leads")


async def test_account_may_be_renamed_to_what_looks_like_its_own_name(world: World) -> None:
    company = await world.company("Acme Leads")
    await world.rename(company, "ACME Leads")
    rows = await world.fetch("SELECT name FROM account")
    assert [row["name"] for row in rows] == ["ACME Leads"]
