"""Make schemathesis send what its schemas alone can't describe."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context: object, value: Any) -> bytes:
    """Send lines as the text that the strategy generated."""
    del context
    return str(value).encode(errors="replace")


@schemathesis.hook
def filter_body(context: object, body: Any) -> bool:
    """Leave out leads with too many contacts of which only some are hashed: they count together."""
    del context
    lead = body.get("match_lead") if isinstance(body, dict) else None
    if not isinstance(lead, dict):
        return True
    for kind in ("email", "phone"):
        both = (lead.get(kind), lead.get(f"{kind}_sha1"))
        counts = [len(each) if isinstance(each, list) else each is not None for each in both]
        if max(counts) <= 3 < sum(counts):
            return False
    return True
