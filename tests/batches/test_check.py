"""`confirmed-owner check`: one line asks about every row of a file."""

import csv
import json
import os
import re
from pathlib import Path

import pytest

from service.batches.checking import Begun, output_for
from service.demo import demo, leads
from tests.batches.cutting import cutting
from tests.running import as_json, confirmed_owner, invoked, running

TOLD = ["confirmed_owner", "status", "domain", "expired", "error", "answer_id"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leads.csv", "leads.checked.csv"),
        ("leads.csv.gz", "leads.checked.csv"),
        ("leads.2026.xlsx", "leads.2026.checked.xlsx"),
        ("leads", "leads.checked"),
        (".leads", ".leads.checked"),
    ],
)
def test_results_are_beside_the_file_and_never_in_its_place(name: str, expected: str) -> None:
    assert output_for(Path("a") / name) == Path("a") / expected


def test_demo_leads_are_checked_as_the_readme_tells(env: dict[str, str], tmp_path: Path) -> None:
    """Also if connections are cut off, from a pipe, and with the statuses that pipelines need."""
    key = as_json("demo", env=env)["accounts"][demo.HARBOR]["api_key"]
    file = Path(env["STATE_DIR"]) / leads.FILE
    with file.open(newline="") as opened:
        before = list(csv.reader(opened))
    assert len(before) == leads.ROWS + 1
    with (
        running(env, tmp_path / "log") as service,
        # Uploads are about 600 KB, and results about 1.2 MB.
        cutting(service.port, 200_000, 300_000) as network,
    ):
        asks = {**env, "CONFIRMED_OWNER_API_KEY": key, "CONFIRMED_OWNER_URL": network.url}
        report = tmp_path / "report.html"
        done = invoked("check", str(file), "--html", str(report), env=asks)
        assert "Named" in done.stderr
        assert network.cuts == []
        with file.with_name("demo-leads.checked.csv").open(newline="") as opened:
            after = list(csv.reader(opened))
        assert [row[:6] for row in after] == before
        assert after[0][6:] == TOLD
        assert sorted(path.name for path in file.parent.glob("*leads*")) == [
            "demo-leads.checked.csv",
            "demo-leads.csv",
        ]
        page = report.read_text()
        assert "demo-leads.csv" in page
        assert not re.search(r"(src|href)=|url\(|@import|<script", page)
        asks["CONFIRMED_OWNER_URL"] = service.url
        some = file.read_bytes().splitlines(keepends=True)[:4]
        small = tmp_path / "small.csv"
        small.write_bytes(b"".join(some))
        (told,) = as_json("check", str(small), "--fail-on", "error,none", env=asks, expect=1)
        assert sum(told["batch"]["counts"].values()) == 3
        # A pipe gets the results, and nothing else.
        piped = confirmed_owner("check", "-", env=asks, stdin=b"".join(some))
        assert piped.stdout.count(b"\r\n") == 4
        assert piped.stdout.startswith(b"lead_id,")
        bad, absent = tmp_path / "bad.csv", tmp_path / "absent.csv"
        bad.write_bytes(some[0] + b'"L-1,x')
        failed = invoked("check", str(bad), str(absent), str(small), env=asks, expect=2)
        assert "a quote is not closed" in failed.stderr
        assert "(row 1)" in failed.stderr
        assert "there is no such file" in failed.stderr
        unknown = invoked(
            "check", str(small), env={**asks, "CONFIRMED_OWNER_API_KEY": "no key"}, expect=1
        )
        assert "the API key is unknown" in unknown.stderr
        past = invoked("check", str(small), "--as-of", "2001-01-01", env=asks, expect=2)
        assert "as_of must be" in past.stderr
        # After Ctrl-C, the batch goes on, and only its results are fetched.
        (again,) = as_json("check", str(small), env=asks)
        kept = small.with_name(f".{small.name}.check.json")
        begun = Begun(again["batch"]["upload_sha256"], "k", {}, again["batch"]["id"])
        kept.write_text(
            json.dumps({name: getattr(begun, name) for name in Begun.__struct_fields__})
        )
        (resumed,) = as_json("check", str(small), "--resume", env=asks)
        assert resumed["batch"]["id"] == again["batch"]["id"]
        assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check"], "Missing argument"),
        (["check", "x.csv", "--fail-on", "nobody"], "“nobody” is none of named"),
        (["check", "x.csv", "--as-of", "yesterday"], "“yesterday” is no time"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], expected: str, tmp_path: Path) -> None:
    env = {**os.environ, "STATE_DIR": str(tmp_path), "CONFIRMED_OWNER_API_KEY": "k"}
    assert expected in invoked(*arguments, env=env, expect=2).stderr


def test_key_has_to_be_given(tmp_path: Path) -> None:
    env = {**os.environ, "STATE_DIR": str(tmp_path), "CONFIRMED_OWNER_API_KEY": ""}
    told = invoked("check", "x.csv", env=env, expect=1).stderr
    assert "CONFIRMED_OWNER_API_KEY" in told
