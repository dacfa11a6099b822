"""What the OpenAPI document says of responses."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody

PROBLEM_JSON = "application/problem+json"


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


def problems(*statuses: int, kind: type[Problem] = Problem) -> dict[int, ResponseSpec]:
    """Responses that are problem documents, of a kind with further members or without."""
    return {
        status: ResponseSpec(
            kind,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
            media_type=PROBLEM_JSON,
        )
        for status in statuses
    }


def json_body(struct: type, *, required: bool = True) -> type[Operation]:
    """How an operation is documented whose handler reads a JSON body of that type for itself."""

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(
                content={"application/json": OpenAPIMediaType(schema=inline_schema(struct))},
                required=required,
            )

    return WithBody


def inline_schema(struct: type) -> Any:
    """The JSON Schema of a struct with its references replaced by what they refer to."""
    (schema,), components = msgspec.json.schema_components((struct,))

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(components[node["$ref"].rpartition("/")[2]])
            return {name: resolved(value) for name, value in node.items() if name != "title"}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    return resolved(schema)
