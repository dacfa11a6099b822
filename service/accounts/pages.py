"""The pages for signing in and out, and for the settings of accounts and people."""

import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service import audit
from service.accounts import accounts, keys, members, sign_in
from service.accounts.accounts import checked_email
from service.accounts.members import account_of_admin
from service.accounts.names import checked_name
from service.accounts.records import ApiKey, SignInLink, Topic
from service.accounts.sign_in import LinkRequest
from service.accounts.visitors import Visitor, form_of, go_on, id_in, page, seat_of, user_of
from service.audit import Actor, Event
from service.errors import Conflict, InvalidInput, InvalidName, NoLongerOpen, NotFound
from service.postgres.pools import Connection, Database
from service.tokens import link_token
from service.web.bodies import HttpRequest, download
from service.web.exports import MEDIA_TYPES, exported
from service.web.networks import network_of
from service.web.pages import Page, page_router, sentence
from service.web.parameters import page_of

HOME = "/"

# How many rows a page has.
_SHOWN = 50

# Where sign-in may redirect to: only our own pages.
_OWN_PATH = re.compile(
    r"/|/(activity|answers|check|connections|domains|keys|memberships|opt-outs|receipts|settings)"
    r"(/[a-z0-9-]+(\.[a-z0-9-]+)*)?"
)


class _EventRow(msgspec.Struct, frozen=True):
    """What happened, as a line of a file. `detail` is JSON."""

    id: UUID
    at: datetime
    action: str
    by: str
    email: str | None
    key_id: UUID | None
    detail: str


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
            LinkRequest(
                email,
                former.invitation_id if former and leads_on else None,
                former.next_path if former and leads_on else next_path,
            ),
            browser=visitor.token,
            network=network_of(request),
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


@post("/account", status_code=200)
async def choose_account(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show another of the user's accounts from now on."""
    form = await form_of(request, visitor)
    account_id = id_in(form, "account_id", "an account")
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, HOME)
    for account in seat.accounts:
        if account.account_id == account_id:
            return go_on(request, HOME, account=account)
    raise NotFound("account", str(account_id))


