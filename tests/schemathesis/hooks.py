"""Tells schemathesis how to send lines: as the text that its strategy made."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context: object, value: Any) -> bytes:
    del context
    return str(value).encode(errors="replace")
