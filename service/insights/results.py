"""What an answer says, in the shape of the contract.

A failure is an operation that was run to no avail; the others are run as well. Of several reasons the
first counts, in the order match_lead, retain, insights, verify.
"""

from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from service.insights.asked import Asked
from service.insights.confirmed_owner import value_of
from service.insights.contract import (
    NO_FINGERPRINTS,
    NO_MATCHES,
    NO_PAGE_TEXT,
    OWNER_PROPERTIES,
    PROPERTIES_OF,
    SCANS_UNSUCCESSFUL,
    Kept,
    MatchLeadOutcome,
    MatchLeadResult,
    Outcome,
    RetainOutcome,
    RetainParameters,
    RetainResult,
    ScansOutcome,
    ScansResult,
)
from service.insights.queries import Answer
from service.insights.upstream import VendorResponse, VendorRetention

LONGEST_WINDOW = timedelta(days=90)

_Block = TypeVar("_Block", bound=Struct)

# What is computed or has a column of its own; everything else is among the facts.
NOT_FACTS = OWNER_PROPERTIES | {"age_seconds", "created_at", "expires_at", "seconds_on_page"}


class Blocks(Struct, omit_defaults=True):
    """The outcome of the operations beside the properties, and the block of each that was run."""

    outcome: Outcome = "success"
    reason: str | None = None
    match_lead: MatchLeadResult | UnsetType = UNSET
    retain: RetainResult | UnsetType = UNSET
    scans: ScansResult | dict[str, object] | UnsetType = UNSET
    verify: dict[str, object] | UnsetType = UNSET


class _Insights(Struct, omit_defaults=True):
    properties: dict[str, object]
    scans: ScansResult | dict[str, object] | UnsetType = UNSET


class _Response(Struct, omit_defaults=True):
    outcome: Outcome
    reason: str | None
    match_lead: MatchLeadResult | UnsetType = UNSET
    retain: RetainResult | UnsetType = UNSET
    insights: _Insights | UnsetType = UNSET
    verify: dict[str, object] | UnsetType = UNSET


def response_body(properties: tuple[str, ...] | None, answer: Answer, blocks: Blocks) -> bytes:
    """The body of a 200, with these properties, or without insights."""
    insights: _Insights | UnsetType = UNSET
    if properties is not None:
        insights = _Insights(_properties(properties, answer), blocks.scans)
    return msgspec.json.encode(
        _Response(
            blocks.outcome, blocks.reason, blocks.match_lead, blocks.retain, insights, blocks.verify
        )
    )


def run_here(asked: Asked, answer: Answer, scanned: ScansOutcome | None) -> Blocks:
    """The blocks of operations that were run on what is on record."""
    blocks = Blocks()
    reasons: list[str] = []
    if asked.request.match_lead is not None:
        result = _match(answer)
        if not result.success:
            reasons.append(NO_MATCHES if result.success is False else NO_FINGERPRINTS)
        blocks.match_lead = _echo(MatchLeadResult, asked.request.match_lead, result=result)
    if asked.request.retain is not None:
        blocks.retain = _retained(asked.request.retain, answer, VendorRetention(_end(answer)))
    if asked.scans is not None and scanned is not None:
        if scanned.success is False:
            reasons.append(SCANS_UNSUCCESSFUL)
        elif scanned.success is None and asked.has_terms:
            reasons.append(NO_PAGE_TEXT)
        blocks.scans = _echo(ScansResult, asked.scans, result=scanned)
    if reasons:
        blocks.outcome, blocks.reason = "failure", reasons[0]
    return blocks


def run_by_vendor(asked: Asked, answer: Answer, response: VendorResponse) -> Blocks:
    """The blocks of operations that the vendor ran. What they echo is what the caller sent.

    Its account with the vendor being ours, what the vendor would echo may be another caller's.
    """
    ours = asked.request
    blocks = Blocks(response.outcome, response.reason)
    if ours.match_lead is not None and response.match_lead is not None:
        result = response.match_lead.result or UNSET
        blocks.match_lead = _echo(MatchLeadResult, ours.match_lead, result=result)
    if ours.retain is not None and response.retain is not None:
        blocks.retain = _retained(ours.retain, answer, response.retain.results)
    if asked.scans is not None and response.insights and response.insights.scans:
        scanned = response.insights.scans.result
        blocks.scans = {**msgspec.to_builtins(asked.scans), "result": scanned}
    if ours.verify is not None and response.verify is not None:
        blocks.verify = response.verify
    return blocks


def _retained(
    sent: RetainParameters, answer: Answer, results: VendorRetention | None
) -> RetainResult:
    """The block of `retain`. Whether it was retained before is for the caller's own account to say."""
    if results is None or answer.retained is None:
        return _echo(RetainResult, sent)
    noted = {
        name: kept
        for name, label in msgspec.structs.asdict(sent).items()
        if label and label.strip() and label != (kept := getattr(answer.retained, name))
    }
    return _echo(
        RetainResult,
        sent,
        results=RetainOutcome(
            expires_at=results.expires_at,
            masked_cert_url=results.masked_cert_url,
            share_url=results.share_url,
            previously_retained=bool(answer.previously_retained),
            kept=Kept(**noted) if noted else UNSET,
        ),
    )


def _echo(block: type[_Block], sent: Struct, **results: object) -> _Block:
    """The parameters of an operation as they were sent, and its results."""
    return block(**msgspec.structs.asdict(sent), **results)


def _properties(asked: tuple[str, ...], answer: Answer) -> dict[str, object]:
    properties: dict[str, object] = dict.fromkeys(asked)
    has = PROPERTIES_OF[answer.kind]
    facts = msgspec.json.decode(answer.facts) if answer.facts else {}
    for name in asked:
        if name in has:
            compute = _COMPUTED.get(name)
            properties[name] = compute(answer) if compute else facts.get(name)
    return properties


def _match(answer: Answer) -> MatchLeadOutcome:
    matches = [match for match in (answer.email_match, answer.phone_match) if match is not None]
    return MatchLeadOutcome(
        any(matches) if matches else None, answer.email_match, answer.phone_match
    )


def _end(answer: Answer) -> str | None:
    """When a certificate can't be asked about any more."""
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
