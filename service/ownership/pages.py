"""The page about domains: which are claimed, how they stand, and which record proves them."""

from litestar import get, post
from litestar.di import NamedDependency

from service.accounts.members import account_of_admin, memberships_of
from service.accounts.records import User
from service.accounts.visitors import Visitor, form_of, go_on, page, user_of
from service.audit import Actor
from service.errors import Conflict, InvalidInput, LimitReached
from service.ownership import claims, queries
from service.ownership.dns_txt import places_of
from service.postgres.pools import Database
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router

# To see more, use the API.
_SHOWN = 200


@get("/domains")
async def show_domains(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the domains of all the user's accounts."""
    return await _domains(request, visitor, database, user_of(visitor, "/domains"))


@post("/domains", status_code=200)
async def change_domains(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Add, verify, or remove a domain, or change whether it covers its subdomains."""
    form = await form_of(request, visitor)
    user, name = user_of(visitor, "/domains"), form.get("name", "")
    due = None
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            covers = "covers_subdomains" in form
            match form.get("do"):
                case "add":
                    await claims.add(connection, account_id, name, actor, covers_subdomains=covers)
                case "verify":
                    due = (await claims.begin(connection, account_id, name, actor)).id
                case "cover":
                    await claims.change_coverage(
                        connection, account_id, name, actor, covers_subdomains=covers
                    )
                case "remove":
                    await claims.remove(connection, account_id, name, actor)
                case other:
                    raise InvalidInput("do", other or "", "add, verify, cover, or remove")
    except (InvalidInput, Conflict, LimitReached) as error:
        return await _domains(request, visitor, database, user, error=str(error), name=name)
    if due is not None:
        await claims.check(database, request.app.state.resolvers, due)
    return go_on(request, "/domains")


async def _domains(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    user: User,
    *,
    error: str | None = None,
    name: str = "",
) -> Page:
    async with database.general.connection() as connection:
        accounts = [
            (
                account,
                await queries.select_claims(
                    connection, account.account_id, after=None, is_verified=None, limit=_SHOWN
                ),
            )
            for account in await memberships_of(connection, user.id)
        ]
    return page(
        request,
        visitor,
        "domains",
        status=200 if error is None else 422,
        accounts=accounts,
        places_of=places_of,
        error=error,
        typed=name,
    )


routes = [page_router(show_domains, change_domains)]
