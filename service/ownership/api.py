"""The management API for domains: claims, their verification by DNS, and its evidence."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Litestar, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from msgspec import UNSET, UnsetType

from service.accounts.keys import actor_of
from service.accounts.records import Caller
from service.ownership import claims, queries
from service.ownership.dns_txt import places_of, resolvers_of
from service.ownership.hostname import is_mixed_script, registrable_domain
from service.ownership.records import Claim, Evidence, Method
from service.postgres.pools import Connection, Database
from service.web.bodies import MAX_BODY, HttpRequest, json_of
from service.web.carrying_out import carried_out_for_each
from service.web.documents import KEYED, documented, json_body, problems
from service.web.parameters import IdCursor, IdempotencyKey, Limit, page_of
from service.web.problems import Problem

MAX_NAMES = 100


_Name = Annotated[
    str,
    PathParameter(
        schema_extra={"maxLength": 253, "pattern": r"^[^/?#\s]+$"}, description="A domain."
    ),
]


class NewDomains(msgspec.Struct, forbid_unknown_fields=True):
    """The domains you own, and whether you own all their subdomains."""

    names: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_NAMES)]
    covers_subdomains: bool = False


class DomainChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change about a domain."""

    covers_subdomains: bool


class Record(msgspec.Struct):
    """A DNS record to create. Use `relative_host` if your DNS panel adds the zone by itself."""

    host: str
    relative_host: str
    zone: str
    type: Literal["TXT"]
    value: str
    proves_subdomains: bool


class DomainItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The result for a name: a domain, or an error."""

    name: str
    status_code: int | UnsetType = UNSET
    error: Problem | UnsetType = UNSET
    status: Literal["verified", "unverified"] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET
    method: Method | UnsetType = UNSET
    covers_subdomains: bool | UnsetType = UNSET
    subdomain_status: Literal["confirmed", "unconfirmed", "not_applicable"] | UnsetType = UNSET
    added_at: datetime | UnsetType = UNSET
    last_checked_at: datetime | UnsetType = UNSET
    last_verified_at: datetime | UnsetType = UNSET
    next_check_at: datetime | UnsetType = UNSET
    at_risk: bool | UnsetType = UNSET
    is_mixed_script: bool | UnsetType = UNSET
    records: list[Record] | UnsetType = UNSET


class Domain(DomainItem, kw_only=True, omit_defaults=True):
    """A domain that you claim, and its status. You need only one of the `records`.

    `reason` and `hint` say what is wrong, even for a verified domain whose latest check failed.
    `at_risk` means that its name servers have changed since it was proven.
    """

    status: Literal["verified", "unverified"]
    covers_subdomains: bool
    subdomain_status: Literal["confirmed", "unconfirmed", "not_applicable"]
    added_at: datetime
    at_risk: bool
    is_mixed_script: bool
    records: list[Record]


class DomainReport(msgspec.Struct):
    """The result for each name, in order: a domain, or why there is none."""

    items: list[DomainItem]


class NothingAdded(Problem, omit_defaults=True):
    """Why nothing was added. If the names were at fault, each item says what is wrong."""

    items: list[DomainItem] | UnsetType = UNSET


class DomainList(msgspec.Struct):
    """A page of domains by name. `next` is the cursor of the next page, if there is one."""

    items: list[Domain]
    next: str | None


class EvidenceList(msgspec.Struct):
    """A page of changes, latest first. `next` is the cursor of the next page, if there is one."""

    items: list[Evidence]
    next: UUID | None


@post(
    "/v1/domains",
    status_code=201,
    tags=["Domains"],
    operation_id="addDomains",
    operation_class=json_body(NewDomains),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(DomainReport, "You already added all of them"),
        201: documented(DomainReport, "All are added"),
        207: documented(DomainReport, "Mixed: see each item's status_code"),
        **KEYED,
        **problems(400, 408, 413, 415),
        **problems(409, 422, 429, kind=NothingAdded),
    },
)
async def add_domains(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Add up to 100 domains that you own, at most 20 new ones per hour.

    Adding a domain reserves nothing, and nobody else sees it. Create one of the `records`, then
    start the verification.
    """
    wanted = await json_of(request, NewDomains)

    async def add(connection: Connection, name: str) -> tuple[int, DomainItem]:
        claim, is_new = await claims.add(
            connection,
            caller.account_id,
            name,
            actor_of(caller),
            covers_subdomains=wanted.covers_subdomains,
        )
        item = _domain(claim)
        item.status_code = 201 if is_new else 200
        return item.status_code, item

    async def done(connection: Connection, names: Sequence[str]) -> dict[str, object]:
        added = await claims.added(
            connection, caller.account_id, names, covers_subdomains=wanted.covers_subdomains
        )
        items = {name: _domain(claim) for name, claim in added}
        for item in items.values():
            item.status_code = 200
        return {**items}

    return await carried_out_for_each(
        request,
        database,
        caller.account_id,
        idempotency_key,
        wanted.names,
        add,
        done,
        lambda name, error: DomainItem(name=name, status_code=error.status, error=error),
        # In the order given, because only the account's own requests could wait for them.
        order=wanted.names.index,
    )


