"""A report about checked files: one page that needs nothing else, to print or mail."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from service.batches.checking import Checked
from service.batches.summaries import RESULTS, WORDS, vendors_in

# How many domains, vendors, and days a page shows. The results have them all.
_DOMAINS = 25
_VALUES = 25
_DAYS = 92

# The size of the chart of days, in its own units.
_WIDTH, _HEIGHT = 640, 140


def report(files: Sequence[Checked]) -> str:
    """Return the report as HTML."""
    templates = Environment(
        loader=PackageLoader("service", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["number"] = "{:,}".format
    templates.filters["percent"] = "{:.1%}".format
    return templates.get_template("report.html").render(
        files=[shown(each) for each in files], words=WORDS, results=RESULTS
    )


def shown(checked: Checked) -> dict[str, Any]:
    """Return what a report, or a page, shows of a file that was checked."""
    batch, summary = checked.batch, checked.summary
    rows = max(1, batch["rows"])
    unowned = [each for each in summary["domains"] if each["status"] == "none"]
    vendors = vendors_in(summary)
    return {
        "name": Path(checked.file).name if checked.output else "Standard input",
        "batch": batch,
        "as_of": datetime.fromisoformat(batch["as_of"]),
        "shares": [(name, batch["counts"][name], batch["counts"][name] / rows) for name in RESULTS],
        "unowned": unowned[:_DOMAINS],
        "more_unowned": max(0, len(unowned) - _DOMAINS),
        "most": max((each["rows"] for each in unowned), default=1),
        "vendors": None if vendors is None else vendors["name"],
        "by_vendor": [_shares(each) for each in (vendors["values"] if vendors else [])[:_VALUES]],
        "more_vendors": max(0, len(vendors["values"]) - _VALUES) if vendors else 0,
        "days": _days(summary["days"]),
    }


def _shares(each: dict[str, Any]) -> dict[str, Any]:
    rows = sum(each.get(name, 0) for name in RESULTS)
    return {
        "value": each["value"] or "–",
        "rows": rows,
        "shares": [(name, each.get(name, 0), each.get(name, 0) / rows) for name in RESULTS],
    }


def _days(days: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the columns of the chart of the last days, if there are at least two."""
    last = days[-_DAYS:]
    if len(last) < 2:
        return None
    most = max(sum(each.get(name, 0) for name in RESULTS) for each in last)
    step = _WIDTH / len(last)
    bars = []
    for number, each in enumerate(last):
        top = float(_HEIGHT)
        for name in RESULTS:
            height = each.get(name, 0) / most * _HEIGHT
            top -= height
            if height:
                bars.append(
                    (name, number * step, top, step * 0.85, height, each["day"], each[name])
                )
    return {
        "bars": bars,
        "first": last[0]["day"],
        "last": last[-1]["day"],
        "most": most,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left_out": len(days) - len(last),
    }
