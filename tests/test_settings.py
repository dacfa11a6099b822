"""Settings: defaults, and what is said of a wrong one."""

from pathlib import Path

import pytest

from service.errors import InvalidInput
from service.settings import load_settings


def test_defaults_serve_on_this_machine_alone() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.database_url is None
    assert settings.state_dir == Path("var").absolute()


def test_empty_variable_counts_as_unset() -> None:
    given = dict.fromkeys(
        (
            "DATABASE_URL",
            "FACTS_RETENTION_DAYS",
            "HOST",
            "PORT",
            "PUBLIC_URL",
            "STATE_DIR",
            "TRUSTEDFORM_API_KEY",
            "TRUSTEDFORM_URL",
            "WORKERS",
        ),
        "",
    )
    assert load_settings(given) == load_settings({})


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"HOST": "::1", "PORT": "80"}, "http://[::1]:80"),
        ({"PUBLIC_URL": "https://owner.example/"}, "https://owner.example"),
    ],
)
def test_public_url(given: dict[str, str], url: str) -> None:
    assert load_settings(given).public_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "٨"),
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("PUBLIC_URL", "owner.example"),
        ("PUBLIC_URL", "ftp://owner.example"),
        ("PORT", "1" * 5000),
        ("PUBLIC_URL", "http://[x"),
        ("DATABASE_URL", "mysql://host/db"),
        ("DATABASE_URL", "postgresql://[x/db"),
        ("DATABASE_URL", "postgresql://host:port/db"),
        ("LOG_FORMAT", "xml"),
        ("FACTS_RETENTION_DAYS", "0"),
        ("FACTS_RETENTION_DAYS", "a week"),
        ("TRUSTEDFORM_URL", "http://cert.trustedform.com"),
        ("TRUSTEDFORM_URL", "https://user:secret@cert.trustedform.com"),
        ("TRUSTEDFORM_URL", "cert.trustedform.com"),
        ("TRUSTEDFORM_API_KEY", "a\nb"),
        ("TRUSTEDFORM_API_KEY", "ключ"),
    ],
)
def test_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be "):
        load_settings({name: value})


def test_password_in_a_wrong_database_url_is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as raised:
        load_settings({"DATABASE_URL": "postgres+x://user:secret@host/db"})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://cert.trustedform.com"),
        ({"TRUSTEDFORM_URL": "https://vendor.example/v4/"}, "https://vendor.example/v4"),
        ({"TRUSTEDFORM_URL": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000"),
    ],
)
def test_vendor_is_behind_the_service_with_a_key(given: dict[str, str], url: str) -> None:
    assert load_settings(given).trustedform is None
    settings = load_settings({**given, "TRUSTEDFORM_API_KEY": "key"})
    assert settings.trustedform is not None
    assert (settings.trustedform.api_key, settings.trustedform.url) == ("key", url)


def test_wrong_key_or_password_for_the_vendor_is_not_repeated() -> None:
    for given in (
        {"TRUSTEDFORM_API_KEY": "secret\t"},
        {"TRUSTEDFORM_URL": "https://user:secret@vendor.example"},
    ):
        with pytest.raises(InvalidInput) as raised:
            load_settings(given)
        assert "secret" not in str(raised.value)
