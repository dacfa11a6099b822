"""How results of batches are put into words, for people at a terminal and in reports."""

from typing import Any

RESULTS = ("named", "verified", "none", "not_applicable", "error")

WORDS = {
    "named": "Named",
    "verified": "Verified, not named",
    "none": "No verified owner",
    "not_applicable": "No site to look up",
    "error": "Not answered",
}

# What people call the column that says who sold a lead.
_VENDORS = ("vendor", "seller", "supplier", "publisher", "partner", "source", "lead_source")


def vendors_in(summary: dict[str, Any]) -> Any:
    """Return the column that says who sold a lead, if a summary has one."""
    columns = {each["name"].strip().lower().replace(" ", "_"): each for each in summary["columns"]}
    return next((columns[name] for name in _VENDORS if name in columns), None)
