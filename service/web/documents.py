"""The OpenAPI document: its frame, and how it describes bodies and responses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

import msgspec
import swagger_ui_bundle
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import SwaggerRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPI,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    SecurityScheme,
)
from litestar.static_files import create_static_files_router

from service import __version__
from service.web.problems import PROBLEM_JSON, Problem


class Example(msgspec.Struct, frozen=True):
    """What an operation is called with and answers. A `request` that is text is the body as it is."""

    parameters: Mapping[str, str] = {}
    request: object = None
    response: object = None
    otherwise: object = None
    """The request as JSON, where `request` is text."""


def documented(body: type, what: str) -> ResponseSpec:
    """Document a response with a JSON body of that type."""
    # Litestar's examples are random, but the document has to match the committed one.
    return ResponseSpec(body, description=what, generate_examples=False)


def problems(*statuses: int, kind: type[Problem] = Problem) -> dict[int, ResponseSpec]:
    """Document responses that are problem documents; `kind` may add members."""
    return {
        status: ResponseSpec(
            kind,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
            media_type=PROBLEM_JSON,
        )
        for status in statuses
    }


# What any operation of the management API may answer, before it looks at what is asked.
KEYED = problems(401, 402, 403, 429, 503)


def json_body(struct: type, *, required: bool = True) -> type[Operation]:
    """Document an operation whose handler reads a JSON body of that type itself."""

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(
                content={"application/json": OpenAPIMediaType(schema=inline_schema(struct))},
                required=required,
            )

    return WithBody


def inline_schema(struct: type) -> Any:
    """Return the JSON Schema of a struct, with its references replaced by what they refer to."""
    (schema,), components = msgspec.json.schema_components((struct,))

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(components[node["$ref"].rpartition("/")[2]])
            return {name: resolved(value) for name, value in node.items() if name != "title"}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    return resolved(schema)


class _Document(OpenAPI):
    """The document as Litestar makes it, with what Litestar leaves out or gets wrong."""

    examples: Mapping[str, Example]

    def to_schema(self) -> dict[str, Any]:
        """Return the document as JSON."""
        document: dict[str, Any] = _composed(super().to_schema())
        for path in document["paths"].values():
            for operation in path.values():
                if isinstance(operation, dict) and "operationId" in operation:
                    _describe(operation, self.examples.get(operation["operationId"], Example()))
        return document


def _composed(node: Any) -> Any:
    """Return a schema whose `oneOf` are such: Litestar also writes them of one or overlapping ones."""
    if isinstance(node, list):
        return [_composed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {name: _composed(value) for name, value in node.items()}
    parts = node.get("oneOf")
    if not isinstance(parts, list):
        return node
    rest = {name: value for name, value in node.items() if name != "oneOf"}
    if {} in parts:
        return rest
    if any(part.get("type") == "number" for part in parts):
        parts = [part for part in parts if part.get("type") != "integer"]
    return {**parts[0], **rest} if len(parts) == 1 else {**rest, "oneOf": parts}


def _describe(operation: dict[str, Any], example: Example) -> None:
    """Give an operation a summary, from the beginning of its description, and its example."""
    description = operation.setdefault("description", "")
    operation["summary"] = re.split(r"[.,:(]", " ".join(description.split()))[0].strip()
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in example.parameters:
            parameter["example"] = example.parameters[parameter["name"]]
    if example.request is not None:
        for content in operation["requestBody"]["content"].values():
            is_text = content["schema"].get("type") == "string"
            sent = (example.request, example.otherwise)
            content["example"] = next(each for each in sent if isinstance(each, str) == is_text)
    status = min(operation["responses"])
    if example.response is not None:
        for content in operation["responses"][status].get("content", {}).values():
            content["example"] = example.response


class _Config(OpenAPIConfig):
    """The configuration that makes our document."""

    examples: Mapping[str, Example]

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document, still without its operations."""
        made = super().to_openapi_schema()
        document = _Document(**{each.name: getattr(made, each.name) for each in fields(made)})
        document.examples = self.examples
        return document


def closed(schema: Any) -> Any:
    """Return a JSON Schema whose objects have no other properties than those named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return inner | {"additionalProperties": False} if "properties" in schema else inner


def openapi_config(examples: Mapping[str, Example]) -> OpenAPIConfig:
    """Return the document's frame, and the pages that show it. `examples` are by operation id."""
    config = _Config(
        use_handler_docstrings=True,
        title="confirmed-owner",
        version=__version__,
        summary="Who owns the site this lead came from?",
        description=(
            "The Certificate API v4, with `confirmed_owner` decided from verified ownership and "
            "connection permissions. An independent implementation, not affiliated with "
            "ActiveProspect or TrustedForm."
        ),
        license=License(name="MIT", identifier="MIT"),
        components=Components(
            security_schemes={
                "Basic": SecurityScheme(
                    type="http",
                    scheme="basic",
                    description=(
                        "The password is your API key; the user name is ignored. In the demo, "
                        "Harbor Insurance Group has the key "
                        "`cok_b8d523842004abb4d621c56677ee9fcd793fc5c4dec3d0c8`."
                    ),
                )
            }
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                js_url="/schema/static/swagger-ui-bundle.js",
                css_url="/schema/static/swagger-ui.css",
                standalone_preset_js_url="/schema/static/swagger-ui-standalone-preset.js",
                favicon="<link rel='icon' href='/schema/static/favicon-32x32.png'>",
                path="/",
            ),
            YamlRenderPlugin(path="/openapi.yaml"),
        ],
    )
    config.examples = examples
    return config


routes = [
    create_static_files_router(
        "/schema/static", [str(swagger_ui_bundle.swagger_ui_path)], include_in_schema=False
    )
]
