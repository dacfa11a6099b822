"""The operator's commands, run as the operator would."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec

from service.demo import demo
from service.postgres.pools import connect
from tests.builders import NO_VERIFIED, VERIFIED, basic, web_id
from tests.running import COMMAND, as_json, confirmed_owner, environment, invoked, running


def test_from_nothing_to_a_named_owner_by_commands_alone(
    env: dict[str, str], tmp_path: Path
) -> None:
    seller = as_json("account", "create", "Acme, Inc.", "--email", "jo@acme.example", env=env)
    buyer = as_json("account", "create", "Buyer, LLC", "--email", "al@buyer.example", env=env)
    assert seller["name"] == "Acme, Inc."
    seller_key = as_json("key", "create", "Acme, Inc.", env=env)
    buyer_key = as_json("key", "create", buyer["id"], env=env)
    owned = as_json(
        "domain", "attest", "Acme, Inc.", "WWW.acme.example.", "--covers-subdomains", env=env
    )
    assert (owned["domain"], owned["covers_subdomains"]) == ("acme.example", True)
    cert_id = web_id()
    line = json.dumps(
        {"cert_id": cert_id, "insights": {"properties": {"domain": "shop.acme.example"}}}
    )
    imported = as_json("import", "-", env=env, stdin=line.encode())
    assert (imported["created"], imported["failed"]) == (1, 0)

    with running(env, tmp_path / "log") as service:

        def told(key: str) -> tuple[int, str | None]:
            response = httpx.post(
                f"{service.url}/{cert_id}",
                headers=basic(key),
                json={"insights": {"properties": ["confirmed_owner"]}},
            )
            body = response.json()
            return response.status_code, body.get("insights", {}).get("properties", {}).get(
                "confirmed_owner"
            )

        assert told(seller_key["api_key"]) == (200, "Acme, Inc.")
        assert told(buyer_key["api_key"]) == (200, VERIFIED)
        # Another process makes a change, and the next call shows it.
        as_json("account", "suspend", "Acme, Inc.", env=env)
        assert told(seller_key["api_key"]) == (402, None)
        assert told(buyer_key["api_key"]) == (200, NO_VERIFIED)
        as_json("account", "reinstate", seller["id"], env=env)
        assert told(seller_key["api_key"]) == (200, "Acme, Inc.")
        as_json("key", "revoke", seller_key["key_id"], env=env)
        assert told(seller_key["api_key"]) == (401, None)
    log = (tmp_path / "log").read_text()
    assert seller_key["api_key"] not in log
    assert buyer_key["api_key"] not in log


def test_operator_sets_and_sees_what_an_account_may_use(env: dict[str, str]) -> None:
    as_json("account", "create", "Acme", "--email", "jo@acme.example", env=env)
    shown = as_json("account", "limit", "Acme", env=env)
    assert shown["limits"]["calls"] == 256
    assert shown["used"] == {"certificates": 0, "certificate_bytes": 0, "purchases": 0}
    changed = as_json("account", "limit", "Acme", "--calls", "8", "--purchases", "0", env=env)
    assert (changed["limits"]["calls"], changed["limits"]["purchases"]) == (8, 0)
    changed = as_json("account", "limit", "Acme", "--calls", "default", env=env)
    assert (changed["limits"]["calls"], changed["limits"]["purchases"]) == (256, 0)
    sentence = invoked("account", "limit", "Acme", "--certificates", "5000", env=env).stdout
    assert "0 of 5,000 certificates" in sentence
    for wrong in ("0", "-1", "many", "1e9", "9" * 30):
        refused = invoked("account", "limit", "Acme", "--calls", wrong, env=env, expect=2)
        assert "a whole number from 1, or “default”" in refused.stderr


def test_slips_are_told_of_in_one_line_and_change_nothing(
    env: dict[str, str], tmp_path: Path
) -> None:
    as_json("account", "create", "Acme, Inc.", "--email", "jo@acme.example", env=env)
    for arguments, words in (
        (("account", "create", "ACME, Inc.", "--email", "nobody"), "email must be"),
        (
            ("account", "create", "Αcme, Inc.", "--email", "a@b.example"),
            "clearly different from every other",
        ),
        (
            ("account", "create", "ActiveProspect Verified Account", "--email", "a@b.example"),
            "unlike the vendor",
        ),
        (("account", "suspend", "Nobody"), "account “Nobody” not found"),
        (("account", "reinstate", "Acme, Inc."), "not suspended"),
        (("key", "create", "Nobody"), "account “Nobody” not found"),
        (("key", "revoke", "123"), "key id must be"),
        (("key", "revoke", "00000000-0000-0000-0000-000000000000"), "not found"),
        (("domain", "attest", "Acme, Inc.", "co.uk"), "below a public suffix"),
        (("domain", "attest", "Acme, Inc.", "https://acme.example/"), "only the host name"),
        (("domain", "attest", "Acme, Inc.", "github.io", "--covers-subdomains"), "without its"),
    ):
        message = invoked(*arguments, env=env, expect=1).stderr
        assert message.startswith("Error: ")
        assert words in message
        assert "Traceback" not in message
    demo = invoked("demo", env=env, expect=1)
    assert "this database is in use" in demo.stderr


def test_import_goes_on_after_bad_lines_and_says_which(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "certificates.ndjson"
    lines = [f'{{"cert_id": "{web_id()}", "page_text": "x"}}' for _ in range(2)]
    file.write_text(f"{lines[0]}\nnonsense\n\n{lines[1]}\r\n")
    done = confirmed_owner("import", str(file), env=env, expect=1)
    assert done.stderr.decode() == "line 2: line must be a JSON object, not “nonsense”\n"
    assert done.stdout.decode() == "3 lines, 2 created, 0 updated, 0 unchanged, 1 failed\n"
    again = as_json("import", str(file), env=env, expect=1)
    assert again == {
        "lines": 3,
        "created": 0,
        "updated": 0,
        "unchanged": 2,
        "failed": 1,
        "errors": [
            {
                "line": 2,
                "error": {"field": "line", "value": "nonsense", "reason": "must be a JSON object"},
            }
        ],
        "errors_left_out": 0,
    }
    file.write_text("")
    assert as_json("import", str(file), env=env)["lines"] == 0
    file.write_text("cert_id,domain\na,b\n" * 5000)
    done = confirmed_owner("import", str(file), env=env, expect=1)
    assert b"looks like CSV" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_interrupted_import_says_how_much_is_imported(env: dict[str, str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    importing = subprocess.Popen(
        [*COMMAND, "import", str(pipe)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with pipe.open("w") as lines:
        for _ in range(2500):
            lines.write(f'{{"cert_id": "{web_id()}", "page_text": "x"}}\n')
        lines.flush()
        # The first 2,000 are committed while it waits for more.
        time.sleep(3)
        importing.send_signal(signal.SIGINT)
        out, _ = importing.communicate(timeout=20)
    assert importing.returncode == 130
    assert out.decode().startswith("2,000 lines, 2,000 created, 0 updated, 0 unchanged, 0 failed")
    assert "run it again" in out.decode()


def test_wrong_setting_and_unreachable_database_are_told_of_in_one_line(tmp_path: Path) -> None:
    for settings, words in (
        ({"PORT": "x"}, "PORT must be a whole number"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "can't connect to the database"),
        ({"STATE_DIR": "/proc/nowhere"}, "/proc/nowhere"),
        ({"HOST": "192.0.2.1"}, "192.0.2.1 port 8000 (HOST, PORT)"),
        ({"HOST": "nowhere.invalid"}, "nowhere.invalid port 8000 (HOST, PORT)"),
    ):
        env = {**environment(tmp_path / "state"), **settings}
        failed = confirmed_owner("run", env=env, expect=1)
        message = failed.stderr.decode()
        assert words in message
        assert "Traceback" not in message
    odd = confirmed_owner(
        "account", "suspend", "\udcff", env=environment(tmp_path / "state"), expect=1
    )
    assert odd.stderr.decode() == "Error: an argument is not valid UTF-8\n"


def test_demo_is_not_opened_to_other_machines_while_its_keys_work(env: dict[str, str]) -> None:
    exposed = {**env, "HOST": "0.0.0.0"}  # noqa: S104 - refused before anything listens
    refused = "Error: with HOST=0.0.0.0, other machines could use the demo's API keys"
    assert invoked("demo", env=exposed, expect=1).stderr.startswith(refused)
    as_json("demo", env=env)
    # In a process of its own: it changes how a process logs and counts.
    assert confirmed_owner("run", env=exposed, expect=1).stderr.decode().startswith(refused)
    assert invoked("demo", env=exposed, expect=1).stderr.startswith(refused)

    async def has_active_keys() -> bool:
        async with connect(env["DATABASE_URL"]) as connection:
            return await demo.has_active_keys(connection)

    active = as_json("key", "list", env=env)
    assert len(active) > 1
    for number, key in enumerate(active):
        assert asyncio.run(has_active_keys()), number
        as_json("account", "suspend", key["account"], env=env)
        assert asyncio.run(has_active_keys()), number
        as_json("key", "revoke", key["id"], env=env)
    assert not asyncio.run(has_active_keys())


def test_what_a_first_start_makes_is_closed_to_others_and_open_urls_are_warned_of(
    state_dir: Path, tmp_path: Path
) -> None:
    env = environment(state_dir, PUBLIC_URL="http://owner.example")
    with running(env, tmp_path / "log"):
        made = [state_dir, *state_dir.iterdir()]
        assert {path.stat().st_mode & 0o077 for path in made} == {0}
    assert "PUBLIC_URL is not https" in (tmp_path / "log").read_text()


def test_port_that_is_taken_is_not_shared(tmp_path: Path) -> None:
    with running(environment(tmp_path / "state"), tmp_path / "log") as service:
        port = service.url.rpartition(":")[2]
        env = environment(tmp_path / "other", PORT=port)
        failed = confirmed_owner("run", env=env, expect=1)
        assert f"port {port} (HOST, PORT): Address already in use" in failed.stderr.decode()


def test_help_needs_no_setting(tmp_path: Path) -> None:
    env = environment(tmp_path / "state", PORT="nonsense")
    for arguments in (["--help"], ["--version"]):
        assert confirmed_owner(*arguments, env=env).stdout
    assert not (tmp_path / "state").exists()


def test_demo_tells_what_the_service_answers(env: dict[str, str], tmp_path: Path) -> None:
    first = as_json("demo", env=env)
    second = as_json("demo", env=env)
    assert first == second
    shown = invoked("demo", env=env).stdout
    with (
        running(env, tmp_path / "log") as service,
        httpx.Client(base_url=service.url) as client,
    ):
        for certificate in first["certificates"]:
            assert f"/{certificate['cert_id']} " in shown
            for name, account in first["accounts"].items():
                response = client.post(
                    f"/{certificate['cert_id']}",
                    headers=basic(account["api_key"]),
                    json={"insights": {"properties": ["confirmed_owner"]}},
                )
                assert response.status_code == certificate["http_status"]
                if response.status_code == 200:
                    told = response.json()["insights"]["properties"]["confirmed_owner"]
                    assert told == certificate["expect"][name], (certificate["shows"], name)
    told = {value for each in first["certificates"] for value in each["expect"].values()}
    sellers = {name for name, each in first["accounts"].items() if each["role"] == "seller"}
    assert told == {None, VERIFIED, NO_VERIFIED, *sellers}
    assert {certificate["kind"] for certificate in first["certificates"]} == {
        "web",
        "mobile",
        "meta",
    }


def test_import_keeps_its_memory_however_long_the_file(env: dict[str, str], tmp_path: Path) -> None:
    peaks = []
    for lines in (5_000, 20_000):
        file = tmp_path / f"{lines}.ndjson"
        with file.open("w") as out:
            for _ in range(lines):
                facts = {"properties": {"domain": "shop.example.com", "ip": "192.0.2.1"}}
                out.write(json.dumps({"cert_id": web_id(), "insights": facts}) + "\n")
        command = ["import", str(file), "--json"]
        measured = (
            "import resource, sys; from service.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", measured, *command], env=env, capture_output=True, check=True
        )
        assert msgspec.json.decode(done.stdout)["created"] == lines
        peaks.append(int(done.stderr))
    assert peaks[1] < peaks[0] * 1.2


def test_operator_lists_accounts_keys_and_domains(env: dict[str, str]) -> None:
    long_name = "A very long company name that no table should cut off in the middle of it, Inc."
    for name, email in ((long_name, "long@list.example"), ("List Two", "two@list.example")):
        as_json("account", "create", name, "--email", email, env=env)
    as_json("account", "rename", "List Two", "List Renamed", env=env)
    as_json("key", "create", "List Renamed", "--name", "Intake", env=env)
    as_json("domain", "attest", "List Renamed", "list.example", env=env)
    accounts = confirmed_owner("account", "list", env=env).stdout.decode()
    assert long_name in accounts
    assert "two@list.example" in accounts
    (key,) = as_json("key", "list", "List Renamed", env=env)
    assert (key["name"], key["last_used_at"]) == ("Intake", None)
    assert as_json("key", "list", long_name, env=env) == []
    assert b"There are no active keys." in confirmed_owner("key", "list", long_name, env=env).stdout
    domains = [row["domain"] for row in as_json("domain", "list", env=env)]
    assert "list.example" in domains
    assert confirmed_owner("-h", env=env).stdout == confirmed_owner("--help", env=env).stdout
    assert b"Usage" in confirmed_owner("account", "list", "-h", env=env).stdout
