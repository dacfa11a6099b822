"""What emails say: the words of each kind, rendered as plain text and as HTML.

Each subject, except for sign-in links, names the company, address, or domain it is about. Text that
companies wrote (names, notes) is altered so that no mail program turns it into a link.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import Environment, PackageLoader, select_autoescape

# What mail programs turn into links: dots, at signs, colons, and slashes within words.
_LINKABLE = re.compile(r"(?<=\w)([.@:/])(?=[\w/])")
_QUOTATION = re.compile("“([^”]*)”")
# Readers copy these, and look for them in their mailbox, so they stay unaltered.
_COPIED = frozenset({"email", "code", "host", "domain", "until"})
_ZERO_WIDTH_SPACE = "\u200b"

_INDEPENDENT = "We are independent of ActiveProspect and TrustedForm."

# What the inviter wants, by reason.
_WANTS = {
    "receive_leads": "{inviter} wants to receive leads from you.",
    "send_leads": "{inviter} wants to send you leads.",
    "domain_ownership_visibility": (
        "{inviter} buys leads and wants to see your company’s name on the sites those leads come from."
    ),
    "confirm_domain_ownership": (
        "{inviter} buys leads and wants to know which domains your company owns."
    ),
    "share_lead_quality_reports": "{inviter} wants to share lead quality reports with you.",
    "join_account": "{inviter} wants to add you to its account.",
}

# What the inviter sees once the recipient accepts.
_CONNECTS = (
    "If you accept, {inviter} sees that you’re connected. It won’t see your company’s name as the owner "
    "of your domains."
)
_SHOWS = {
    "domain_ownership_visibility": (
        "If you accept, {inviter} sees your company’s name as the owner of your verified domains. You "
        "can hide it again at any time."
    ),
    "confirm_domain_ownership": (
        "If you accept, you choose whether {inviter} sees your company’s name as the owner of your "
        "verified domains. You can change that at any time."
    ),
    "join_account": "If you accept, admins of {inviter} can see your name and email address.",
}


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """An email's words. Actions are labels and URLs. `unsubscribe` is the URL to opt out."""

    subject: str
    heading: str
    paragraphs: list[str]
    quote: str | None = None
    quoted: str | None = None
    actions: list[tuple[str, str]] = []
    footer: list[str] = []
    unsubscribe: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    """What an email's links end in: the one it is about, and the one that only stops such emails."""

    link: str
    stop: str


def letter_of(kind: str, params: Mapping[str, Any], public_url: str, tokens: Tokens) -> Letter:
    """Return the words of an email of that kind."""
    return _LETTERS[kind](params, public_url, tokens)


def plain_text(letter: Letter) -> str:
    """Return a letter as plain text."""
    return _environment.get_template("letter.txt").render(letter=letter).strip() + "\n"


def html(letter: Letter) -> str:
    """Return a letter as an HTML document that loads nothing."""
    return _environment.get_template("letter.html").render(letter=letter)


def unlinked(text: str) -> str:
    """Return a text that looks the same, but in which no mail program finds anything to link."""
    return _LINKABLE.sub(rf"\1{_ZERO_WIDTH_SPACE}", text)


def _invitation(params: Mapping[str, Any], public_url: str, tokens: Tokens) -> Letter:
    inviter = unlinked(params["inviter"])
    reason = params["reason"]
    link = f"{public_url}/invitations/{tokens.link}"
    stop = f"{public_url}/invitations/{tokens.stop}/unsubscribe"
    joins = reason == "join_account"
    until = datetime.fromisoformat(params["expires_at"])
    invited = "{} invited you to " + ("join its account" if joins else "connect")
    paragraphs = [
        _WANTS[reason].format(inviter=inviter),
        _SHOWS.get(reason, _CONNECTS).format(inviter=inviter),
    ]
    if not joins:
        paragraphs.append("Don’t have an account? You can create one for free.")
    paragraphs.append(f"This invitation expires on {until:%B %-d, %Y}.")
    return Letter(
        subject=("Reminder: " if params["is_reminder"] else "") + invited.format(params["inviter"]),
        heading=invited.format(inviter),
        paragraphs=paragraphs,
        quoted=f"Note from {inviter}:" if params["note"] else None,
        quote=unlinked(params["note"]) if params["note"] else None,
        actions=[("View invitation", link)],
        footer=[
            "If you weren’t expecting this, you can ignore it. Nothing is shared unless you accept.",
            f"Unsubscribe: {stop}",
            _INDEPENDENT,
        ],
        unsubscribe=stop,
    )


