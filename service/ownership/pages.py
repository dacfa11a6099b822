"""The pages about domains: which are claimed, how they stand, and which record proves each."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated
from urllib.parse import quote

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service.accounts.members import account_of_admin
from service.accounts.visitors import Visitor, form_of, go_on, page, seat_of, user_of
from service.audit import Actor
from service.errors import Conflict, InvalidInput, LimitReached, NotFound, ServiceError, shorten
from service.ownership import claims, queries
from service.ownership.dns_txt import places_of
from service.ownership.records import Claim, Evidence
from service.postgres.pools import Database
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router
from service.web.parameters import page_of

# How many rows a page has.
_SHOWN = 100

# How many domains one form adds at most.
_MOST_NAMES = 100

# What separates domains, however they are pasted.
_BETWEEN = re.compile(r"[\s,;]+")

_Name = Annotated[str, PathParameter()]


class _Refused(msgspec.Struct, frozen=True):
    """A name that wasn't added, and why."""

    name: str
    reason: str


@get("/domains")
async def show_domains(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    after: Annotated[str | None, QueryParameter(max_length=253)] = None,
) -> Page:
    """Show the domains that the account claims."""
    return await _domains(request, visitor, database, after=after)


@post("/domains", status_code=200)
async def add_domains(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Add domains. Of several, each is added or refused on its own."""
    form = await form_of(request, visitor)
    user = user_of(visitor, "/domains")
    covers = "covers_subdomains" in form
    refused: list[_Refused] = []
    added: list[str] = []
    try:
        names = _names_in(form.get("names", ""))
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            for name in names:
                try:
                    async with connection.transaction():
                        claim, _ = await claims.add(
                            connection, account_id, name, actor, covers_subdomains=covers
                        )
                except (InvalidInput, Conflict, LimitReached) as error:
                    refused.append(_Refused(name, str(error)))
                else:
                    added.append(claim.name)
    except InvalidInput as error:
        typed = form.get("names", "")
        return await _domains(request, visitor, database, error=str(error), typed=typed)
    if refused:
        typed = "\n".join(each.name for each in refused)
        return await _domains(request, visitor, database, refused=refused, added=added, typed=typed)
    return go_on(request, _path_of(added[0]) if len(added) == 1 else "/domains")


@get("/domains/{name:str}")
async def show_domain(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    name: _Name,
) -> Page:
    """Show how a domain stands, the record that proves it, and what its checks found."""
    return await _domain(request, visitor, database, name)


@post("/domains/{name:str}", status_code=200)
async def change_domain(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    name: _Name,
) -> Page:
    """Verify a domain now, remove it, or change whether it covers its subdomains."""
    form = await form_of(request, visitor)
    user = user_of(visitor, "/domains")
    due = None
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            match form.get("do"):
                case "verify":
                    due = (await claims.begin(connection, account_id, name, actor)).id
                case "cover":
                    await claims.change_coverage(
                        connection,
                        account_id,
                        name,
                        actor,
                        covers_subdomains="covers_subdomains" in form,
                    )
                case "remove":
                    await claims.remove(connection, account_id, name, actor)
                    return go_on(request, "/domains")
                case other:
                    raise InvalidInput("do", other or "", "verify, cover, or remove")
    except (InvalidInput, Conflict, LimitReached) as error:
        return await _domain(request, visitor, database, name, error=error)
    if due is not None:
        await claims.check(database, request.app.state.resolvers, due)
    return go_on(request, _path_of(name))


def _path_of(name: str) -> str:
    return f"/domains/{quote(name, safe='')}"


def _names_in(text: str) -> list[str]:
    """Return the names in a text, each once. Raises `InvalidInput`."""
    names = list(dict.fromkeys(word for word in _BETWEEN.split(text) if word))
    if not names:
        raise InvalidInput("domains", shorten(text), "at least one, such as example.com")
    if len(names) > _MOST_NAMES:
        raise InvalidInput("domains", str(len(names)), f"at most {_MOST_NAMES} at a time")
    return names


async def _domains(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    after: str | None = None,
    error: str | None = None,
    refused: list[_Refused] | None = None,
    added: list[str] | None = None,
    typed: str = "",
) -> Page:
    found: list[Claim] = []
    following = None
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/domains")
        if seat.account is not None:
            found, following = page_of(
                await queries.select_claims(
                    connection,
                    seat.account.account_id,
                    after=after,
                    is_verified=None,
                    limit=_SHOWN + 1,
                ),
                _SHOWN,
                lambda claim: claim.name,
            )
    return page(
        request,
        visitor,
        "domains",
        seat=seat,
        status=422 if error or (refused and not added) else 200,
        claims=found,
        following=following,
        is_first=after is None,
        most_names=_MOST_NAMES,
        error=error,
        refused=refused,
        added=added,
        typed=typed,
    )


async def _domain(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    name: str,
    *,
    error: ServiceError | None = None,
) -> Page:
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, _path_of(name))
        # The account shown comes first; mails lead here whichever that is.
        for account in sorted(seat.accounts, key=lambda account: account != seat.account):
            try:
                claim = await claims.find(connection, account.account_id, name)
            except NotFound:
                continue
            history = await queries.select_evidence(connection, claim.id, before=None, limit=_SHOWN)
            break
        else:
            raise NotFound("domain", name)
    places = places_of(claim.name)
    return page(
        request,
        visitor,
        "domain",
        seat=seat.at(account),
        status=422 if error else 200,
        claim=claim,
        places=places,
        history=history,
        seen=_seen_in(history, (places.registrable, places.label)),
        error=error and str(error),
    )


def _seen_in(history: Sequence[Evidence], wanted: Collection[str]) -> dict[str, list[str]]:
    """Return the TXT records that the latest check on record found, by host.

    Other hosts than the wanted ones, where only slips would have put a record, are left out if they
    have none. Which resolvers the operator asks is no concern of others.
    """
    for each in history:
        if each.evidence is not None:
            seen: dict[str, list[str]] = {}
            for reply in msgspec.json.decode(each.evidence).get("replies", ()):
                if reply["kind"] != "TXT":
                    continue
                values = seen.setdefault(reply["name"], [])
                values += [value for value in reply["values"] if value not in values]
            return {host: values for host, values in seen.items() if values or host in wanted}
    return {}


routes = [page_router(show_domains, add_domains, show_domain, change_domain)]
