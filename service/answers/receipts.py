"""Receipts: answers with the proof that they are in the log, which anyone can check offline."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from service.accounts.names import Status, told_of_owner
from service.answers.checkpoints import Checkpoint, UntrustedCheckpoint, VerifierKey, opened
from service.answers.merkle import HASH, leaf_hash, root_from_inclusion
from service.errors import ServiceError

NONCE = 16
_LONGEST_PATH = 64


class Statement(Struct, frozen=True):
    """What is sealed of an answer: who asked what and when, what was told, and what that rested on.

    What identifies the owner is there only if it was told. The order and names of the fields never
    change, because the hash of this as JSON is what the log holds.
    """

    answer_id: UUID
    account_id: UUID
    key_id: UUID
    cert_id: str | None
    host: str | None
    status: Status | None
    confirmed_owner: str | None
    owner_account_id: UUID | None
    covered_by: str | None
    verified_at: datetime | None
    answered_at: datetime
    as_of: datetime | None

    @classmethod
    def of(
        cls,
        answer_id: UUID,
        account_id: UUID,
        key_id: UUID,
        cert_id: str | None,
        host: str | None,
        status: Status | None,
        owner_name: str | None,
        owner_account_id: UUID | None,
        covered_by: str | None,
        verified_at: datetime | None,
        answered_at: datetime,
        as_of: datetime | None,
    ) -> "Statement":
        """Return what is sealed of an answer on record."""
        told = told_of_owner(status, owner_name)
        return cls(
            answer_id, account_id, key_id, cert_id, host, status, told, owner_account_id, covered_by,
            _utc(verified_at), answered_at.astimezone(UTC), _utc(as_of),
        )  # fmt: skip


class Receipt(Struct, frozen=True, kw_only=True):
    """An answer, and the proof that the log has it.

    `statement` is JSON, exactly as it was sealed. The leaf is its HMAC-SHA-256 under `nonce`. `path`
    leads from the leaf to the root that `checkpoint` says. All but text is in hexadecimal.
    """

    statement: str
    nonce: str
    leaf_index: int
    tree_size: int
    path: list[str]
    checkpoint: str


class ReceiptWithKeys(Receipt, frozen=True, kw_only=True):
    """A receipt, and the public keys of the log, as a file."""

    keys: list[str] = []


class InvalidReceipt(ServiceError):
    """A receipt that proves nothing. `str()` says what is wrong with it."""


encoded = msgspec.json.Encoder().encode


def sealed(statement: bytes, nonce: bytes) -> bytes:
    """Return the hash of an answer's leaf.

    The nonce keeps others from guessing what a leaf is about, and from seeing that two are alike.
    """
    return leaf_hash(hmac.digest(nonce, statement, hashlib.sha256))


def verified(receipt: Receipt, keys: Sequence[VerifierKey]) -> tuple[Statement, Checkpoint]:
    """Return what a receipt proves, without asking anyone. Raises `InvalidReceipt`."""
    try:
        checkpoint = opened(receipt.checkpoint, keys)
    except UntrustedCheckpoint as error:
        raise InvalidReceipt(str(error)) from None
    try:
        nonce = bytes.fromhex(receipt.nonce)
        path = [bytes.fromhex(each) for each in receipt.path]
    except ValueError as error:
        raise InvalidReceipt(f"this isn't a receipt: {error}") from None
    if len(nonce) != NONCE or len(path) > _LONGEST_PATH or any(len(each) != HASH for each in path):
        raise InvalidReceipt("this isn't a receipt: the nonce or the path has the wrong length")
    if checkpoint.size != receipt.tree_size:
        raise InvalidReceipt("the checkpoint is of a log of another size")
    leaf = sealed(receipt.statement.encode(), nonce)
    root = root_from_inclusion(receipt.leaf_index, receipt.tree_size, leaf, path)
    if root != checkpoint.root:
        raise InvalidReceipt("the answer is not in the log: it, or its proof, was changed")
    try:
        return msgspec.json.decode(receipt.statement, type=Statement), checkpoint
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidReceipt(f"what is in the log isn't an answer: {error}") from None


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
