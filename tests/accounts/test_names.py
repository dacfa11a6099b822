"""Account names: which are valid, and which could deceive."""

import os
import unicodedata
from collections.abc import Callable
from random import Random
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.accounts import names
from service.accounts.accounts import names_alike
from service.accounts.names import checked_name, readings
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
        ("Big Data: Insights", "Big Data: Insights"),
        ("JavaScript: The Good Agency", "JavaScript: The Good Agency"),
        ("❤️ Health Leads", "❤️ Health Leads"),
        ("علی‌رضا", "علی‌رضا"),
        ("ශ්‍රී ලංකා", "ශ්‍රී ලංකා"),
        ("京", "京"),
        ("X", "X"),
        ("Verified Accounting", "Verified Accounting"),
        ("Mortgage Verified Accountants", "Mortgage Verified Accountants"),
        ("Prospect Active", "Prospect Active"),
        ("O’Neill & Söhne (Leads) GmbH", "O’Neill & Söhne (Leads) GmbH"),
    ],
)
def test_name_is_kept_as(text: str, name: str) -> None:
    assert checked_name(text) == name
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "text",
    ["", " ", "…!", "❤️", "x" * 121, "https://acme.example", "Acme www.acme.example", "http:acme"],
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
        "The ActiveProspect Verified Account",
        "No Verified Account Identified",
        "Verified Account",
        "verified-account",
        "Unverified",
        "Not verified",
        "Unknown",
        "N/A",
        "n.a.",
        "null",
        "NONE",
        "TrustedForm",
        "Trusted Form, Inc.",
        "ActiveProspect, Inc.",
        "ACTlVEPROSPECT Support",
        "ActiveProspect Anti-Fraud",
        "TrustedForm Ingest",
        "ActiveProspect Ing",
        "Verified Account Ant",
        "Act⃝iveProspect",
    ],
)
def test_name_that_could_be_taken_for_an_answer_a_status_or_the_vendor_is_refused(
    text: str,
) -> None:
    with pytest.raises(InvalidName, match="unlike the vendor’s"):
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
    taken, refused = readings(name), 0
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
            assert readings(checked) & taken, text
    assert 0 < refused < DISGUISES


@given(
    name=st.text("abcikmntwIKLMW ", min_size=2, max_size=20).filter(lambda t: len(t.split()) > 0),
    case=st.sampled_from(CASES),
    spelled=st.sampled_from(["{}", "{}.", "{}®", "“{}”", "{} ", "{}!"]),
    form=st.sampled_from(["", " Inc.", ", Inc", " LLC", " L.L.C.", " GmbH", " Ltd.", " Co., Ltd."]),
    joint=st.sampled_from([" ", "  ", "-", "", " - ", "_", ", "]),
)
def test_case_punctuation_space_and_legal_form_make_no_other_name(
    name: str, case: Callable[[str], str], spelled: str, form: str, joint: str
) -> None:
    # “I KK” is a company called “I”, while “IKK” is no such.
    words = names._words(name)
    assume(names._without_legal_form(words) == "".join(words))
    assert readings(name) & readings(spelled.format(case(name).replace(" ", joint)) + form)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Modern Leads", "Modem Leads"),
        ("Western Leads", "VVestern Leads"),
        ("Paypal Leads", "PaypaI Leads"),
        ("Paypal Leads", "PAYPAI LEADS"),
        ("Paypal Leads", "Paypa| Leads"),
        ("Orange Leads", "0range Leads"),
        ("Acme Leads", "ACME LEADS"),
        ("Harbor Insurance Group", "harbor insurance group"),
        ("LeadSpring Networks", "LEADSPRING NETWORKS"),
        ("O'Neill Leads", "O’Neill Leads"),
        ("München Leads GmbH", "MÜNCHEN LEADS GmbH."),
        ("BrightQuote Media", "Bright Quote  MEDIA"),
        ("BrightQuote Media", "BrightQuote-Media™"),
        ("BrightQuote Media", "BrightQuote Media LLC"),
        ("BrightQuote Media", "BrightQuoteMediaLLC"),
        ("Orchard Sales, Inc.", "Orchard Sales, lnc."),
        ("Orchard Sales, Inc.", "OrchardSales Incorporated"),
        ("Acme, Inc.", "A.c.m.e., Inc."),
        ("Acme", "Acme S.A. de C.V."),
        ("Acme", "ACME GmbH & Co. KG"),
        ("Acme Leads", "Acme | Leads"),
        ("Новый Дом", "HOBЫЙ ДOM"),
        ("Strasse", "Straße"),
        ("BrightQuote Media", "BrightQ\u302auote Media"),
        ("BrightQuote Media", "BrightQuote Me\U0001d165dia"),
        ("BrightQuote Media", "BrightQuote Med\u20ddia"),
    ],
)
def test_names_that_can_be_taken_for_each_other_have_a_reading_in_common(
    one: str, other: str
) -> None:
    assert readings(one) & readings(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Silver Leads", "Sliver Leads"),
        ("Mail Leads", "Mall Leads"),
        ("Zinc", "Z"),
        ("Cisco", "CIS"),
        ("Company Leads", "Leads"),
        ("Limited", "Unlimited"),
        ("Müller", "Muller"),
        ("कि", "का"),
    ],
)
def test_names_that_people_tell_apart_have_no_reading_in_common(one: str, other: str) -> None:
    assert not readings(one) & readings(other)


async def test_no_two_accounts_may_look_alike(world: World) -> None:
    await world.company("Paypal Leads")
    with pytest.raises(InvalidName, match="different from every other"):
        await world.company("PaypaI Leads")
    other = await world.company("Other Leads")
    with pytest.raises(InvalidName, match="different from every other"):
        await world.rename(other, "Раypal Leads")


async def test_account_may_be_renamed_to_what_looks_like_its_own_name(world: World) -> None:
    company = await world.company("Acme Leads")
    await world.rename(company, "ACME Leads")
    rows = await world.fetch("SELECT name FROM account")
    assert [row["name"] for row in rows] == ["ACME Leads"]


async def test_name_that_an_account_gave_up_can_be_taken(world: World) -> None:
    company, other = await world.company("Acme Leads"), await world.company("Other Leads")
    await world.rename(company, "Apex Leads")
    await world.rename(other, "ACME Leads, Inc.")
    with pytest.raises(InvalidName, match="different from every other"):
        await world.rename(company, "Acme Leads")


async def test_of_names_that_were_alike_before_the_older_is_guarded_and_both_are_reported(
    world: World,
) -> None:
    older, newer = await world.company("Acme Leads"), await world.company("Else")
    await world.fetch("UPDATE account SET name = 'ACME Leads, Inc.' WHERE id = $1", newer.id)
    await world.fetch(
        "UPDATE account_reading SET reading = 'acrneleads', is_taken = true WHERE account_id = $1",
        newer.id,
    )

    async def alike() -> list[tuple[str, str]]:
        async with world.database.general.connection() as connection:
            return await names_alike(connection)

    assert await alike() == [("ACME Leads, Inc.", "Acme Leads")]
    with pytest.raises(InvalidName, match="different from every other"):
        await world.rename(newer, "Acme Leads LLC")
    await world.rename(older, "Apex Leads")
    assert await alike() == []
    with pytest.raises(InvalidName, match="different from every other"):
        await world.company("Acme Leads")
