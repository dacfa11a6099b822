"""Visitors of pages: browsers, signed in or not, and the forms they send back.

Every browser has a session token in a cookie. It represents no one until someone signs in, and is
then replaced, so that no one can plant a session in another browser. A form is accepted only from
one of our pages (Origin) that was made for that token.
"""

import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from service.accounts import sign_in
from service.accounts.records import Session, User
from service.errors import Forbidden, InvalidInput
from service.postgres import shares
from service.tokens import form_token, new_token
from service.web.bodies import HttpRequest
from service.web.pages import Page, SignInNeeded, Site, redirect, rendered


class Visitor(msgspec.Struct, frozen=True):
    """A browser: its token, whether that is new, and the session if someone is signed in."""

    token: str
    is_new: bool
    session: Session | None


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


def page(
    request: HttpRequest, visitor: Visitor, name: str, *, status: int = 200, **context: Any
) -> Page:
    """Return a page for that browser, with what its forms need."""
    site: Site = request.app.state.site
    return rendered(
        name,
        {
            **context,
            "user": visitor.session and visitor.session.user,
            "form_token": form_token(site.secret, visitor.token),
        },
        status=status,
        cookies=[site.session_cookie(visitor.token, sign_in.SESSION_LASTS)]
        if visitor.is_new
        else [],
    )


def go_on(request: HttpRequest, path: str, token: str | None = None) -> Page:
    """Redirect a browser to another of our pages, with a new session if `token` is given."""
    site: Site = request.app.state.site
    return redirect(
        path,
        cookies=[] if token is None else [site.session_cookie(token, sign_in.SESSION_LASTS)],
    )
