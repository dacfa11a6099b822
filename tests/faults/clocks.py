"""Clocks that can be set while processes run, by libfaketime; what measures waits goes on."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

# The wheel's is for x86-64. Elsewhere, it takes Debian's: `apt-get install libfaketime`.
_OF_WHEEL = "vendor/libfaketime/src/libfaketime.so.1"
_OF_DEBIAN = "usr/lib/*/faketime/libfaketime.so.1"


@dataclass(frozen=True)
class Clock:
    """The clock of all processes that are started with `env`. None may have threads."""

    file: Path

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: timedelta) -> None:
        """Let it be so far ahead of the true time."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead.total_seconds():+.0f}")
        # At once, because it is read all the time.
        new.rename(self.file)


def _library() -> Path:
    for of_debian in Path("/").glob(_OF_DEBIAN):
        return of_debian
    wheel = importlib.util.find_spec("libfaketime")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / _OF_WHEEL
