"""The pages for signing in and out."""

import re
from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service.accounts import sign_in
from service.accounts.accounts import checked_email
from service.accounts.records import SignInLink
from service.accounts.visitors import Visitor, form_of, go_on, page
from service.errors import InvalidInput, NoLongerOpen, NotFound
from service.postgres.pools import Connection, Database
from service.tokens import link_token
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router

HOME = "/connections"

# Where sign-in may redirect to: only our own pages.
_OWN_PATH = re.compile(r"/domains|/opt-outs|/connections(/[0-9a-f-]{36})?")


@get("/sign-in")
async def show_sign_in(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    next_path: Annotated[str, QueryParameter(name="next")] = HOME,
) -> Page:
    """Show the form that asks for an address."""
    if visitor.session is not None:
        return go_on(request, _own(next_path))
    return page(request, visitor, "sign_in", next_path=_own(next_path))


@post("/sign-in", status_code=200)
async def ask_for_link(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
) -> Page:
    """Email a sign-in link if the address has a user. The page is the same if it has none."""
    form = await form_of(request, visitor)
    next_path = _own(form.get("next", HOME))
    try:
        email = checked_email(form.get("email", ""))
    except InvalidInput as error:
        return page(
            request,
            visitor,
            "sign_in",
            status=422,
            next_path=next_path,
            email=form.get("email", ""),
            error=str(error),
        )
    async with database.general.transaction() as connection:
        former = await sign_in.look_up(connection, form.get("former", ""))
        leads_on = former is not None and former.email == email
        await sign_in.request_link(
            connection,
            request.app.state.secret,
            email,
            invitation_id=former.invitation_id if former and leads_on else None,
            next_path=former.next_path if former and leads_on else next_path,
        )
    return page(request, visitor, "link_sent", email=email)


@get("/sign-in/{token:str}")
async def show_link(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: Annotated[str, PathParameter()],
) -> Page:
    """Show whom a link signs in. Opening it, as mail scanners do, does not use it up."""
    async with database.general.connection() as connection:
        try:
            link = await sign_in.find_link(connection, token)
        except (NotFound, NoLongerOpen) as error:
            return await _bad_link(request, visitor, connection, token, error)
    return page(request, visitor, "confirm_sign_in", email=link.email, token=token)


@post("/sign-in/{token:str}", status_code=200)
async def use_link(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: Annotated[str, PathParameter()],
) -> Page:
    """Sign in, and redirect to where the link leads."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        try:
            signed_in = await sign_in.sign_in(connection, token, visitor.session)
        except (NotFound, NoLongerOpen) as error:
            return await _bad_link(request, visitor, connection, token, error)
        path = await _destination(request, connection, signed_in.link)
    return go_on(request, path, signed_in.token)


@post("/sign-out", status_code=200)
async def sign_out(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
) -> Page:
    """End this session, or all of this user's sessions on all devices."""
    form = await form_of(request, visitor)
    if visitor.session is not None:
        async with database.general.transaction() as connection:
            await sign_in.sign_out(connection, visitor.session, everywhere="everywhere" in form)
    return page(request, Visitor(visitor.token, visitor.is_new, None), "signed_out")


def _own(path: str) -> str:
    return path if _OWN_PATH.fullmatch(path) else HOME


async def _destination(request: HttpRequest, connection: Connection, link: SignInLink) -> str:
    mail_id = await sign_in.mail_of_invitation(connection, link)
    if mail_id is None:
        return link.next_path or HOME
    return f"/invitations/{link_token(request.app.state.secret, mail_id)}"


async def _bad_link(
    request: HttpRequest,
    visitor: Visitor,
    connection: Connection,
    token: str,
    error: NotFound | NoLongerOpen,
) -> Page:
    """Show why a link doesn't work, and ask for a new one that leads to the same page.

    Whoever has just signed in with it, and pressed twice, goes on to that page.
    """
    link = await sign_in.look_up(connection, token)
    user = visitor.session.user if visitor.session else None
    if user and link and link.used_at and link.email == user.email:
        return go_on(request, await _destination(request, connection, link))
    return page(
        request,
        visitor,
        "sign_in" if user is None else "bad_link",
        status=410 if isinstance(error, NoLongerOpen) else 404,
        next_path=HOME,
        former=token if link else None,
        email=link.email if link else None,
        error=str(error),
    )


routes = [page_router(show_sign_in, ask_for_link, show_link, use_link, sign_out)]
