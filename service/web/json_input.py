"""Read JSON from others, and tell them which value is invalid."""

import re
from collections.abc import Sequence
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from service.errors import (
    InvalidInput,
    MalformedBody,
    MissingInput,
    UnknownInput,
    UnsupportedMediaType,
)

_Read = TypeVar("_Read")

_IN_WORDS = {
    "str": "a string",
    "object": "an object",
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
}
_UNITS = {"str": "characters", "array": "items", "object": "fields"}
_FORMS = {"UUID": "an id", "RFC3339 encoded datetime": "a time such as 2026-07-04T12:00:00Z"}
_EXPECTED = re.compile(r"Expected (.*), got .*")
_BOUND = re.compile(r"Expected `(int|float)` (<=|>=) (-?[0-9.]+)")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length (<=|>=) ([0-9]+)")
_INVALID = re.compile(r"Invalid (UUID|RFC3339 encoded datetime)")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_PATH_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def read_body(text: bytes, kind: type[_Read]) -> _Read:
    """Parse a request body as `kind`. Raises `MalformedBody` or `InvalidInput`."""
    try:
        return msgspec.json.decode(text or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise invalid_value(text, str(error), whole="body", kind=kind) from None
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8") from None
    except msgspec.DecodeError as error:
        if text[:2] == b"\x1f\x8b":
            raise UnsupportedMediaType("the body is compressed; send it as it is") from None
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None


def invalid_value(
    text: bytes, message: str, *, whole: str, kind: type | None = None
) -> InvalidInput:
    """Turn msgspec's message about a JSON text into an error that shows the invalid value.

    It shows the whole text if the value can't be found again. `whole` is what to call the text.
    `kind` is what the text should be: from it come the values that are allowed.
    """
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    if missing := _MISSING.fullmatch(what):
        return MissingInput(f"{path}.{missing[1]}".lstrip("."))
    if unknown := _UNKNOWN.fullmatch(what):
        return UnknownInput(f"{path}.{unknown[1]}".lstrip("."), "field")
    try:
        value = msgspec.json.decode(text)
        for name, index in _PATH_PART.findall(path):
            value = value[name] if name else value[int(index)]
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except (ValueError, LookupError, TypeError, RecursionError):
        # The text is also invalid further on, or has a key twice.
        shown = text.strip().decode(errors="replace")
    names = [name for name, _ in _PATH_PART.findall(path) if name]
    return InvalidInput(
        path.removeprefix(".") or whole, shown, in_words(what, _values_of(kind, names))
    )


def in_words(message: str, values: Sequence[object] = ()) -> str:
    """Return what msgspec expected, in words that complete “must be …”.

    `values` are those allowed, where only some are.
    """
    if values:
        return f"one of {', '.join(map(str, values))}"
    if bound := _BOUND.search(message):
        words, number = ("at most", bound[3]) if bound[2] == "<=" else ("at least", bound[3])
        return f"{_IN_WORDS.get(bound[1], bound[1])} of {words} {number}"
    if length := _LENGTH.search(message):
        most = "at most" if length[2] == "<=" else "at least"
        return f"{_IN_WORDS.get(length[1], length[1])} of {most} {length[3]} {_UNITS[length[1]]}"
    if expected := _EXPECTED.fullmatch(message):
        types = [each for each in expected[1].strip("`").split(" | ") if each != "null"]
        return " or ".join(_IN_WORDS.get(each, each) for each in types)
    if invalid := _INVALID.search(message):
        return _FORMS.get(invalid[1], "valid")
    return "valid"


def literals_in(annotation: object) -> list[object]:
    """Return the values that a type with literals allows; none if it allows any."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals_in(part)]


def _values_of(kind: object, names: Sequence[str]) -> list[object]:
    """Return the values that a struct's field allows, which is reached by these names."""
    for name in names:
        structs = [each for each in (kind, *get_args(kind)) if isinstance(each, type)]
        hints = [get_type_hints(each) for each in structs if issubclass(each, msgspec.Struct)]
        kind = next((each[name] for each in hints if name in each), None)
    return literals_in(kind)
