"""What an answer says, in the shape of the contract.

A failure is an operation that ran without success; the others run as well. The first reason counts,
in the order match_lead, retain, insights, verify.
"""

from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from service.accounts.names import told_of_owner
from service.certificates.facts import LONGEST_WINDOW
from service.insights.asked import Asked
from service.insights.contract import (
    NO_FINGERPRINTS,
    NO_MATCHES,
    NO_PAGE_TEXT,
    PROPERTIES,
    PROPERTIES_OF,
    SCANS_UNSUCCESSFUL,
    Kept,
    MatchLeadOutcome,
    MatchLeadResult,
    Outcome,
    RetainOutcome,
    RetainParameters,
    RetainResult,
    ScanParameters,
    ScansOutcome,
    ScansResult,
)
from service.insights.purchases import Bought
from service.insights.queries import Answer
from service.insights.upstream import VendorRetained

_Block = TypeVar("_Block", bound=Struct)


# What the vendor says to this service's own account, and the labels that another caller noted there.
_NOT_FOR_CALLERS = frozenset(
    {"errors", "message", "outcome", "reason", *RetainParameters.__struct_fields__}
)


class _Insights(Struct, omit_defaults=True):
    properties: dict[str, object]
    scans: ScansResult | dict[str, object] | UnsetType = UNSET


class _Response(Struct, omit_defaults=True):
    # Like `OperationsResponse`, but with only the properties asked for, in the order asked.
    outcome: Outcome
    reason: str | None
    match_lead: MatchLeadResult | UnsetType = UNSET
    retain: RetainResult | UnsetType = UNSET
    insights: _Insights | UnsetType = UNSET
    verify: dict[str, object] | UnsetType = UNSET


def recorded_body(
    asked: Asked, answer: Answer, scanned: ScansOutcome | None, bought: Bought | None
) -> bytes:
    """Return the body of a 200 whose operations ran here, even if some properties were bought."""
    left_out = bought.left_out if bought else frozenset[str]()
    response = _Response("success", None)
    failures: list[str] = []
    if asked.request.match_lead is not None:
        result = _match(answer)
        if not result.success:
            failures.append(NO_MATCHES if result.success is False else NO_FINGERPRINTS)
        response.match_lead = _echo(MatchLeadResult, asked.request.match_lead, result=result)
    if asked.request.retain is not None:
        response.retain = _retained(asked, answer, VendorRetained(_end(answer)))
        if response.retain.results:
            response.retain.results.stored = "labels"
    if asked.properties is not None:
        response.insights = _Insights(properties_of(asked.properties, answer, left_out))
        if asked.scans is not None and scanned is not None:
            response.insights.scans = _echo_scans(asked.scans, scanned)
            if scanned.success is False:
                failures.append(SCANS_UNSUCCESSFUL)
            elif scanned.success is None and asked.has_terms:
                failures.append(NO_PAGE_TEXT)
    if bought is not None and bought.response.outcome == "error":
        response.outcome, response.reason = "error", bought.response.reason
    elif failures:
        response.outcome, response.reason = "failure", failures[0]
    return msgspec.json.encode(response)


def bought_body(asked: Asked, answer: Answer, bought: Bought) -> bytes:
    """Return the body of a 200 whose operations the vendor ran.

    We echo what the caller sent. The vendor's account is the service's own, so its echo of a
    retention may be another caller's. Only the `verify` block is entirely the vendor's, because its
    criteria belong to that account.
    """
    sent, told = asked.request, bought.response
    response = _Response(told.outcome, told.reason)
    if sent.match_lead is not None and told.match_lead is not None:
        result = told.match_lead.result or UNSET
        response.match_lead = _echo(MatchLeadResult, sent.match_lead, result=result)
    if sent.retain is not None and told.retain is not None:
        response.retain = _retained(asked, answer, told.retain.results)
    if asked.properties is not None and bought.has_insights:
        properties = properties_of(asked.properties, answer, bought.left_out)
        response.insights = _Insights(properties)
        if asked.scans is not None and told.insights and told.insights.scans:
            response.insights.scans = msgspec.to_builtins(_echo_scans(asked.scans, UNSET)) | {
                "result": told.insights.scans.result
            }
    if sent.verify is not None and told.verify is not None:
        response.verify = told.verify
    return msgspec.json.encode(_with_unknown(msgspec.to_builtins(response), asked, told.raw))


