"""Signed checkpoints of the log, as existing tools and witnesses read them.

A checkpoint says how many answers the log has and which root its tree then has (C2SP
tlog-checkpoint). It is a note with Ed25519 signatures (C2SP signed-note), and so are the keys.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from service.answers.merkle import HASH
from service.errors import InvalidInput, ServiceError

_ED25519 = b"\1"
_KEY = 32
_SIGNED_BY = "— "
_MAX_NOTE = 10_000

# A name can't look like other lines or parts of a note.
_NAME = re.compile(r"[^\s+]+")

# Sizes are below 2^63, as the database has them.
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(Struct, frozen=True):
    """What the log had: `size` answers, in a tree with that root."""

    origin: str
    size: int
    root: bytes


class Dropped(Struct, frozen=True):
    """Of how many answers, all with ids before that one, the log has only the hashes."""

    count: int
    before: UUID


class UntrustedCheckpoint(ServiceError):
    """A checkpoint that is no checkpoint, or that no known key has signed. `str()` says which."""


class VerifierKey(Struct, frozen=True):
    """A public key, and the name that it signs as."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The first bytes of a hash, which tell signatures of different keys apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(_ED25519 + self.public).decode()}"


def parsed_key(text: str) -> VerifierKey:
    """Return the key that `str()` of it gave. Raises `InvalidInput`."""
    # A name has no “+”, but base64 may.
    name, _, rest = text.strip().partition("+")
    digest, _, encoded = rest.partition("+")
    data = _decoded(encoded)
    key = VerifierKey(name, data[1:])
    if (
        not _NAME.fullmatch(name)
        or data[:1] != _ED25519
        or len(key.public) != _KEY
        or key.id.hex() != digest
    ):
        raise InvalidInput("key", text, "a verifier key: NAME+HASH+BASE64")
    return key


class Signer:
    """Signs checkpoints as `origin` with the key that a seed of 32 bytes makes.

    Raises `InvalidInput` if a note can't have that origin: it might pass for other lines.
    """

    def __init__(self, origin: str, seed: bytes) -> None:
        if not _NAME.fullmatch(origin):
            raise InvalidInput("origin", origin, "without spaces, lines, and “+”")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = VerifierKey(origin, public)

    def note(self, size: int, root: bytes) -> str:
        """Return a signed checkpoint."""
        return self._signed(str(size), b64encode(root).decode())

    def note_of_dropped(self, dropped: Dropped) -> str:
        """Return a signed note, which can't pass for a checkpoint: it has no size."""
        return self._signed(f"dropped {dropped.count}", f"before {dropped.before}")

    def _signed(self, *lines: str) -> str:
        text = "".join(f"{line}\n" for line in (self.key.name, *lines))
        signature = b64encode(self.key.id + self._private.sign(text.encode())).decode()
        return f"{text}\n{_SIGNED_BY}{self.key.name} {signature}\n"


def opened(note: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return what a signed checkpoint says, if one of the keys has signed it.

    Raises `UntrustedCheckpoint`.
    """
    origin, size, root = _signed_lines(note, keys)
    decoded = _decoded(root)
    if not _SIZE.fullmatch(size) or len(decoded) != HASH:
        raise UntrustedCheckpoint("this is no checkpoint")
    return Checkpoint(origin, int(size), decoded)


def opened_dropped(note: str, keys: Iterable[VerifierKey]) -> Dropped:
    """Return what a signed note of dropped answers says. Raises `UntrustedCheckpoint`."""
    _, count, before = _signed_lines(note, keys)
    if not count.startswith("dropped ") or not before.startswith("before "):
        raise UntrustedCheckpoint("this is no note of dropped answers")
    return Dropped(int(count.removeprefix("dropped ")), UUID(before.removeprefix("before ")))


def _signed_lines(note: str, keys: Iterable[VerifierKey]) -> Sequence[str]:
    """Return the first three lines of a note that one of the keys has signed."""
    text, separator, signatures = note.rpartition("\n\n")
    lines = text.split("\n")
    signatures, end, rest = signatures.rpartition("\n")
    if len(note) > _MAX_NOTE or not (separator and end) or rest or len(lines) < 3:
        raise UntrustedCheckpoint("this is no checkpoint")
    origin = lines[0]
    signed = (text + "\n").encode()
    # One key may sign several logs, each under its own name.
    if not any(key.name == origin and _has_signed(key, signed, signatures) for key in keys):
        raise UntrustedCheckpoint("no key that is known here has signed it")
    return lines[:3]


def _has_signed(key: VerifierKey, signed: bytes, signatures: str) -> bool:
    for line in signatures.split("\n"):
        name, _, encoded = line.removeprefix(_SIGNED_BY).rpartition(" ")
        data = _decoded(encoded)
        if not line.startswith(_SIGNED_BY) or name != key.name or data[:4] != key.id:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], signed)
        except InvalidSignature:
            continue
        return True
    return False


def _decoded(text: str) -> bytes:
    """Return what base64 says, or nothing if it isn't base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""
