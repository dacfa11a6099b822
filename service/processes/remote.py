"""What commands share that call the service over HTTP, as any of its users."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_URL = "http://127.0.0.1:8000"

# How many seconds the service may take to answer, and how often a call is repeated if it can't be
# reached.
_TIMEOUT = 30.0
ATTEMPTS = 8
BUSY = (429, 502, 503, 504)


class Remote:
    """The service at a URL, called with an API key.

    Calls are repeated if the service can't be reached or is too busy. Raises `click.ClickException`.
    """

    def __init__(self, url: str, api_key: str) -> None:
        import httpx

        self.client = httpx.Client(base_url=url, auth=("X", api_key), timeout=_TIMEOUT)

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what is at a path, from JSON."""
        return self.send("GET", path, params=parameters).json()

    def text(self, path: str) -> str:
        """Return what is at a path, as text."""
        text: str = self.send("GET", path).text
        return text

    def send(self, method: str, path: str, **request: Any) -> Any:
        """Send a request, again if need be, and return the response."""
        import stamina

        for attempt in stamina.retry_context(
            on=_may_be_repeated, attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=10.0
        ):
            with attempt:
                response = self.client.request(method, path, **request)
                if response.status_code in BUSY:
                    raise Busy(response)
        if response.is_error:
            raise refused(response)
        return response


class Busy(Exception):
    """The service could not answer now."""

    def __init__(self, response: Any) -> None:
        self.response = response
        super().__init__(str(refused(response)))


def refused(response: Any) -> click.ClickException:
    """Return the error that a response tells, in its own words."""
    try:
        problem = response.json()
        detail = problem.get("detail") or problem.get("title") or problem["message"]
    except (ValueError, AttributeError, KeyError):
        detail = f"the service answered with status {response.status_code}"
    if response.status_code == 401:
        detail = "the API key is unknown; set CONFIRMED_OWNER_API_KEY, or use --api-key"
    return click.ClickException(str(detail))


def _may_be_repeated(error: Exception) -> bool:
    import httpx

    return isinstance(error, httpx.TransportError | Busy)


def remote_options(command: _Command) -> _Command:
    """Add the options that say which service to call, and as whom; pass it as `remote`."""

    @click.option(
        "--url",
        envvar="CONFIRMED_OWNER_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="The service. CONFIRMED_OWNER_URL sets it, too.",
    )
    @click.option(
        "--api-key",
        envvar="CONFIRMED_OWNER_API_KEY",
        help="Your key. Better set CONFIRMED_OWNER_API_KEY, which other users can't see.",
    )
    @functools.wraps(command)
    def with_remote(*args: Any, url: str, api_key: str | None, **options: Any) -> Any:
        import httpx

        if not api_key:
            raise click.ClickException("set CONFIRMED_OWNER_API_KEY to your API key")
        try:
            remote = Remote(url, api_key)
            with remote.client:
                return command(*args, remote=remote, **options)
        except (httpx.TransportError, Busy) as error:
            raise click.ClickException(f"{url} can't be reached: {error}") from error

    return with_remote  # type: ignore[return-value] # it takes other parameters than it passes on