def _opted_out(params: Mapping[str, Any], public_url: str, tokens: Tokens) -> Letter:
    inviter = params["inviter"]
    stopped = (
        "You stopped all invitations" if inviter is None else "You stopped invitations from {}"
    )
    from_whom = "" if inviter is None else f" from {unlinked(inviter)}"
    return Letter(
        subject=stopped.format(inviter),
        heading=stopped.format(unlinked(inviter or "")),
        paragraphs=[
            f"{params['email']} won’t get any more invitations to connect{from_whom}.",
            "Any open ones were declined.",
            "If you didn’t do this, or changed your mind, you can allow invitations again.",
        ],
        actions=[("Allow invitations again", f"{public_url}/opt-outs/{tokens.link}")],
        footer=[_INDEPENDENT],
    )


def _moment(time: str) -> str:
    """Format a time as Americans write it, such as July 4, 2026, 2:05 PM UTC."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%B %-d, %Y, %-I:%M %p} UTC"


def _sign_in(params: Mapping[str, Any], public_url: str, tokens: Tokens) -> Letter:
    return Letter(
        subject="Your sign-in link",
        heading="Sign in",
        paragraphs=[f"This link works once, until {_moment(params['expires_at'])}."],
        actions=[("Sign in", f"{public_url}/sign-in/{tokens.link}")],
        footer=[
            "If you didn’t request this, you can ignore it. No one can sign in without this link.",
            _INDEPENDENT,
        ],
    )


def _unlinked_quotations(text: str, params: Mapping[str, Any]) -> str:
    """Return a text in which nothing that others wrote becomes a link: only our codes stay as is."""
    return _QUOTATION.sub(
        lambda found: found[0] if found[1] == params.get("code") else unlinked(found[0]), text
    )


def _notice(
    subject: str,
    text: str,
    label: str,
    path: str = "/connections/{connection_id}",
    *,
    because: str | None = None,
) -> Callable[[Mapping[str, Any], str, Tokens], Letter]:
    """Make a letter to an account's people, such as about a partner. Its subject is its heading.

    It says why it was sent: `because`, or to an admin, who may have such letters muted.
    """
    reasons = (
        [f"You’re receiving this because {because}."]
        if because
        else [
            "You’re receiving this because you’re an admin of {own}.",
            "Choose what to get emails about: {memberships}",
        ]
    )

    def letter(params: Mapping[str, Any], public_url: str, tokens: Tokens) -> Letter:
        params = {**params, "until": _moment(params["until"])} if "until" in params else params
        words = {
            name: value
            if name in _COPIED
            else _unlinked_quotations(value, params)
            if name == "hint"
            else unlinked(value)
            for name, value in params.items()
        }
        return Letter(
            subject=subject.format(**params),
            heading=subject.format(**words),
            paragraphs=[line for line in text.format(**words).split("\n") if line],
            actions=[(label, public_url + path.format(**params))],
            footer=[
                *(
                    each.format(**words, memberships=f"{public_url}/memberships")
                    for each in reasons
                ),
                _INDEPENDENT,
            ],
        )

    return letter


_LETTERS: dict[str, Callable[[Mapping[str, Any], str, Tokens], Letter]] = {
    "invitation": _invitation,
    "opted_out": _opted_out,
    "sign_in": _sign_in,
    "accepted": _notice(
        "{partner} accepted your invitation",
        "{own} and {partner} are now connected. {shows}",
        "View connection",
    ),
    "connected": _notice(
        "You’re connected to {partner}",
        "{own} accepted an invitation from {partner}. {shows}",
        "View connection",
    ),
    "declined": _notice(
        "{email} declined your invitation",
        "Nothing was shared.",
        "View connections",
        "/connections",
    ),
    "grant_requested": _notice(
        "{partner} asked to see your company name",
        "{partner} buys leads and wants to see “{own}” as the owner of your verified domains. Until you "
        "allow that, it sees only that a verified account owns them.",
        "Review request",
    ),
    "grant_given": _notice(
        "{partner} now shows you its name",
        "You’ll now see its name when a lead comes from one of its verified domains.",
        "View connection",
    ),
    "grant_withdrawn": _notice(
        "{partner} no longer shows you its name",
        "You’ll now see only that a verified account owns its domains. You’re still connected.",
        "View connection",
    ),
    "domain_verified": _notice(
        "{domain} is verified",
        "Leave the TXT record in place. We check it every day.\n{hint}",
        "View domains",
        "/domains",
    ),
    "domain_failing": _notice(
        "We can’t find the TXT record for {domain}",
        "{hint}\n{domain} is still verified. Restore the record by {until} to keep it verified. "
        "The TXT record at {host} must be:\n{code}",
        "View domains",
        "/domains",
    ),
    "domain_about_to_lapse": _notice(
        "{domain} will soon lose its verification",
        "{hint}\nThe TXT record is missing. Restore it by {until} to keep {domain} verified. "
        "The TXT record at {host} must be:\n{code}",
        "View domains",
        "/domains",
    ),
    "domain_lapsed": _notice(
        "{domain} is no longer verified",
        "{hint}\nThe TXT record was missing for three days. Restore it and we’ll verify {domain} again. "
        "The TXT record at {host} must be:\n{code}",
        "View domains",
        "/domains",
    ),
    "domain_superseded": _notice(
        "Another account verified {domain}",
        "That account added its code to the DNS of {domain}, so it now owns the domain here. If that’s "
        "unexpected, check who can edit your DNS. To win {domain} back, verify it again with its new "
        "code.",
        "View domains",
        "/domains",
    ),
    "domain_reassigned": _notice(
        "{domain} was assigned to another account",
        "The operator of this service confirmed another account as the owner of {domain}. If that’s "
        "wrong, contact the operator, or verify {domain} with its TXT record.",
        "View domains",
        "/domains",
    ),
    "one_connection_ended": _notice(
        "A connection with {partner} ended",
        "{ended_by} ended the connection in which {seller} sells to {buyer}. You’re still connected the "
        "other way around. You no longer see each other’s names as domain owners.",
        "View connections",
        "/connections",
    ),
    "role_changed": _notice(
        "You’re now {role} of {own}",
        "You were {formerly}. Someone at {own} changed your role. If you don’t want to belong to this "
        "account, you can leave it.",
        "View your accounts",
        "/memberships",
        because="you belong to {own}",
    ),
    "removed": _notice(
        "You no longer belong to {own}",
        "Someone at {own} removed you from the account.",
        "View your accounts",
        "/memberships",
        because="you belonged to {own}",
    ),
    "disconnected": _notice(
        "{own} and {partner} are no longer connected",
        "{ended_by} disconnected. You no longer see each other’s names as domain owners.",
        "View connections",
        "/connections",
    ),
}


_environment = Environment(
    loader=PackageLoader("service", "templates/mail"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)


def message_id(mail_id: UUID, host: str) -> str:
    """Return an email's Message-ID, the same for every attempt (RFC 5322, section 3.6.4)."""
    return f"<{mail_id}@{host}>"
