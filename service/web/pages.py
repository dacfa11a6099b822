"""The frame of the pages: where they are, their headers, and the error page."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment, PackageLoader
from litestar import MediaType, Response, Router, get
from litestar.datastructures import Cookie as Cookie
from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig

from service.errors import ServiceError, http_headers, http_status
from service.web.bodies import HttpRequest
from service.web.front import current_request_id
from service.web.problems import PROBLEM_JSON, http_problem, wrong_parameter

Page: TypeAlias = Response[Any]

MAX_FORM = 16 * 1024

_STATIC = Path(__file__).parent.parent / "static"

# Pages load only our own styles, images, and scripts, none of which may be within a page. They can't be
# framed, and don't give their address to other sites. With “no-referrer”, browsers would send no
# Origin with forms.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Site(msgspec.Struct, frozen=True):
    """Where the pages are, and the secret that protects their forms."""

    public_url: str
    secret: bytes

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the site only by https."""
        return self.public_url.startswith("https://")

    @property
    def origin(self) -> str:
        """What browsers send as `Origin` with our forms (RFC 6454, section 7)."""
        parts = urlsplit(self.public_url)
        is_default = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + ("" if is_default else f":{parts.port}")

    @property
    def cookie(self) -> str:
        """The name of the cookie. Under https, browsers tie it to this host (RFC 6265bis)."""
        return "__Host-session" if self.is_secure else "session"

    def session_cookie(self, token: str, lasts: timedelta) -> Cookie:
        """Return a cookie with a session token."""
        return self.cookie_of(self.cookie, token, lasts)

    def cookie_of(self, name: str, value: str, lasts: timedelta) -> Cookie:
        """Return a cookie, which no script and no other site can get."""
        return Cookie(
            key=name,
            value=value,
            path="/",
            max_age=int(lasts.total_seconds()),
            httponly=True,
            secure=self.is_secure,
            samesite="lax",
        )


def rendered(
    name: str, context: dict[str, Any], *, status: int = 200, cookies: Sequence[Cookie] = ()
) -> Page:
    """Render a template as a page."""
    return Template(
        f"pages/{name}.html",
        context={"user": None, "seat": None, **context},
        status_code=status,
        headers=HEADERS,
        cookies=cookies,
        media_type="text/html",
    )


def redirect(path: str, *, cookies: Sequence[Cookie] = ()) -> Page:
    """Send a browser from a form to another of our pages."""
    return Redirect(path, status_code=303, headers=HEADERS, cookies=cookies)


def error_page(request: HttpRequest, error: Exception) -> Page:
    """Return the page for any error."""
    headers: dict[str, str] = {}
    match error:
        case ServiceError():
            status, text, headers = http_status(error), str(error), http_headers(error)
        case HTTPException(status_code=404 | 405):
            status, text = 404, "There is no page at this address."
        case HTTPException():
            status, text = error.status_code, error.detail
        case _:
            status, text = 500, "Something went wrong on our side. Try again later."
    context = {"status": status, "text": text, "request_id": current_request_id()}
    page = rendered("error", context, status=status)
    page.headers.update(headers)
    return page


class SignInNeeded(ServiceError):
    """A page is for who is signed in. `path` is where signing in leads back to."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__("sign in first")


def _to_sign_in(request: HttpRequest, error: SignInNeeded) -> Page:
    del request
    return redirect(f"/sign-in?next={error.path}")


def _wrong_parameter(request: HttpRequest, error: ValidationException) -> Page:
    return error_page(request, wrong_parameter(request, error))


def prefers_page(request: HttpRequest) -> bool:
    """Whether a request comes from a browser rather than from a program."""
    return request.accept.best_match([PROBLEM_JSON, "text/html"]) == "text/html"


def not_routed(request: HttpRequest, error: HTTPException) -> Response[Any]:
    """Answer a request that no route takes: browsers with a page, programs with a problem."""
    return error_page(request, error) if prefers_page(request) else http_problem(request, error)


def page_router(*handlers: Any) -> Router:
    """Return a router for pages: not in the API document, forms bounded, errors shown as pages."""
    return Router(
        "/",
        route_handlers=handlers,
        exception_handlers={
            SignInNeeded: _to_sign_in,
            ServiceError: error_page,
            ValidationException: _wrong_parameter,
            HTTPException: error_page,
            Exception: error_page,
        },
        include_in_schema=False,
        request_max_body_size=MAX_FORM,
    )


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """Return where templates are; values in them are escaped."""
    environment = Environment(
        loader=PackageLoader("service"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"day": _day, "moment": _moment, "sentence": sentence}
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def _day(time: datetime) -> str:
    """Format a day as Americans write it, such as July 4, 2026."""
    return f"{time:%B %-d, %Y}"


def _moment(time: datetime) -> str:
    """Format a time as Americans write it, such as July 4, 2026, 2:05 PM UTC."""
    return f"{_day(time)}, {time:%-I:%M %p} UTC"


def sentence(text: str) -> str:
    """Turn a phrase, such as an error message, into a sentence."""
    subject, _, rest = text.partition(" ")
    text = f"{subject[:1].upper()}{subject[1:].replace('_', ' ')} {rest}".rstrip()
    return text + ("" if text.endswith((".", "!", "?")) else ".")


@get("/favicon.ico", media_type="image/svg+xml")
async def show_icon() -> bytes:
    """Return the icon, for browsers that ask for it by themselves."""
    return (_STATIC / "favicon.svg").read_bytes()


@get("/styleguide")
async def show_styleguide() -> Page:
    """Show every component of the pages, for those who change them."""
    return rendered("styleguide", {})


@get("/robots.txt", media_type=MediaType.TEXT)
async def show_robots() -> str:
    """Tell crawlers that only the home page and the guides are for them (RFC 9309)."""
    return "User-agent: *\nAllow: /$\nAllow: /guides\nAllow: /static\nDisallow: /\n"


routes = [
    page_router(show_icon, show_robots, show_styleguide),
    create_static_files_router("/static", [_STATIC], include_in_schema=False),
]