@get("/settings")
async def show_settings(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the account's name, which partners may see, and what it may use."""
    return await _settings(request, visitor, database)


@post("/settings", status_code=200)
async def change_settings(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Rename the account."""
    form = await form_of(request, visitor)
    user, name = user_of(visitor, "/settings"), form.get("name", "")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            account = await accounts.find_account(connection, str(account_id))
            actor = Actor("user", account_id, user.id)
            match form.get("do"):
                case "rename":
                    await accounts.rename_account(connection, account, name, actor)
                case other:
                    raise InvalidInput("do", other or "", "rename")
    except (InvalidInput, Conflict) as error:
        return await _settings(request, visitor, database, error=str(error), typed=name)
    return go_on(request, "/settings")


@get("/names/check", media_type=MediaType.TEXT)
async def check_name(
    name: Annotated[str, QueryParameter(max_length=1000)] = "",
) -> str:
    """Say what is wrong with the form of an account's name, or nothing.

    Whether another account's name reads like it is not told: nobody should try names in order to
    learn who has an account.
    """
    try:
        checked_name(name)
    except InvalidName as error:
        return sentence(str(error))
    return ""


@get("/activity")
async def show_activity(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    about: Annotated[str, QueryParameter(max_length=80)] = "",
    before: Annotated[UUID | None, QueryParameter()] = None,
) -> Page:
    """Show what happened to the account, and who did it; of one kind, if that is chosen."""
    events: list[Event] = []
    older = None
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/activity")
        if seat.account is not None:
            found = await audit.events_of(
                connection,
                seat.account.account_id,
                before=before,
                subject=about or None,
                limit=_SHOWN + 1,
            )
            events, older = page_of(found, _SHOWN, lambda event: event.id)
    return page(
        request, visitor, "activity", seat=seat, events=events, older=older, about=about,
        is_first=before is None,
    )  # fmt: skip


@get("/activity/download")
async def download_activity(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    about: Annotated[str, QueryParameter(max_length=80)] = "",
) -> Response[Any]:
    """Download all that happened to the account, or what is of one kind, as CSV."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/activity")
    if seat.account is None:
        raise NotFound("account", seat.user.email)
    account_id = seat.account.account_id

    async def more(last: Any, most: int) -> list[_EventRow]:
        async with database.general.connection() as connection:
            events = await audit.events_of(
                connection, account_id, before=last and last.id, subject=about or None, limit=most
            )
        return [
            _EventRow(
                each.id, each.at, each.action, each.by.kind, each.by.email, each.by.key_id,
                bytes(each.detail).decode(),
            )
            for each in events
        ]  # fmt: skip

    rows = partial(exported, _EventRow, more, "csv")
    return download(rows, MEDIA_TYPES["csv"], "activity.csv")


@get("/keys")
async def show_keys(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the account's API keys to its admins."""
    return await _keys(request, visitor, database)


@post("/keys", status_code=200)
async def change_keys(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Create a key, which this page shows once, or revoke one."""
    form = await form_of(request, visitor)
    user, name = user_of(visitor, "/keys"), form.get("name", "")
    key: str | None = None
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            match form.get("do"):
                case "create":
                    _, key = await keys.create_key(connection, account_id, name=name, actor=actor)
                case "revoke":
                    key_id = id_in(form, "key_id", "a key")
                    await keys.revoke_own_key(connection, account_id, key_id, actor)
                case other:
                    raise InvalidInput("do", other or "", "create or revoke")
    except (InvalidInput, Conflict, NotFound) as error:
        return await _keys(request, visitor, database, error=str(error))
    if key is None:
        return go_on(request, "/keys")
    return await _keys(request, visitor, database, new_name=name, new_key=key)


@get("/memberships")
async def show_memberships(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the accounts that the user belongs to, and what else is the user's own."""
    return await _memberships(request, visitor, database)


@post("/memberships", status_code=200)
async def change_memberships(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Leave an account, choose whose keys answer invitations, or about what to get emails."""
    form = await form_of(request, visitor)
    user = user_of(visitor, "/memberships")
    try:
        account_id = id_in(form, "account_id", "an account")
        async with database.general.transaction() as connection:
            match form.get("do"):
                case "leave":
                    await members.leave(connection, account_id, user)
                case "choose":
                    await members.choose_speaker(connection, user, account_id)
                case "answer_myself":
                    await members.choose_speaker(connection, user, None)
                case "notify":
                    muted = [topic for topic in get_args(Topic) if topic not in form]
                    await members.mute(connection, account_id, user, muted)
                case other:
                    expected = "leave, choose, answer_myself, or notify"
                    raise InvalidInput("do", other or "", expected)
    except (InvalidInput, Conflict, NotFound) as error:
        return await _memberships(request, visitor, database, error=str(error))
    return go_on(request, "/memberships")


async def _settings(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    error: str | None = None,
    typed: str | None = None,
) -> Page:
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/settings")
        details = None
        if seat.account is not None:
            details = await accounts.details_of(connection, seat.account.account_id)
    return page(
        request,
        visitor,
        "settings",
        seat=seat,
        status=422 if error else 200,
        details=details,
        error=error,
        typed=typed,
        days=accounts.NAME_STANDS_FOR.days,
    )


async def _memberships(
    request: HttpRequest, visitor: Visitor, database: Database, *, error: str | None = None
) -> Page:
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/memberships")
        sessions = await sign_in.sessions_of(connection, seat.user)
    return page(
        request,
        visitor,
        "memberships",
        seat=seat,
        status=422 if error else 200,
        sessions=sessions,
        this=visitor.session and visitor.session.id,
        error=error,
    )


async def _keys(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    error: str | None = None,
    new_name: str | None = None,
    new_key: str | None = None,
) -> Page:
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/keys")
        own: list[ApiKey] = []
        if seat.account is not None and seat.is_admin:
            own = await keys.keys_of(connection, seat.account.account_id)
    return page(
        request,
        visitor,
        "keys",
        seat=seat,
        status=422 if error else 200,
        keys=own,
        site=request.app.state.site,
        error=error,
        new_name=new_name,
        new_key=new_key,
    )


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


routes = [
    page_router(
        show_sign_in,
        ask_for_link,
        show_link,
        use_link,
        sign_out,
        choose_account,
        show_settings,
        change_settings,
        check_name,
        show_activity,
        download_activity,
        show_keys,
        change_keys,
        show_memberships,
        change_memberships,
    )
]
