"""Fixtures: what keeps tests of HTTP from asking anyone else."""

from typing import Any, cast

import pytest

from tests.builders import World


@pytest.fixture
def without_dns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service has no DNS resolvers, so that verifying a domain fails at once."""
    monkeypatch.setattr(cast("Any", world.client)._transport.app.state, "resolvers", ())