def _with_unknown(body: dict[str, Any], asked: Asked, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with what we don't know: the keys sent, and the vendor's results for them."""
    for operation, results in (("match_lead", "result"), ("retain", "results")):
        ours = body.get(operation, {}).get(results)
        if ours is not None:
            theirs = (told.get(operation) or {}).get(results) or {}
            more = {name: value for name, value in theirs.items() if name not in _NOT_FOR_CALLERS}
            body[operation][results] = {**more, **ours}
    for name, keys in asked.unknown.items():
        if name in body and name != "verify":
            body[name] = {**keys, **body[name]}
    answered = (asked.unknown.get("", {}).keys() & told.keys()) - _NOT_FOR_CALLERS - body.keys()
    return body | {key: told[key] for key in answered}


def _retained(asked: Asked, answer: Answer, results: VendorRetained | None) -> RetainResult:
    """Return the `retain` block.

    `previously_retained` is about the caller's own account, not the vendor's.
    """
    sent, labels = asked.request.retain, asked.labels
    assert sent is not None
    assert labels is not None
    if results is None or answer.retained is None:
        return _echo(RetainResult, sent)
    kept = {
        name: noted
        for name, label in msgspec.structs.asdict(labels).items()
        if label is not None and label != (noted := getattr(answer.retained, name))
    }
    return _echo(
        RetainResult,
        sent,
        results=RetainOutcome(
            expires_at=results.expires_at,
            masked_cert_url=results.masked_cert_url,
            share_url=results.share_url,
            previously_retained=bool(answer.previously_retained),
            kept=Kept(**kept) if kept else UNSET,
        ),
    )


def _echo(block: type[_Block], sent: Struct, **results: object) -> _Block:
    """Return an operation's parameters as sent, with its results."""
    return block(**msgspec.structs.asdict(sent), **results)


def _echo_scans(sent: ScanParameters, scanned: ScansOutcome | UnsetType) -> ScansResult:
    """Return the scans as sent, with the result. Lists that weren't sent are empty, as the vendor's."""
    scans = _echo(ScansResult, sent, result=scanned)
    for name in ("required", "forbidden"):
        if getattr(scans, name) is UNSET:
            setattr(scans, name, [])
    return scans


def properties_of(
    asked: tuple[str, ...], answer: Answer, left_out: Set[str] = frozenset()
) -> dict[str, object]:
    """Return the properties asked for; null if the kind has none or the vendor just left it out."""
    facts = msgspec.json.decode(answer.facts) if answer.facts else {}
    properties: dict[str, object] = {}
    has = PROPERTIES_OF[answer.kind]
    for name in asked:
        if name in left_out or (name not in has and name in PROPERTIES):
            properties[name] = None
        elif name in _COMPUTED:
            properties[name] = _COMPUTED[name](answer)
        else:
            properties[name] = facts.get(name)
    return properties


def _match(answer: Answer) -> MatchLeadOutcome:
    matches = [match for match in (answer.email_match, answer.phone_match) if match is not None]
    return MatchLeadOutcome(
        any(matches) if matches else None, answer.email_match, answer.phone_match
    )


def _end(answer: Answer) -> str | None:
    """Return when a certificate can no longer be asked about."""
    if answer.expires_at is not None:
        return _time(answer.expires_at)
    return None if answer.created_at is None else _time(answer.created_at + LONGEST_WINDOW)


def _age_seconds(answer: Answer) -> int | None:
    events = [] if answer.last_event_at is None else [answer.last_event_at]
    if answer.created_at is not None:
        events.append(answer.created_at + timedelta(seconds=answer.seconds_on_page or 0))
    if not events:
        return None
    return max(0, int((answer.answered_at - max(events)).total_seconds()))


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
    """Format a time as the vendor does: UTC, whole seconds."""
    # A third of the time that `strftime` takes.
    return None if value is None else f"{value.isoformat()[:19]}Z"


_COMPUTED = {
    "age_seconds": _age_seconds,
    "confirmed_owner": lambda answer: told_of_owner(answer.status, answer.owner_name),
    "confirmed_owner_detail": _confirmed_owner_detail,
    "created_at": lambda answer: _time(answer.created_at),
    "expires_at": lambda answer: _time(answer.expires_at),
    "seconds_on_page": _seconds_on_page,
}
