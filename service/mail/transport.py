"""Hands emails over to an SMTP server, or writes them to files if there is none."""

import os
import re
from collections.abc import Mapping
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr
from pathlib import Path

import aiosmtplib

from service.errors import ServiceError, shorten
from service.settings import Smtp

# Seconds to connect, and for each command. Short, since a worker has other emails to send.
_DEADLINE = 15.0


class _Policy(EmailPolicy):
    """How headers are folded into lines, and non-ASCII text in them is encoded (RFC 2047).

    Text is folded, since an encoded word has at most 75 characters. Long links and ids stay in one
    piece: folding would encode them, and readers of List-Unsubscribe don't decode that. 998 is the
    limit of RFC 5322, section 2.1.1.
    """

    def fold(self, name: str, value: str) -> str:
        return EmailPolicy.fold(self._for(name), name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        return EmailPolicy.fold_binary(self._for(name), name, value)

    def _for(self, name: str) -> "_Policy":
        return self.clone(max_line_length=76 if name in ("From", "Subject") else 998)


# 76 is the limit of quoted-printable bodies (RFC 2045, section 6.7).
_POLICY = _Policy(linesep="\r\n", max_line_length=76)

# What is about the recipient's address or mailbox (RFC 3463, section 3.2 and 3.3). X.1.7 and X.1.8
# are about the sender, and a full mailbox may be emptied.
_OF_RECIPIENT = frozenset({"5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_ENHANCED = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")
# Replies of servers without such codes that are not about the recipient.
_OF_OPERATOR = re.compile(
    r"relay|helo|ehlo|authenti|limit|quota|policy|block|spam|sender|try again|denied|dmarc|spf",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\S+@\S+")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class MailFailed(ServiceError):
    """An email could not be handed over. `is_final` if a retry can't help.

    `whose` says about whom it is: the recipient, or the operator, who can fix it. `said` is the
    server's text, without addresses.
    """

    def __init__(self, why: str, *, is_final: bool, said: str | None = None) -> None:
        self.is_final = is_final
        self.whose = "recipient" if is_final else "operator"
        self.said = said
        super().__init__(why)


class HeaderInjection(ServiceError):
    """A header value has a line break or another control character."""


def checked_header(name: str, value: str) -> str:
    """Return a header's value if it is one line. Raises `HeaderInjection`.

    Only recent versions of the standard library refuse CR and LF (CVE-2024-6923, CVE-2026-1299).
    """
    if _CONTROL.search(value):
        raise HeaderInjection(f"the header {name} would contain a control character")
    return value


def message(
    *,
    sender: str,
    recipient: str,
    subject: str,
    message_id: str,
    date: datetime,
    headers: Mapping[str, str],
    text: str,
    html: str,
) -> EmailMessage:
    """Return an email ready to send. Raises `HeaderInjection`."""
    name, address = parseaddr(checked_header("From", sender))
    composed = EmailMessage(policy=_POLICY)
    composed["From"] = Address(display_name=name, addr_spec=address)
    for header, value in {
        "To": recipient,
        # Mail programs would also decode an encoded word that someone else put here.
        "Subject": subject.replace("=?", "= ?"),
        "Date": format_datetime(date),
        "Message-ID": message_id,
        # Keeps vacation responders from answering (RFC 3834).
        "Auto-Submitted": "auto-generated",
        **headers,
    }.items():
        composed[header] = checked_header(header, value)
    # Any server accepts this encoding, with or without 8BITMIME.
    composed.set_content(text, cte="quoted-printable")
    composed.add_alternative(html, subtype="html", cte="quoted-printable")
    return composed


async def send_by_smtp(server: Smtp, composed: EmailMessage, recipient: str, own_host: str) -> None:
    """Hand an email to the server, which we greet as `own_host`. Raises `MailFailed`."""
    _, sender = parseaddr(str(composed["From"]))
    try:
        await aiosmtplib.send(
            bytes(composed),
            sender=sender,
            recipients=[recipient],
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            local_hostname=own_host,
            timeout=_DEADLINE,
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = error.recipients[0]
        raise _refusal(refused.code, refused.message, of_address=True) from error
    except aiosmtplib.SMTPDataError as error:
        raise _refusal(error.code, error.message) from error
    except aiosmtplib.SMTPResponseException as error:
        # About the sender, the login, or the server's state: the operator can fix it, so retry.
        raise MailFailed(
            f"the mail server can't take mail now ({error.code})",
            is_final=False,
            said=_without_addresses(error.message),
        ) from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise MailFailed("the mail server can't be reached", is_final=False) from error


def _refusal(code: int, message: str, *, of_address: bool = False) -> MailFailed:
    """Return what a server's refusal means: final only if it is about the recipient."""
    enhanced = _ENHANCED.search(message)
    if enhanced is not None:
        is_final = enhanced[0] in _OF_RECIPIENT
    else:
        is_final = of_address and code in (550, 551, 553) and not _OF_OPERATOR.search(message)
    shown = f"{code} {enhanced[0]}" if enhanced else str(code)
    if is_final:
        why = f"the mail server refused the address ({shown})"
    elif code < 500:
        why = f"the mail server can't take mail now ({shown})"
    else:
        why = f"the mail server refuses our email, which the operator has to fix ({shown})"
    return MailFailed(why, is_final=is_final, said=_without_addresses(message))


def _without_addresses(text: str) -> str:
    return shorten(_ADDRESS.sub("…", text))


def write_to_outbox(outbox: Path, name: str, composed: EmailMessage) -> None:
    """Write an email to its own file, which a repeat overwrites. Raises `MailFailed`.

    Nobody else may read it: it holds working links.
    """
    try:
        for directory in (outbox.parent, outbox):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        outbox.chmod(0o700)
        unfinished = outbox / f".{name}"
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(bytes(composed))
        unfinished.rename(outbox / f"{name}.eml")
    except OSError as error:
        raise MailFailed("can't write to the outbox", is_final=False) from error
