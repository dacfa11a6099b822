"""What mails say: for each kind the words, put into one plain and one HTML form.

What companies wrote (names, notes) is in the text alone, never in a header, and is kept from being made
into a link by whoever shows the mail.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import Environment, PackageLoader, select_autoescape

# What mail programs make links of: dots and at signs within words.
_LINKABLE = re.compile(r"(?<=\w)([.@:/])(?=[\w/])")
_ZERO_WIDTH_SPACE = "\u200b"

_NOT_AFFILIATED = "This service is independent of ActiveProspect and TrustedForm."

# What the inviter wants, by reason.
_WANTS = {
    "receive_leads": "{inviter} wants to receive leads from you.",
    "send_leads": "{inviter} wants to send leads to you.",
    "domain_ownership_visibility": (
        "{inviter} buys leads and asks to see that your company owns the sites they come from."
    ),
    "confirm_domain_ownership": (
        "{inviter} buys leads and asks you to confirm which domains your company owns."
    ),
    "share_lead_quality_reports": "{inviter} wants to share lead quality reports with you.",
    "join_account": "You are invited to join the account of {inviter}.",
}

# What accepting shows to the inviter.
_CONNECTS = (
    "If you accept, {inviter} learns that your company is its partner. Who owns your sites is not shown "
    "to it."
)
_SHOWS = {
    "domain_ownership_visibility": (
        "If you accept, {inviter} sees your company’s name as the owner of your verified domains. You "
        "can take that back at any time."
    ),
    "confirm_domain_ownership": (
        "If you accept, you can let {inviter} see your company’s name as the owner of your verified "
        "domains. You can take that back at any time."
    ),
    "join_account": (
        "If you accept, you are a member of that account, and its admins see your name and address."
    ),
}


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A mail's words. Actions are labels and URLs; `unsubscribe` is the URL that ends such mails."""

    subject: str
    heading: str
    paragraphs: list[str]
    quote: str | None = None
    quoted: str | None = None
    actions: list[tuple[str, str]] = []
    footer: list[str] = []
    unsubscribe: str | None = None


def letter_of(kind: str, params: Mapping[str, Any], public_url: str, token: str) -> Letter:
    """The words of a mail of that kind; `token` is that of its link."""
    return _LETTERS[kind](params, public_url, token)


def plain_text(letter: Letter) -> str:
    """A letter as plain text."""
    return _environment.get_template("letter.txt").render(letter=letter).strip() + "\n"


def html(letter: Letter) -> str:
    """A letter as an HTML document without anything to be loaded."""
    return _environment.get_template("letter.html").render(letter=letter)


def unlinked(text: str) -> str:
    """A text in which no mail program finds an address to link to; it reads the same."""
    return _LINKABLE.sub(rf"\1{_ZERO_WIDTH_SPACE}", text)


def _invitation(params: Mapping[str, Any], public_url: str, token: str) -> Letter:
    inviter = unlinked(params["inviter"])
    reason = params["reason"]
    link = f"{public_url}/invitations/{token}"
    joins = reason == "join_account"
    until = datetime.fromisoformat(params["expires_at"])
    paragraphs = [
        _WANTS[reason].format(inviter=inviter),
        _SHOWS.get(reason, _CONNECTS).format(inviter=inviter),
    ]
    if not joins:
        paragraphs.append(
            "If your company has no account here yet, you create one, free of charge."
        )
    paragraphs.append(f"The invitation is open until {until:%d %B %Y}.")
    return Letter(
        subject=("Reminder: you are invited" if params["is_reminder"] else "You are invited")
        + (" to join an account" if joins else " to connect"),
        heading=f"{inviter} has invited you" + ("" if joins else " to connect"),
        paragraphs=paragraphs,
        quoted=f"A note from {inviter}:" if params["note"] else None,
        quote=unlinked(params["note"]) if params["note"] else None,
        actions=[("See the invitation, and accept or decline", link)],
        footer=[
            "You did not expect this? Then do nothing: nothing is shared unless you accept.",
            f"No more invitations, please: {link}#stop",
            _NOT_AFFILIATED,
        ],
        unsubscribe=f"{link}/unsubscribe",
    )


def _sign_in(params: Mapping[str, Any], public_url: str, token: str) -> Letter:
    return Letter(
        subject="Your link to sign in",
        heading="Sign in",
        paragraphs=["Open this link within 15 minutes to sign in. It works once."],
        actions=[("Sign in", f"{public_url}/sign-in/{token}")],
        footer=[
            "You did not ask for it? Then do nothing: nobody can sign in without this mail.",
            _NOT_AFFILIATED,
        ],
    )


