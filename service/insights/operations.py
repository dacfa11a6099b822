"""What a request asks for, and what an answer says: between the contract and the decision."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import msgspec
from uuid_utils.compat import uuid7

from service.accounts.keys import digest_of
from service.errors import (
    CertificateNotFound,
    InactiveAccount,
    MalformedBody,
    ProductUnavailable,
    SchemaViolation,
    ServiceError,
    Unauthorized,
    Unavailable,
)
from service.insights.confirmed_owner import value_of
from service.insights.contract import (
    INVALID_PROPERTIES,
    NO_PRODUCTS,
    OWNER_PROPERTIES,
    PROPERTIES,
    PROPERTIES_OF,
    SCHEMA,
    decode_request,
)
from service.insights.queries import Answer, Question

# What is computed or has a column of its own; everything else is among the facts.
_NOT_FACTS = OWNER_PROPERTIES | {"age_seconds", "created_at", "expires_at", "seconds_on_page"}

_PROBLEMS: dict[str, Callable[[], ServiceError]] = {
    "unauthorized": Unauthorized,
    "inactive": InactiveAccount,
    "not_found": CertificateNotFound,
    "expired": CertificateNotFound,
    "outdated": partial(Unavailable, "the certificate's domain could not be read now"),
}


def asked_properties(body: bytes) -> tuple[str, ...]:
    """The properties that a request body asks for, each once, in the order asked.

    Raises `MalformedBody`, `SchemaViolation` or `ProductUnavailable`.
    """
    try:
        request = decode_request(body or b"{}")
    except msgspec.ValidationError as error:
        raise SchemaViolation(SCHEMA, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    for name in ("match_lead", "retain", "verify"):
        if getattr(request, name) is not None:
            raise ProductUnavailable(f"the operation {name} is not offered here")
    if request.insights is None:
        raise SchemaViolation(NO_PRODUCTS, "the body asks for no operation; try insights")
    if request.insights.scans is not None:
        raise ProductUnavailable("page scans are not offered here")
    asked = tuple(dict.fromkeys(request.insights.properties))
    if unknown := [name for name in asked if name not in PROPERTIES]:
        raise SchemaViolation(INVALID_PROPERTIES, f"no such property: {unknown[0][:80]}")
    return asked


def question_of(key: str, cert_id: str, asked: tuple[str, ...]) -> Question:
    """The question to put to the decision."""
    return Question(
        answer_id=uuid7(),
        key_digest=digest_of(key),
        cert_id=cert_id,
        owner_asked=not OWNER_PROPERTIES.isdisjoint(asked),
        facts_asked=not _NOT_FACTS.issuperset(asked),
    )


def response_body(asked: tuple[str, ...], answer: Answer) -> bytes:
    """The body of a 200.

    Raises `Unauthorized`, `InactiveAccount`, `CertificateNotFound` or `Unavailable`, as the answer's
    verdict says.
    """
    if answer.verdict != "answered":
        raise _PROBLEMS[answer.verdict]()
    properties: dict[str, object] = dict.fromkeys(asked)
    has = PROPERTIES_OF[answer.kind]
    facts = msgspec.json.decode(answer.facts) if answer.facts else {}
    for name in asked:
        if name in has:
            compute = _COMPUTED.get(name)
            properties[name] = compute(answer) if compute else facts.get(name)
    return msgspec.json.encode(
        {"outcome": "success", "reason": None, "insights": {"properties": properties}}
    )


def _age_seconds(answer: Answer) -> int | None:
    if answer.created_at is None:
        return None
    last_seen = answer.created_at + timedelta(seconds=answer.seconds_on_page or 0)
    return max(0, int((answer.answered_at - last_seen).total_seconds()))


def _seconds_on_page(answer: Answer) -> float | None:
    seconds = answer.seconds_on_page
    return int(seconds) if seconds is not None and seconds.is_integer() else seconds


def _confirmed_owner_detail(answer: Answer) -> dict[str, object]:
    return {
        "status": answer.status,
        "domain": answer.host,
        "answer_id": answer.answer_id,
        "covered_by": answer.covered_by,
        "owner_account_id": answer.owner_account_id,
        "verified_at": _time(answer.verified_at),
    }


def _time(value: datetime | None) -> str | None:
    """A time as the vendor writes it: UTC, whole seconds."""
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%SZ")


_COMPUTED = {
    "age_seconds": _age_seconds,
    "confirmed_owner": lambda answer: value_of(answer),
    "confirmed_owner_detail": _confirmed_owner_detail,
    "created_at": lambda answer: _time(answer.created_at),
    "expires_at": lambda answer: _time(answer.expires_at),
    "seconds_on_page": _seconds_on_page,
}
