"""Who looks at pages: browsers, signed in or not, and the forms that they send back.

Every browser has a session token in a cookie. It stands for nobody until someone signs in, and is then
replaced, so that nobody can prepare a session for another. A form is taken only from a page of ours
(Origin) that was made for that token.
"""

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Template

from service.accounts import sign_in
from service.accounts.queries import Session
from service.bodies import HttpRequest
from service.database import Database
from service.errors import Forbidden, ServiceError, http_headers, http_status
from service.tokens import form_token, new_token

MAX_FORM = 16 * 1024

# Pages load our style sheet alone, are in nobody's frame, and hand their address on to nobody. With
# “no-referrer” browsers would send no Origin with forms.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Site(msgspec.Struct, frozen=True):
    """Where pages are, and the secret that their forms are bound by."""

    public_url: str
    secret: bytes

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it by https alone."""
        return self.public_url.startswith("https://")

    @property
    def origin(self) -> str:
        """What browsers send as `Origin` with forms of ours (RFC 6454, section 7)."""
        parts = urlsplit(self.public_url)
        is_default = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + ("" if is_default else f":{parts.port}")

    @property
    def cookie(self) -> str:
        """The name of the cookie. Under https browsers hold it to this host (RFC 6265bis)."""
        return "__Host-session" if self.is_secure else "session"


class Visitor(msgspec.Struct, frozen=True):
    """A browser: its token, which is new to it or not, and who is signed in there, if anyone."""

    token: str
    is_new: bool
    session: Session | None


async def visiting(request: HttpRequest, database: Database) -> Visitor:
    """Who sent a request for a page. Raises `Unavailable`."""
    token = request.cookies.get(request.app.state.site.cookie)
    if not token:
        return Visitor(new_token(), is_new=True, session=None)
    async with database.general.connection() as connection:
        return Visitor(token, is_new=False, session=await sign_in.find_session(connection, token))


async def form_of(request: HttpRequest, visitor: Visitor) -> Mapping[str, str]:
    """The fields of a form that was sent from a page of ours, made for that browser.

    Raises `Forbidden`.
    """
    site: Site = request.app.state.site
    if request.headers.get("origin") != site.origin:
        raise Forbidden(f"this form has to be sent from a page of {site.origin}")
    sent = await request.form()
    fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    expected = form_token(site.secret, visitor.token)
    if visitor.is_new or not hmac.compare_digest(
        fields.get("form_token", "").encode(), expected.encode()
    ):
        raise Forbidden("this form is out of date: go back, reload the page, and try again")
    return fields


def page(
    request: HttpRequest, visitor: Visitor, name: str, *, status: int = 200, **context: Any
) -> Response[Any]:
    """A page, with what its forms need."""
    site: Site = request.app.state.site
    return Template(
        f"pages/{name}.html",
        context={
            **context,
            "user": visitor.session and visitor.session.user,
            "form_token": form_token(site.secret, visitor.token),
        },
        status_code=status,
        headers=HEADERS,
        cookies=[_cookie(site, visitor.token)] if visitor.is_new else [],
        media_type="text/html",
    )


def go_on(request: HttpRequest, path: str, token: str | None = None) -> Response[Any]:
    """Send a browser from a form to another page of ours, with another session if that is given."""
    site: Site = request.app.state.site
    return Redirect(
        path,
        status_code=303,
        headers=HEADERS,
        cookies=[] if token is None else [_cookie(site, token)],
    )


def error_page(request: HttpRequest, error: Exception) -> Response[Any]:
    """Any error, for someone who looks at a page."""
    match error:
        case ServiceError():
            status, text, headers = http_status(error), str(error), http_headers(error)
        case HTTPException():
            status, text, headers = error.status_code, error.detail, {}
        case _:
            status, text, headers = 500, "Something went wrong here. Please try again later.", {}
    return Template(
        "pages/error.html",
        context={"text": text, "user": None},
        status_code=status,
        headers={**HEADERS, **headers},
        media_type="text/html",
    )


ERRORS: dict[int | type[Exception], Any] = {
    ServiceError: error_page,
    HTTPException: error_page,
    Exception: error_page,
}


def _cookie(site: Site, token: str) -> Cookie:
    return Cookie(
        key=site.cookie,
        value=token,
        path="/",
        max_age=int(sign_in.SESSION_LASTS.total_seconds()),
        httponly=True,
        secure=site.is_secure,
        samesite="lax",
    )
