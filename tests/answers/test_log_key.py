"""The key that signs the log is the configured one, or is made once and kept from others."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import InvalidInput
from service.tokens import load_log_signing_key


def test_configured_key_is_written_nowhere(state_dir: Path) -> None:
    assert load_log_signing_key(bytes(32), state_dir) == bytes(32)
    assert not state_dir.exists()


def test_key_is_made_once_and_only_its_owner_can_read_it(state_dir: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: load_log_signing_key(None, state_dir), range(8)))
    (key,) = keys
    assert len(key) == 32
    (file,) = state_dir.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(f"{key.hex().upper()}\n")
    assert load_log_signing_key(None, state_dir) == key


@pytest.mark.parametrize("content", [b"", b"\n", b"00", b"zz" * 32, b"\xff" * 64, b"0" * 63])
def test_file_that_is_no_key_is_told_of_and_kept(state_dir: Path, content: bytes) -> None:
    state_dir.mkdir()
    file = state_dir / "log_signing_key"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="LOG_SIGNING_KEY"):
        load_log_signing_key(None, state_dir)
    assert file.read_bytes() == content
