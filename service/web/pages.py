"""The frame of pages: where they are, the headers they come with, and the page for errors."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment, PackageLoader
from litestar import Response, Router
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig

from service.errors import ServiceError, http_headers, http_status
from service.web.bodies import HttpRequest

Page: TypeAlias = Response[Any]

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

    def session_cookie(self, token: str, lasts: timedelta) -> Cookie:
        """A cookie with a browser's session token, which no script and no other site gets hold of."""
        return Cookie(
            key=self.cookie,
            value=token,
            path="/",
            max_age=int(lasts.total_seconds()),
            httponly=True,
            secure=self.is_secure,
            samesite="lax",
        )


def rendered(
    name: str, context: dict[str, Any], *, status: int = 200, cookies: Sequence[Cookie] = ()
) -> Page:
    """The page that a template makes of its context."""
    return Template(
        f"pages/{name}.html",
        context={"user": None, **context},
        status_code=status,
        headers=HEADERS,
        cookies=cookies,
        media_type="text/html",
    )


def redirect(path: str, *, cookies: Sequence[Cookie] = ()) -> Page:
    """Send a browser from a form to another page of ours."""
    return Redirect(path, status_code=303, headers=HEADERS, cookies=cookies)


def error_page(request: HttpRequest, error: Exception) -> Page:
    """Any error, for someone who looks at a page."""
    headers: dict[str, str] = {}
    match error:
        case ServiceError():
            status, text, headers = http_status(error), str(error), http_headers(error)
        case HTTPException():
            status, text = error.status_code, error.detail
        case _:
            status, text = 500, "Something went wrong on our side. Try again later."
    page = rendered("error", {"text": text}, status=status)
    page.headers.update(headers)
    return page


def page_router(*handlers: Any) -> Router:
    """Routes that are pages: in no API document, their forms bounded, and their errors pages as well."""
    return Router(
        "/",
        route_handlers=handlers,
        exception_handlers={
            ServiceError: error_page,
            HTTPException: error_page,
            Exception: error_page,
        },
        include_in_schema=False,
        request_max_body_size=MAX_FORM,
    )


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """Where templates are. What they are given is escaped."""
    environment = Environment(
        loader=PackageLoader("service"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"day": _day, "sentence": _sentence}
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def _day(time: datetime) -> str:
    """A day as Americans write it, such as July 4, 2026."""
    return f"{time:%B %-d, %Y}"


def _sentence(text: str) -> str:
    """A phrase, such as an error's, as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


routes = [
    create_static_files_router(
        "/static", [Path(__file__).parent.parent / "static"], include_in_schema=False
    )
]
