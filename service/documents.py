"""What the OpenAPI document says of responses."""

from http import HTTPStatus

import msgspec
from litestar.openapi.datastructures import ResponseSpec


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457). `field` names the value that can't be used, if it is one."""

    status: int
    title: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    field: str | msgspec.UnsetType = msgspec.UNSET


def documented(body: type, what: str) -> ResponseSpec:
    """A response with a JSON body of that type."""
    # Litestar's examples are random, and the document is compared with the committed one.
    return ResponseSpec(body, description=what, generate_examples=False)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Responses that are problem documents."""
    return {
        status: ResponseSpec(
            Problem,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
            media_type="application/problem+json",
        )
        for status in statuses
    }
