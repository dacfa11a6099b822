"""Settings: defaults, and errors for invalid values."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.errors import InvalidInput
from service.mail.transport import message
from service.settings import DnsServer, Smtp, load_settings, mail_domain
from service.tokens import load_secret


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
            "DNS_RESOLVERS",
            "FACTS_RETENTION_DAYS",
            "HOST",
            "MAIL_FROM",
            "POOLER_URL",
            "PORT",
            "PUBLIC_URL",
            "SECRET_KEY",
            "SMTP_URL",
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
        ("DATABASE_URL", "postgresql://one:5432,two:port/db"),
        ("DATABASE_URL", "postgresql:/db"),
        # Jobs and migrations need the database itself.
        ("POOLER_URL", "postgresql://host/db"),
        ("LOG_FORMAT", "xml"),
        ("FACTS_RETENTION_DAYS", "0"),
        ("FACTS_RETENTION_DAYS", "a week"),
        ("TRUSTEDFORM_URL", "http://cert.trustedform.com"),
        ("TRUSTEDFORM_URL", "https://user:secret@cert.trustedform.com"),
        ("TRUSTEDFORM_URL", "cert.trustedform.com"),
        ("TRUSTEDFORM_API_KEY", "a\nb"),
        ("TRUSTEDFORM_API_KEY", "ключ"),
        ("PUBLIC_URL", "https://owner.example/below"),
        ("DNS_RESOLVERS", "dns.example"),
        ("DNS_RESOLVERS", "192.0.2.1,"),
        ("DNS_RESOLVERS", "192.0.2.1:port"),
        ("DNS_RESOLVERS", "192.0.2.1/24"),
        ("SECRET_KEY", "short"),
        ("SMTP_URL", "mail.example"),
        ("SMTP_URL", "http://mail.example"),
        ("SMTP_URL", "smtp://mail.example"),
        ("SMTP_URL", "smtp://user:secret@mail.example"),
        ("SMTP_URL", "smtps://mail.example/?starttls=no"),
        ("SMTP_URL", "smtps://mail.example:port"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "Us <us@owner.example>\nBcc: x@evil.example"),
        ("MAIL_FROM", "Us <us@>"),
        ("MAIL_FROM", "üs@owner.example"),
        ("MAIL_FROM", "a@owner.example, b@owner.example"),
    ],
)
def test_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be "):
        load_settings({name: value})


@pytest.mark.parametrize("name", ["DATABASE_URL", "POOLER_URL"])
def test_password_in_a_wrong_database_url_is_not_repeated(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        load_settings({name: "postgres+x://user:secret@host/db"})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///db?host=/run/postgresql",
        "postgres://user:p%40ss@[::1]:5433/db?sslmode=require",
        "postgresql://user@one:5432,two:5433,three/db?target_session_attrs=read-write",
    ],
)
def test_database_has_any_number_of_hosts(url: str) -> None:
    settings = load_settings({"DATABASE_URL": url, "POOLER_URL": url})
    assert (settings.database_url, settings.pooler_url) == (url, url)


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


@pytest.mark.parametrize(
    ("url", "smtp"),
    [
        ("smtp://127.0.0.1", Smtp("127.0.0.1", 25, "none")),
        ("smtp://localhost:2525/", Smtp("localhost", 2525, "none")),
        ("smtp+starttls://mail.example", Smtp("mail.example", 587, "starttls")),
        (
            "smtps://us%40owner.example:p%3Aw@mail.example",
            Smtp("mail.example", 465, "tls", "us@owner.example", "p:w"),
        ),
    ],
)
def test_mail_server(url: str, smtp: Smtp) -> None:
    assert load_settings({"SMTP_URL": url}).smtp == smtp


@pytest.mark.parametrize(
    ("given", "sender"),
    [
        ({}, "confirmed-owner <confirmed-owner@[127.0.0.1]>"),
        ({"HOST": "::1"}, "confirmed-owner <confirmed-owner@[IPv6:::1]>"),
        (
            {"PUBLIC_URL": "https://owner.example"},
            "confirmed-owner <confirmed-owner@owner.example>",
        ),
        ({"MAIL_FROM": "Us <us@owner.example>"}, "Us <us@owner.example>"),
        ({"MAIL_FROM": "us@owner.example"}, "us@owner.example"),
        ({"MAIL_FROM": "Us <us@bücher.example>"}, "Us <us@xn--bcher-kva.example>"),
        ({"MAIL_FROM": "Müller <us@owner.example>"}, "Müller <us@owner.example>"),
    ],
)
def test_sender_of_mails(given: dict[str, str], sender: str) -> None:
    assert load_settings(given).mail_from == sender


@pytest.mark.parametrize(
    "sender", ["us@owner.example", "Us <us@[127.0.0.1]>", "Üs <us@[IPv6:::1]>"]
)
def test_every_sender_makes_a_mail(sender: str) -> None:
    mail = message(
        sender=sender,
        recipient="jo@seller.example",
        subject="s",
        message_id="<1@owner.example>",
        date=datetime(2026, 1, 1, tzinfo=UTC),
        headers={},
        text="t",
        html="h",
    )
    assert mail["From"].addresses[0].username == "us"


def test_secret_is_made_once_and_for_nobody_else_to_read(tmp_path: Path) -> None:
    made = load_secret(None, tmp_path / "state")
    assert len(made) >= 32
    assert load_secret(None, tmp_path / "state") == made
    assert load_secret(None, tmp_path / "other") != made
    (file,) = (tmp_path / "state").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert load_secret("configured", tmp_path / "state") == b"configured"


def test_password_of_the_mail_server_and_secret_are_not_repeated() -> None:
    for given in (
        {"SMTP_URL": "smtp://user:secret@mail.example"},
        {"SECRET_KEY": "secret"},
    ):
        with pytest.raises(InvalidInput) as raised:
            load_settings(given)
        assert "secret" not in str(raised.value)


def test_resolvers_are_addresses_with_or_without_a_port() -> None:
    text = "192.0.2.1, 192.0.2.2:5353,2001:db8::1,[2001:db8::2]:5353, 192.0.2.1"
    assert load_settings({"DNS_RESOLVERS": text}).dns_resolvers == (
        DnsServer("192.0.2.1"),
        DnsServer("192.0.2.2", 5353),
        DnsServer("2001:db8::1"),
        DnsServer("2001:db8::2", 5353),
    )
    assert str(DnsServer("2001:db8::1")) == "[2001:db8::1]:53"


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("mail.example", "mail.example"),
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
    ],
)
def test_host_is_written_as_smtp_takes_it(host: str, domain: str) -> None:
    assert mail_domain(host) == domain
