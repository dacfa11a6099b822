"""The OpenAPI document: its frame, and how it describes bodies and responses."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import swagger_ui_bundle
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    SecurityScheme,
)
from litestar.static_files import create_static_files_router

from service import __version__
from service.web.problems import PROBLEM_JSON, Problem


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


def openapi_config() -> OpenAPIConfig:
    """Return the document's frame, and the page that shows it."""
    return OpenAPIConfig(
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
                    description="The password is your API key; the user name is ignored.",
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
            )
        ],
    )


routes = [
    create_static_files_router(
        "/schema/static", [str(swagger_ui_bundle.swagger_ui_path)], include_in_schema=False
    )
]
