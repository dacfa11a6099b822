"""Visitors of pages: browsers, signed in or not, and the forms they send back.

Every browser has a session token in a cookie. It represents no one until someone signs in, and is
then replaced, so that no one can plant a session in another browser. A form is accepted only from
one of our pages (Origin) that was made for that token.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from service.accounts import sign_in
from service.accounts.members import memberships_of
from service.accounts.records import Membership, Session, User
from service.errors import Forbidden, InvalidInput
from service.postgres import shares
from service.postgres.pools import Connection
from service.tokens import form_token, new_token
from service.web.bodies import HttpRequest
from service.web.pages import Cookie, Page, SignInNeeded, Site, redirect, rendered

# Which account a browser shows. It is no secret: who may see what, the session says.
_ACCOUNT_COOKIE = "account"


class Visitor(msgspec.Struct, frozen=True):
    """A browser: its token, whether that is new, and the session if someone is signed in."""

    token: str
    is_new: bool
    session: Session | None


class Seat(msgspec.Struct, frozen=True):
    """Who is signed in, the accounts of that person, and the one that is shown.

    `account` is None if the person belongs to no active account.
    """

    user: User
    accounts: Sequence[Membership]
    account: Membership | None

    @property
    def is_admin(self) -> bool:
        """Whether this person may change the account."""
        return self.account is not None and self.account.role == "admin"

    def at(self, account: Membership) -> "Seat":
        """Return the same, with another of the person's accounts shown."""
        return Seat(self.user, self.accounts, account)


async def visiting(request: HttpRequest) -> Visitor:
    """Return the visitor who sent a request for a page. Raises `Unavailable`."""
    token = request.cookies.get(request.app.state.site.cookie)
    if not token:
        return Visitor(new_token(), is_new=True, session=None)
    session: Session | None = await request.app.state.callers.session(token)
    if session is not None:
        shares.belongs_to(session.user.id)
    return Visitor(token, is_new=False, session=session)


def user_of(visitor: Visitor, path: str) -> User:
    """Return who is signed in. Raises `SignInNeeded`, which leads to `path` by way of signing in."""
    if visitor.session is None:
        raise SignInNeeded(path)
    return visitor.session.user


async def seat_of(
    request: HttpRequest, visitor: Visitor, connection: Connection, path: str
) -> Seat:
    """Return who is signed in, and the account that a form was made for or this browser last chose.

    Raises `SignInNeeded`, which leads to `path` by way of signing in.
    """
    user = user_of(visitor, path)
    accounts = await memberships_of(connection, user.id)
    chosen = request.cookies.get(_ACCOUNT_COOKIE)
    if request.method == "POST":
        # Another tab may show another account by now.
        chosen = (await request.form()).get("account_id", chosen)
    found = [each for each in accounts if str(each.account_id) == chosen] or accounts
    return Seat(user, accounts, found[0] if found else None)


async def form_of(request: HttpRequest, visitor: Visitor) -> Mapping[str, str]:
    """Return the fields of a form.

    Raises `Forbidden` unless it was sent from one of our pages, made for that browser.
    """
    site: Site = request.app.state.site
    if request.headers.get("origin") != site.origin:
        raise Forbidden(f"this form came from another site; open {site.origin} and try again")
    try:
        sent = await request.form()
    except UnicodeDecodeError:
        raise InvalidInput("form", "…", "encoded in UTF-8") from None
    fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    expected = form_token(site.secret, visitor.token)
    if visitor.is_new or not hmac.compare_digest(
        fields.get("form_token", "").encode(), expected.encode()
    ):
        raise Forbidden("this form is out of date: go back, reload the page, and try again")
    return fields


def id_in(form: Mapping[str, str], field: str, whose: str) -> UUID:
    """Return the id in a field of a form. Raises `InvalidInput`."""
    text = form.get(field, "")
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(field, text, f"the id of {whose}") from None


def page(
    request: HttpRequest,
    visitor: Visitor,
    name: str,
    *,
    seat: Seat | None = None,
    status: int = 200,
    **context: Any,
) -> Page:
    """Return a page for that browser, with what its forms need; in an account's frame if given."""
    site: Site = request.app.state.site
    cookies = []
    if visitor.is_new:
        cookies.append(site.session_cookie(visitor.token, sign_in.SESSION_LASTS))
    if seat is not None and seat.account is not None and len(seat.accounts) > 1:
        cookies += _account_cookies(request, seat.account)
    return rendered(
        name,
        {
            **context,
            "seat": seat,
            "user": visitor.session and visitor.session.user,
            "form_token": form_token(site.secret, visitor.token),
        },
        status=status,
        cookies=cookies,
    )


def go_on(
    request: HttpRequest, path: str, token: str | None = None, account: Membership | None = None
) -> Page:
    """Redirect a browser to another of our pages.

    It gets a new session if `token` is given, and is shown another account if that is.
    """
    site: Site = request.app.state.site
    cookies = [] if token is None else [site.session_cookie(token, sign_in.SESSION_LASTS)]
    if account is not None:
        cookies += _account_cookies(request, account)
    return redirect(path, cookies=cookies)


def _account_cookies(request: HttpRequest, account: Membership) -> list[Cookie]:
    shown = str(account.account_id)
    if request.cookies.get(_ACCOUNT_COOKIE) == shown:
        return []
    site: Site = request.app.state.site
    return [site.cookie_of(_ACCOUNT_COOKIE, shown, sign_in.SESSION_LASTS)]
