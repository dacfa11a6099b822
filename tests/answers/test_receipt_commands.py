"""Receipts and the log are checked by commands, whose exit status tells whether all is well."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import respx
from click.testing import Result

from service.answers.checkpoints import Signer
from tests.answers.logs import KEY, ORIGIN, OTHER_SEED, checkpoint, receipt, record, seal_all
from tests.builders import World
from tests.running import as_json, invoked

OTHER_KEY = Signer(ORIGIN, OTHER_SEED).key


@pytest.fixture
async def file(world: World, tmp_path: Path) -> Path:
    """A receipt, as the command prints it."""
    (answer_id,) = await record(world, 1)
    await record(world, 4)
    await seal_all(world)
    kept = msgspec.to_builtins(await receipt(world, answer_id))
    path = tmp_path / "receipt.json"
    path.write_bytes(msgspec.json.encode({**kept, "keys": [str(KEY)]}))
    return path


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """The environment of someone who has no database, and no service."""
    return {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "STATE_DIR": str(tmp_path / "nothing"),
        "CONFIRMED_OWNER_API_KEY": "",
    }


def verify(file: Path, env: dict[str, str], *options: str, expect: int = 0) -> Any:
    return invoked("receipt", "verify", str(file), *options, env=env, expect=expect)


def test_receipt_is_verified_offline(file: Path, offline: dict[str, str]) -> None:
    done = verify(file, offline)
    assert done.stdout.startswith("Valid: answer ")
    assert "confirmed owner: Acme" in done.stdout
    assert "  leads.example/answers, of 5 answers" in done.stdout
    assert "The key was taken from the receipt." in done.stdout
    done = verify(file, offline, "--key", str(OTHER_KEY), "--key", str(KEY))
    assert "The key was taken" not in done.stdout
    told = as_json("receipt", "verify", str(file), "--key", str(KEY), env=offline)
    assert told["valid"] is True
    assert told["statement"]["confirmed_owner"] == "Acme"


def test_receipt_of_another_log_is_refused(file: Path, offline: dict[str, str]) -> None:
    done = verify(file, offline, "--key", str(OTHER_KEY), expect=1)
    assert "no key that is known here has signed it" in done.stderr
    for wrong in ("", "nonsense", "é+é+é", str(KEY)[:-2]):
        assert "key must be" in verify(file, offline, "--key", wrong, expect=1).stderr


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"a receipt", b'{"statement": 5}', b"[" * 200_000,
        b'{"statement": ' + b"[" * 200_000, b'{"statement": "\\ud800"}', b'{"keys": {}}',
        b'{"more": ' + b"[" * 200_000, b" " * 2_000_000,
    ],
    ids=map(str, range(13)),
)  # fmt: skip
def test_file_that_is_no_receipt_is_refused_in_one_line(
    tmp_path: Path, offline: dict[str, str], content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = verify(path, offline, expect=1)
    assert done.stderr.startswith("Error: this isn't a receipt")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_file_that_was_cut_off_or_changed_anywhere_is_refused(
    file: Path, offline: dict[str, str]
) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        assert verify(file, offline, expect=1).stderr.startswith("Error: ")
    content = msgspec.json.decode(whole)
    changes: list[dict[str, Any]] = [
        {"statement": content["statement"].replace("Acme", "Acmé")},
        {"nonce": "00" * 16},
        {"leaf_index": 4 - content["leaf_index"] if content["leaf_index"] != 2 else 1},
        {"tree_size": 6},
        {"path": []},
        {"keys": []},
        {"keys": ["é"]},
        {"keys": [str(OTHER_KEY)]},
        {"checkpoint": content["checkpoint"].replace("\n5\n", "\n6\n")},
        {"checkpoint": content["checkpoint"].replace("— ", "— é")},
    ]
    for change in changes:
        file.write_bytes(msgspec.json.encode({**content, **change}))
        done = verify(file, offline, "--json", expect=1)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
    assert invoked("receipt", "verify", "/no/file", env=offline, expect=2).stdout == ""


async def test_name_can_not_pass_for_other_lines(
    world: World, tmp_path: Path, offline: dict[str, str]
) -> None:
    (answer_id,) = await record(world, 1)
    await world.fetch("UPDATE answer SET owner_name = $1", "A\n  status: none\x1b[2J")
    await seal_all(world)
    path = tmp_path / "receipt.json"
    path.write_bytes(msgspec.json.encode(await receipt(world, answer_id)))
    done = verify(path, offline, "--key", str(KEY))
    assert "  status: none" not in done.stdout.splitlines()
    assert "\x1b" not in done.stdout


def test_receipt_is_of_an_answer_by_its_id(offline: dict[str, str]) -> None:
    for wrong in ("", "1", "../log/key", "?x=1"):
        done = invoked("receipt", wrong, env=offline, expect=2)
        assert "not a valid UUID" in done.stderr
    done = invoked("receipt", str(uuid4()), env=offline, expect=1)
    assert "CONFIRMED_OWNER_API_KEY" in done.stderr


async def test_receipt_is_fetched_from_the_service_once_it_is_sealed(
    world: World, offline: dict[str, str], tmp_path: Path
) -> None:
    viewer = await world.company()
    await world.confirmed_owner(viewer, await world.certificate(domain="seller.example"))
    (row,) = await world.fetch(
        "UPDATE answer SET answered_at = now() - interval '1 hour' RETURNING id"
    )
    env = {**offline, "CONFIRMED_OWNER_API_KEY": viewer.key, "CONFIRMED_OWNER_URL": "http://app"}

    async def fetched(expect: int) -> Result:
        """What the command prints if the service answers as it does now."""
        with respx.mock(base_url="http://app", assert_all_called=False) as app:
            for path in (f"/v1/answers/{row['id']}", "/v1/log/key"):
                response = await world.client.get(path, headers=viewer.headers)
                app.get(path).respond(response.status_code, content=response.content)
            return invoked("receipt", str(row["id"]), env=env, expect=expect)

    assert "not sealed yet" in (await fetched(1)).stderr
    await seal_all(world)
    path = tmp_path / "receipt"
    path.write_text((await fetched(0)).stdout)
    told = as_json("receipt", "verify", str(path), "--key", str(KEY), env=offline)
    assert told["statement"]["answer_id"] == str(row["id"])
    await world.fetch("DELETE FROM answer")
    assert "not found" in (await fetched(1)).stderr


@pytest.fixture
def operator(migrated_url: str, tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": migrated_url, "STATE_DIR": str(tmp_path / "state")}


@pytest.mark.usefixtures("world")
def test_log_without_answers_verifies(operator: dict[str, str]) -> None:
    nothing = {"answers": 0, "dropped": 0, "differences": []}
    assert as_json("audit", "verify", env=operator) == nothing


async def test_whole_log_is_verified(
    world: World, operator: dict[str, str], tmp_path: Path
) -> None:
    ids = await record(world, 3)
    await seal_all(world)
    kept, binary = tmp_path / "checkpoint", tmp_path / "binary"
    kept.write_text(await checkpoint(world))
    binary.write_bytes(b"\xff\xfe\0")
    options = ("audit", "verify", "--key", str(KEY), "--checkpoint", str(kept))
    assert as_json(*options, env=operator) == {"answers": 3, "dropped": 0, "differences": []}
    told = invoked("audit", "verify", env=operator).stdout
    assert told.startswith("All 3 answers")
    assert "The key was taken from the database" in told
    wrong = ("--checkpoint", str(binary), "--key", str(OTHER_KEY))
    assert as_json("audit", "verify", *wrong, env=operator, expect=1)["differences"]
    await world.fetch("UPDATE answer SET cert_id = 'b' WHERE id = $1", ids[0])
    told = invoked(*options, env=operator, expect=1).stdout
    assert told.startswith(f"answer {ids[0]} was changed")
    assert len(told.splitlines()) == 1


async def test_only_the_first_differences_are_listed(
    world: World, operator: dict[str, str]
) -> None:
    await record(world, 150)
    await seal_all(world)
    await world.fetch("DELETE FROM answer")
    assert len(as_json("audit", "verify", env=operator, expect=1)["differences"]) == 100