@get(
    "/v1/domains",
    tags=["Domains"],
    operation_id="listDomains",
    security=[{"Basic": []}],
    responses={200: documented(DomainList, "OK"), **KEYED, **problems(422)},
)
async def list_domains(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    verified: Annotated[
        bool | None, QueryParameter(description="Only verified, or only unverified domains.")
    ] = None,
    cursor: Annotated[
        str | None, QueryParameter(max_length=253, description="`next` from the previous page.")
    ] = None,
    limit: Limit = 50,
) -> DomainList:
    """List the domains that you claim, by name."""
    async with database.general.connection() as connection:
        found = await queries.select_claims(
            connection, caller.account_id, after=cursor, is_verified=verified, limit=limit + 1
        )
    items, following = page_of(found, limit, lambda claim: claim.name)
    return DomainList([_domain(each) for each in items], following)


@get(
    "/v1/domains/{name:str}",
    tags=["Domains"],
    operation_id="getDomain",
    security=[{"Basic": []}],
    responses={200: documented(Domain, "OK"), **KEYED, **problems(404, 422)},
)
async def get_domain(
    caller: NamedDependency[Caller], database: NamedDependency[Database], name: _Name
) -> Domain:
    """Get a domain that you claim."""
    async with database.general.connection() as connection:
        return _domain(await claims.find(connection, caller.account_id, name))


@patch(
    "/v1/domains/{name:str}",
    tags=["Domains"],
    operation_id="changeDomain",
    operation_class=json_body(DomainChange),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(Domain, "OK"),
        **KEYED,
        **problems(400, 404, 408, 413, 415, 422),
    },
)
async def change_domain(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    name: _Name,
) -> Domain:
    """Change whether a domain covers all its subdomains.

    Turning coverage off takes effect at once. Turning it on takes effect once it is proven.
    """
    change = await json_of(request, DomainChange)
    async with database.general.transaction() as connection:
        return _domain(
            await claims.change_coverage(
                connection,
                caller.account_id,
                name,
                actor_of(caller),
                covers_subdomains=change.covers_subdomains,
            )
        )


@delete(
    "/v1/domains/{name:str}",
    tags=["Domains"],
    operation_id="removeDomain",
    security=[{"Basic": []}],
    responses={**KEYED, **problems(404, 422)},
)
async def remove_domain(
    caller: NamedDependency[Caller], database: NamedDependency[Database], name: _Name
) -> None:
    """Remove a domain and your ownership of it. If you add it again, it gets a new code."""
    async with database.general.transaction() as connection:
        await claims.remove(connection, caller.account_id, name, actor_of(caller))


