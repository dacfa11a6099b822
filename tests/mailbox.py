"""A real SMTP server that keeps the mails it receives."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.running import free_port


@dataclass
class Mailbox:
    """Received mails, and the SMTP replies to give to the next ones, in order."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: str | None = None

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refused is not None:
            return self.refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.replies:
            return self.replies.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = cast(
            "EmailMessage", message_from_bytes(envelope.content, policy=cast("Any", default))
        )
        assert envelope.rcpt_tos == [mail["To"]]
        self.mails.append(mail)
        self.raw.append(envelope.content)
        return "250 OK"

    def mail_to(self, address: str, subject: str = "", seconds: float = 30) -> EmailMessage:
        """Wait for a mail to an address with this text in its subject, and take it out."""
        deadline = time.monotonic() + seconds
        while True:
            for mail in self.mails:
                if mail["To"] == address and subject in mail["Subject"]:
                    self.mails.remove(mail)
                    return mail
            came = [(mail["To"], mail["Subject"]) for mail in self.mails]
            assert time.monotonic() < deadline, came
            time.sleep(0.05)


@contextmanager
def mailbox(port: int | None = None, **options: Any) -> Iterator[Mailbox]:
    """Receive mails until the end of the block, on the given port or a free one."""
    box = Mailbox(port or free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    """The plain text or HTML of a mail."""
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def link_in(mail: EmailMessage) -> str:
    """The first link in a mail, which is always the main one."""
    found = re.search(r"https?://\S+", text_of(mail))
    assert found, text_of(mail)
    return found[0]
