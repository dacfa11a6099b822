"""Hints: why a claim's code was not found in DNS, and how to fix it.

What others wrote into DNS is in “quotation marks”. No hint asks to change a record that is good for
something else.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from service.errors import shorten
from service.ownership.dns_txt import (
    PREFIX,
    Finding,
    Places,
    Reply,
    places_of,
    usual_mistakes,
)


def hint_of(
    finding: Finding,
    name: str,
    code: str,
    own_codes: Collection[str],
    *,
    covers_subdomains: bool = False,
) -> str | None:
    """Return why the code of a claim to that name was not found and how to fix it, if we can tell.

    `own_codes` are those codes of the account's other claims that were found.
    """
    match finding.outcome:
        case "found":
            if not covers_subdomains or finding.proves_subdomains is not False:
                return None
            places = places_of(name)
            return (
                f"the TXT record at {places.label} doesn't cover the subdomains: to include them, add "
                f"it at {places.registrable}"
            )
        case "failed":
            return _failure(finding)
        case _:
            return _mistake(finding.replies, name, code, own_codes)


def _mistake(
    replies: Sequence[Reply], name: str, code: str, own_codes: Collection[str]
) -> str | None:
    """Return what is there instead of the code, and how to fix it."""
    places = places_of(name)
    token = code.removeprefix(PREFIX)
    at_place = {
        value: each
        for each in replies
        if each.kind == "TXT" and each.name in (places.registrable, places.label)
        for value in each.values
    }
    if code in at_place:
        return _wildcard(replies, name, places)
    for value, reply in at_place.items():
        mistake = _mistaken(value, code, token)
        if mistake is not None:
            return f"the TXT record at {reply.name} is {quoted(value)}: {mistake}"
    misplaced = _misplaced(replies, name, places, token)
    if misplaced is not None:
        return misplaced
    apex = next(
        (each for each in replies if (each.name, each.kind) == (places.registrable, "CNAME")), None
    )
    if apex is not None and apex.values:
        return (
            f"{places.registrable} is a CNAME to {quoted(apex.values[0])}, which hides its TXT records: "
            f"add the TXT record at {places.label}"
        )
    for value, reply in at_place.items():
        if value in own_codes:
            return (
                f"the TXT record at {reply.name}, {quoted(value)}, is the code of another of your "
                "domains: leave it, and add a second TXT record with the code of this one"
            )
        if value.startswith(PREFIX):
            return (
                f"the TXT record at {reply.name} has a different code, {quoted(value)}: leave it, since "
                "other services use such codes, too, and add another TXT record with the code of this "
                "domain"
            )
    others = [value for value in at_place if value]
    if others:
        return (
            f"there are other TXT records, such as {quoted(others[0])}, but none with the code: leave "
            "them, and add another"
        )
    for reply in replies:
        if reply.name == places.label and reply.cname is not None:
            return f"{reply.name} is a CNAME to {quoted(reply.cname)}, which has no TXT record"
    return _not_yet(replies, places)


_QUOTATION_MARKS = str.maketrans("“”", '""')


def quoted(text: str) -> str:
    """Return what others wrote, shortened and in quotation marks that it can't end by itself."""
    return f"“{shorten(text.translate(_QUOTATION_MARKS))}”"


def _wildcard(replies: Sequence[Reply], name: str, places: Places) -> str:
    """Return why a code proves nothing although it is there."""
    cnames = [
        each.cname for each in replies if each.kind == "TXT" and each.name != places.registrable
    ]
    at_label = next((each.cname for each in replies if each.name == places.label), None)
    if at_label is not None and any(cname not in (None, at_label) for cname in cnames):
        return (
            f"{places.label} is a CNAME to {quoted(at_label)}, which has the code, but a wildcard CNAME "
            f"covers the other names below {name}, so this proves nothing: add the TXT record at "
            f"{places.registrable}"
        )
    return (
        f"a wildcard gives this TXT record to every name below {name}, so it proves nothing: add it at "
        f"{places.label} itself, or at {places.registrable}"
    )


def _misplaced(replies: Sequence[Reply], name: str, places: Places, token: str) -> str | None:
    """Return where the code is instead, and where it belongs."""
    mistakes = usual_mistakes(name, places)
    put = f"move it to {places.registrable}"
    if places.label != places.registrable:
        put += f", or to {places.label}"
    for reply in replies:
        if (reply.name, reply.kind) not in mistakes:
            continue
        if reply.kind == "CNAME" and any(token.lower() in value for value in reply.values):
            return f"the code is in a CNAME record at {reply.name}: use a TXT record"
        if reply.kind == "TXT" and any(token in value for value in reply.values):
            if f".{reply.name}".endswith(f".{places.registrable}.{places.registrable}"):
                return (
                    f"the TXT record is at {reply.name}: your DNS panel appends {places.registrable} "
                    f"itself, so enter the host without it"
                )
            return f"the code is in a TXT record at {reply.name}: {put}"
    return None


def _not_yet(replies: Sequence[Reply], places: Places) -> str | None:
    """Return for how long a record that was just added may not be seen, if a resolver said."""
    remembered = [
        each.remembered
        for each in replies
        if each.kind == "TXT" and each.name == places.registrable and each.remembered
    ]
    if not remembered:
        return None
    minutes = -(-max(remembered) // 60)
    return (
        "there is no TXT record yet; if you just added it, we may not see it for up to "
        f"{minutes} {'minute' if minutes == 1 else 'minutes'}, as the zone's SOA record says"
    )


def _mistaken(value: str, code: str, token: str) -> str | None:
    """Return what is wrong with a TXT record that was meant to be the code; None if it was not."""
    if value.strip() == code:
        return "remove the spaces around it"
    if value.strip().strip("\"'“”") == code:
        return "remove the quotation marks"
    if value.lower() == code.lower():
        return "match upper and lower case exactly"
    if value.strip() in (token, f"={token}"):
        return f"add “{PREFIX}” at the beginning"
    if code.startswith(value) and len(value) > len(PREFIX):
        return "the end is missing"
    if "".join(value.split()) == code:
        return "remove the spaces inside it"
    if token in value:
        return f"add a TXT record of its own that is “{code}”"
    return None


def _failure(finding: Finding) -> str:
    """Return why we can't tell whether the code is there."""
    if not finding.asked:
        return "no DNS resolver is configured"
    details = Counter(
        each.detail for each in finding.replies if each.kind == "TXT" and each.detail is not None
    )
    if not details:
        return "the DNS resolvers disagree"
    return f"the DNS lookup failed: {details.most_common(1)[0][0]}"
