"""Read JSON from others, and tell them which value is invalid."""

import re
from typing import TypeVar

import msgspec

from service.errors import InvalidInput, MalformedBody, MissingInput, UnknownInput

_Read = TypeVar("_Read")

_IN_WORDS = {
    "str": "a string",
    "object": "an object",
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
}
_EXPECTED = re.compile(r"Expected (.*), got .*")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_PATH_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def read_body(text: bytes, kind: type[_Read]) -> _Read:
    """Parse a request body as `kind`. Raises `MalformedBody` or `InvalidInput`."""
    try:
        return msgspec.json.decode(text or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise invalid_value(text, str(error), whole="body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None


def invalid_value(text: bytes, message: str, *, whole: str) -> InvalidInput:
    """Turn msgspec's message about a JSON text into an error that shows the invalid value.

    It shows the whole text if the value can't be found again. `whole` is what to call the text.
    """
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    if missing := _MISSING.fullmatch(what):
        return MissingInput(f"{path}.{missing[1]}".lstrip("."))
    if unknown := _UNKNOWN.fullmatch(what):
        return UnknownInput(f"{path}.{unknown[1]}".lstrip("."), "field")
    expected = _EXPECTED.fullmatch(what)
    try:
        value = msgspec.json.decode(text)
        for name, index in _PATH_PART.findall(path):
            value = value[name] if name else value[int(index)]
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except (ValueError, LookupError, TypeError, RecursionError):
        # The text is also invalid further on, or has a key twice.
        shown = text.strip().decode(errors="replace")
    types = expected[1].strip("`").split(" | ") if expected else [f"valid ({what})"]
    return InvalidInput(
        path.removeprefix(".") or whole,
        shown,
        " or ".join(_IN_WORDS.get(each, each) for each in types),
    )