def _notice(
    subject: str, text: str, label: str, path: str = "/connections/{connection_id}"
) -> Callable[[Mapping[str, Any], str, str], Letter]:
    """A letter about a partner, to the admins of an account."""

    def letter(params: Mapping[str, Any], public_url: str, token: str) -> Letter:
        words = {
            # These are to be copied as they are.
            name: value if name in ("email", "code", "host", "hint") else unlinked(value)
            for name, value in params.items()
        }
        heading, *paragraphs = text.format(**words).split("\n")
        return Letter(
            subject=subject,
            heading=heading,
            paragraphs=[paragraph for paragraph in paragraphs if paragraph],
            actions=[(label, public_url + path.format(**params))],
            footer=[
                "You get this mail as an admin of {own}.".format(**words),
                _NOT_AFFILIATED,
            ],
        )

    return letter


_LETTERS: dict[str, Callable[[Mapping[str, Any], str, str], Letter]] = {
    "invitation": _invitation,
    "sign_in": _sign_in,
    "accepted": _notice(
        "Your invitation was accepted",
        "{partner} has accepted your invitation\n{own} and {partner} are connected now. {shows}",
        "See the connection",
    ),
    "connected": _notice(
        "You are connected to a partner",
        "{own} and {partner} are connected\n"
        "An invitation of {partner} was accepted for your account. {shows}",
        "See the connection, and what it shows",
    ),
    "declined": _notice(
        "Your invitation was declined",
        "{email} has declined your invitation\nNothing was shared.",
        "See your connections",
        "/connections",
    ),
    "grant_requested": _notice(
        "A partner asks to see your company’s name",
        "{partner} asks to see your name\n"
        "{partner} buys leads and asks to see “{own}” as the owner of your verified domains. Until you "
        "allow it, it only learns that some verified account owns them.",
        "Allow it, or not",
    ),
    "grant_given": _notice(
        "A partner lets you see its name",
        "{partner} lets you see its name\n"
        "From now on you are told when a lead comes from one of its verified domains.",
        "See the connection",
    ),
    "grant_withdrawn": _notice(
        "A partner does not show you its name any more",
        "{partner} has taken back the permission to see its name\n"
        "From now on you are told of its domains what everyone is told. You are still connected.",
        "See the connection",
    ),
    "domain_verified": _notice(
        "A domain of yours is verified",
        "{domain} is verified\n"
        "Your company owns {domain} now, here. Leave the TXT record where it is: it is checked daily.",
        "See your domains",
        "/domains",
    ),
    "domain_failing": _notice(
        "A domain of yours could not be verified again",
        "The code for {domain} is not found any more\n{hint}\n"
        "You still own {domain} here. If the code stays away for three days, you do not any more. "
        "The TXT record of {host} has to be:\n{code}",
        "See your domains",
        "/domains",
    ),
    "domain_about_to_lapse": _notice(
        "You are about to lose a verified domain",
        "{domain} will not be yours any more tomorrow\n{hint}\n"
        "The code has been missing for two days. Put it back, to stay the owner of {domain} here. "
        "The TXT record of {host} has to be:\n{code}",
        "See your domains",
        "/domains",
    ),
    "domain_lapsed": _notice(
        "A domain of yours is not verified any more",
        "{domain} is not yours any more, here\n{hint}\n"
        "The code has been missing for three days. Once it is back, {domain} is verified again. The TXT "
        "record of {host} has to be:\n{code}",
        "See your domains",
        "/domains",
    ),
    "domain_superseded": _notice(
        "A domain of yours was proven by another account",
        "{domain} was proven by another account\n"
        "It has put its code into the DNS of {domain}, and is its owner here now. If that is wrong, see "
        "who can change that DNS. To win {domain} back, verify it again: it has another code now.",
        "See your domains",
        "/domains",
    ),
    "disconnected": _notice(
        "A connection has ended",
        "{own} and {partner} are not connected any more\n"
        "{ended_by} ended the connection. Neither of you is shown the other’s name as the owner of a "
        "domain any more.",
        "See your connections",
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
    """The Message-ID of a mail: the same each time it is sent (RFC 5322, section 3.6.4)."""
    return f"<{mail_id}@{host}>"
