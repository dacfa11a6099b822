"""Check a file from outside: upload it, wait for its answers, and download the results.

What is interrupted is continued: an upload is sent again under the same key, which makes no second
batch of it, and a download goes on where it ended.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import stamina
from msgspec import Struct
from uuid_utils.compat import uuid7

from service.processes.remote import ATTEMPTS, BUSY, Busy, Remote, refused

_BLOCK = 256 * 1024

# How many seconds between two looks at a batch.
_FIRST_LOOK, _LATER_LOOKS = 0.2, 1.0

_ENDINGS = (".gz", ".zst")

Progress = Callable[[str, int, int | None], None]
"""Told what is done, how much of it so far, and of how much; in bytes, or in rows if answering."""


class Begun(Struct):
    """A check that was begun: of which file, under which key, and as which batch once that is known."""

    sha256: str
    idempotency_key: str
    parameters: dict[str, str]
    batch_id: str | None = None


class Checked(Struct):
    """A file that was checked: its batch, where its results are, and what they sum up to."""

    file: str
    output: str | None
    batch: dict[str, Any]
    summary: dict[str, Any]


class Failed(click.ClickException):
    """A file that could not be checked as a whole."""

    exit_code = 2


def output_for(path: Path) -> Path:
    """Return where the results of a file go: beside it, and not compressed."""
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    plain = path.with_name(name)
    return plain.with_name(f"{plain.stem}.checked{plain.suffix}")


def check(
    remote: Remote,
    path: Path,
    name: str,
    output: Path,
    parameters: dict[str, str],
    progress: Progress,
    *,
    resume: bool,
) -> Checked:
    """Check a file and write its results. Raises `Failed`, or what `Remote` raises."""
    # Whether the key is right, before the file is sent.
    remote.get("/v1/account")
    kept = path.with_name(f".{path.name}.check.json")
    digest = _digest_of(path)
    begun = _begun_before(kept, digest) if resume else None
    if begun is None:
        begun = Begun(digest, str(uuid7()), {**parameters, "name": name})
        kept.write_bytes(msgspec.json.encode(begun))
    if begun.batch_id is None:
        begun.batch_id = _upload(remote, path, begun, progress)["id"]
        kept.write_bytes(msgspec.json.encode(begun))
    batch = _finished(remote, begun.batch_id, progress)
    if batch["state"] != "finished":
        kept.unlink(missing_ok=True)
        raise Failed(f"{path}: {_why(batch)}")
    _download(remote, begun.batch_id, output, progress)
    summary = remote.get(f"/v1/batches/{begun.batch_id}/summary")
    kept.unlink(missing_ok=True)
    return Checked(str(path), str(output), batch, summary)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _begun_before(kept: Path, digest: str) -> Begun | None:
    try:
        begun = msgspec.json.decode(kept.read_bytes(), type=Begun)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    if begun.sha256 != digest:
        raise Failed(f"{kept} is of another version of the file: check it without --resume")
    return begun


def _upload(remote: Remote, path: Path, begun: Begun, progress: Progress) -> Any:
    size = path.stat().st_size

    def blocks() -> Iterator[bytes]:
        sent = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
                sent += len(block)
                progress("Uploading", sent, size)

    for attempt in stamina.retry_context(
        on=(httpx.TransportError, Busy), attempts=ATTEMPTS, timeout=None, wait_max=10.0
    ):
        with attempt:
            response = remote.client.post(
                "/v1/batches",
                params=begun.parameters,
                content=blocks(),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Idempotency-Key": begun.idempotency_key,
                },
            )
            if response.status_code in BUSY:
                raise Busy(response)
    if response.is_error:
        raise Failed(f"{path}: {refused(response)}")
    return response.json()


def _finished(remote: Remote, batch_id: str, progress: Progress) -> dict[str, Any]:
    """Return a batch once it has ended."""
    wait = _FIRST_LOOK
    while True:
        batch: dict[str, Any] = remote.get(f"/v1/batches/{batch_id}")
        if batch["ended_at"] is not None:
            return batch
        told = "Reading" if batch["rows"] is None else "Answering"
        progress(told, sum(batch["counts"].values()), batch["rows"])
        time.sleep(wait)
        wait = min(_LATER_LOOKS, wait * 1.3)


def _why(batch: dict[str, Any]) -> str:
    error = batch["error"]
    if error is None:
        return f"the batch was {batch['state']}"
    row, column = error.get("row"), error.get("column")
    where = ", ".join(
        [f"row {row}"] * (row is not None) + [f"column “{column}”"] * (column is not None)
    )
    return f"{error['detail']} ({where})" if where else str(error["detail"])


def _download(remote: Remote, batch_id: str, output: Path, progress: Progress) -> None:
    """Write the results, going on after what is there already."""
    part = output.with_name(f".{output.name}.part")
    part.unlink(missing_ok=True)
    for attempt in stamina.retry_context(
        on=(httpx.TransportError, Busy), attempts=ATTEMPTS, timeout=None, wait_max=10.0
    ):
        with attempt, part.open("ab") as file:
            done = file.tell()
            with remote.client.stream(
                "GET",
                f"/v1/batches/{batch_id}/results",
                headers={"Range": f"bytes={done}-"} if done else {},
            ) as response:
                if response.status_code == 416:
                    break
                if response.status_code == 202 or response.is_error:
                    # What it says is told, and is not read by itself.
                    response.read()
                    if response.status_code in (202, *BUSY):
                        raise Busy(response)
                    raise refused(response)
                size = done + int(response.headers["Content-Length"])
                for block in response.iter_bytes(_BLOCK):
                    file.write(block)
                    done += len(block)
                    progress("Downloading", done, size)
    part.replace(output)