@post(
    "/v1/domains/{name:str}/verification",
    status_code=200,
    tags=["Domains"],
    operation_id="verifyDomain",
    security=[{"Basic": []}],
    responses={200: documented(Domain, "OK"), **KEYED, **problems(404, 422)},
)
async def verify_domain(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    name: _Name,
) -> Domain:
    """Verify a domain now. We keep checking it from then on.

    The response shows the result. At most 50 calls per hour.
    """
    async with database.general.transaction() as connection:
        claim = await claims.begin(connection, caller.account_id, name, actor_of(caller))
    await claims.check(database, request.app.state.resolvers, claim.id)
    async with database.general.connection() as connection:
        return _domain(await claims.find(connection, caller.account_id, name))


@get(
    "/v1/domains/{name:str}/history",
    tags=["Domains"],
    operation_id="getDomainHistory",
    security=[{"Basic": []}],
    responses={200: documented(EvidenceList, "OK"), **KEYED, **problems(404, 422)},
)
async def get_domain_history(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    name: _Name,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> EvidenceList:
    """List what changed in a domain's checks: what we asked, which resolvers, and their replies."""
    async with database.general.connection() as connection:
        claim = await claims.find(connection, caller.account_id, name)
        found = await queries.select_evidence(connection, claim.id, before=cursor, limit=limit + 1)
    items, following = page_of(found, limit, lambda evidence: evidence.id)
    return EvidenceList([_without_addresses(each) for each in items], following)


def _domain(claim: Claim) -> Domain:
    standing = claim.standing
    is_owned = claim.method is not None
    subdomain_status: Literal["confirmed", "unconfirmed", "not_applicable"] = "unconfirmed"
    if registrable_domain(claim.name) != claim.name:
        subdomain_status = "not_applicable"
    if claim.owns_subdomains:
        subdomain_status = "confirmed"
    return Domain(
        name=claim.name,
        status="verified" if is_owned else "unverified",
        reason=_code_of(standing.reason)
        if standing.reason and claim.method != "attested"
        else UNSET,
        hint=claim.hint or UNSET,
        method=claim.method or UNSET,
        covers_subdomains=claim.covers_subdomains,
        subdomain_status=subdomain_status,
        added_at=claim.added_at,
        last_checked_at=standing.last_checked_at or UNSET,
        last_verified_at=standing.last_verified_at or UNSET,
        next_check_at=claim.next_check_at or UNSET,
        at_risk=claim.at_risk,
        is_mixed_script=is_mixed_script(claim.name),
        records=_records(claim),
    )


def _code_of(reason: str) -> str:
    """Return a reason, which people read, as a word for programs: `code_not_found`."""
    return reason.lower().replace(" ", "_")


def _without_addresses(evidence: Evidence) -> Evidence:
    """Return evidence with resolvers by number: which the operator asks is no concern of others."""
    if evidence.evidence is None:
        return evidence
    found = msgspec.json.decode(evidence.evidence)
    replies = found.get("replies", [])
    numbers = {
        name: i for i, name in enumerate(dict.fromkeys(each["resolver"] for each in replies), 1)
    }
    for reply in replies:
        reply["resolver"] = f"resolver {numbers[reply['resolver']]}"
    return msgspec.structs.replace(evidence, evidence=msgspec.Raw(msgspec.json.encode(found)))


def _records(claim: Claim) -> list[Record]:
    places = places_of(claim.name)
    zone = places.registrable
    return [
        Record(
            host=host,
            relative_host=places.relative(host),
            zone=zone,
            type="TXT",
            value=claim.code,
            proves_subdomains=host == zone,
        )
        for host in dict.fromkeys((places.registrable, places.label))
    ]


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Set the DNS resolvers that the application asks."""
    app.state.resolvers = resolvers_of(app.state.settings.dns_resolvers)
    yield


routes = [
    add_domains,
    list_domains,
    get_domain,
    change_domain,
    remove_domain,
    verify_domain,
    get_domain_history,
]
