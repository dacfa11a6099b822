"""Pages show what is for the visitor, and act only on a form of ours that the right person sent.

The routes of the application say which pages and forms there are. The same form that is refused
from elsewhere, or from others, has to work for the person it is for.
"""

import inspect
import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from service.accounts import keys, members, sign_in
from service.accounts.sign_in import LinkRequest
from service.app import create_app
from service.connections import grants
from service.invitations.acceptance import terms_of
from service.ownership import claims
from service.tokens import form_token, link_token, new_token
from tests.answers.logs import seal_all
from tests.batches.parts import answered, upload
from tests.builders import SECRET, World, basic, by, link_of, member_of
from tests.conftest import SETTINGS
from tests.surfer import ORIGIN, sign_in_link

# Pages that don't ask who is there.
FOR_EVERYONE = {
    "/favicon.ico": "an image",
    "/names/check": "it tells the rules, not who has an account",
    "/robots.txt": "for crawlers",
    "/static/{file_path:path}": "styles and images",
    "/guides": "published with the code",
    "/guides/{name:str}": "published with the code",
    "/schema": "the API document, published with the code",
    "/schema/{path:str}": "what answers that there is no such document",
    "/schema/openapi.json": "the API document, published with the code",
    "/schema/openapi.yaml": "the API document, published with the code",
    "/schema/oauth2-redirect.html": "a part of Swagger UI that is not used",
    "/schema/static/{file_path:path}": "Swagger UI",
    "/styleguide": "the components of pages, with made-up texts",
    "/metrics": "for the operator's monitoring; it names nobody",
}

# Pages and forms that work in any browser, whoever is signed in.
IN_ANY_BROWSER = {
    "/sign-in": "anyone may ask for a link to be mailed",
    "/sign-in/{token:str}": "whoever reads the mail has the link",
    "/": "to whoever isn't signed in, it says what this is",
    "/sign-out": "signing out is for oneself",
    "/invitations/{token:str}": "it says that the invitation is for someone else",
}

# Forms that other sites may send.
FROM_ANYWHERE = {
    "/invitations/{token:str}/unsubscribe": "mail programs send it (RFC 8058); the link must do",
}

NOT_ADMINS = ("member", "stranger", "suspended")

# Forms that create something for the account they name, and so are about nothing of another.
CREATE = ("create", "invite", "preview", "send", "rename", None)


@dataclass(frozen=True)
class Form:
    """A form that works for a person. Words in braces are values of the stage."""

    route: str
    path: str
    fields: dict[str, str] = field(default_factory=dict)
    person: str = "owner"
    changes: bool = True
    is_for_members: bool = False
    file: bytes | None = None

    @property
    def name(self) -> str:
        return f"{self.path} {self.fields.get('do', '')}".strip()

    @property
    def is_for_an_account(self) -> bool:
        # What people do about their own belonging is for them, whatever their role.
        own = self.is_by_link or self.route in ("/memberships", "/account")
        return "account_id" in self.fields and not own

    @property
    def is_by_link(self) -> bool:
        return "{token:str}" in self.route


def for_account(route: str, path: str, do: str, *, changes: bool = True, **fields: str) -> Form:
    return Form(route, path, {"account_id": "{account}", "do": do, **fields}, changes=changes)


_CONNECTION = "/connections/{connection_id:uuid}"
_INVITATION = "/invitations/{token:str}"
_DOMAIN = "/domains/{name:str}"
_MEMBERS = "/settings/members"
_ANSWER = "/answers/{answer_id:uuid}"
_FILE = "/check/{batch_id:uuid}"

FORMS = [
    Form("/sign-in", "/sign-in", {"email": "{email}"}, "visitor"),
    Form("/sign-in/{token:str}", "{sign_in}", person="visitor"),
    Form("/sign-out", "/sign-out"),
    for_account("/keys", "/keys", "create", name="Lead intake"),
    for_account("/keys", "/keys", "revoke", key_id="{key_id}"),
    Form("/memberships", "/memberships", {"account_id": "{account}", "do": "leave"}, "member"),
    Form("/memberships", "/memberships", {"account_id": "{account}", "do": "choose"}, "member"),
    for_account("/memberships", "/memberships", "answer_myself"),
    for_account("/memberships", "/memberships", "notify", domains="yes"),
    for_account("/settings", "/settings", "rename", name="Renamed company"),
    Form("/domains", "/domains", {"account_id": "{account}", "names": "new.example b.example"}),
    for_account(_DOMAIN, "/domains/owner.example", "verify"),
    for_account(_DOMAIN, "/domains/owner.example", "cover"),
    for_account(_DOMAIN, "/domains/owner.example", "remove"),
    for_account(
        "/connections/invite",
        "/connections/invite",
        "preview",
        changes=False,
        emails="new@seller.example",
        reason="receive_leads",
    ),
    for_account(
        "/connections/invite",
        "/connections/invite",
        "send",
        emails="new@seller.example",
        reason="receive_leads",
    ),
    for_account("/connections/pending", "/connections/pending", "resend", invitation_id="{sent}"),
    for_account("/connections/pending", "/connections/pending", "cancel", invitation_id="{sent}"),
    for_account(_MEMBERS, _MEMBERS, "invite", email="new@owner.example", role="member"),
    for_account(_MEMBERS, _MEMBERS, "resend", invitation_id="{joining}"),
    for_account(_MEMBERS, _MEMBERS, "cancel", invitation_id="{joining}"),
    for_account(_MEMBERS, _MEMBERS, "make_admin", user_id="{member_id}"),
    for_account(_MEMBERS, _MEMBERS, "make_member", user_id="{admin_id}"),
    for_account(_MEMBERS, _MEMBERS, "remove", user_id="{member_id}"),
    Form("/account", "/account", {"account_id": "{account}"}, changes=False),
    Form(
        "/check",
        "/check",
        {"account_id": "{account}", "items": "owner.example"},
        "member",
        is_for_members=True,
    ),
    Form(
        "/check/files",
        "/check/files",
        {"account_id": "{account}"},
        "member",
        is_for_members=True,
        file=b"site\nowner.example\n",
    ),
    Form(
        _FILE,
        "/check/{file}",
        {"account_id": "{account}", "do": "prepare", "format": "parquet"},
        "member",
        is_for_members=True,
    ),
    Form(
        _FILE,
        "/check/{reading}",
        {"account_id": "{account}", "do": "cancel"},
        "member",
        is_for_members=True,
    ),
    for_account(_FILE, "/check/{file}", "delete"),
    Form("/receipts", "/receipts", {"receipt": "{receipt}"}, changes=False),
    for_account(_CONNECTION, "/connections/{asking}", "show"),
    for_account(_CONNECTION, "/connections/{asking}", "decline"),
    for_account(_CONNECTION, "/connections/{shown}", "hide"),
    for_account(_CONNECTION, "/connections/{shown}", "disconnect"),
    for_account(_CONNECTION, "/connections/{shown}", "ask"),
    for_account(_CONNECTION, "/connections/{asking}", "withdraw"),
    Form("/opt-outs", "/opt-outs", {"inviter": "{unwanted}"}),
    Form("/opt-outs/{token:str}", "/opt-outs/{opt_out}", person="visitor"),
    Form(
        f"{_INVITATION}/accept",
        "{invitation}/accept",
        {"account_id": "{account}", "terms": "{terms}", "shows_name": "yes"},
    ),
    Form(f"{_INVITATION}/decline", "{invitation}/decline", person="visitor"),
    Form(f"{_INVITATION}/stop", "{invitation}/stop", {"scope": "all"}, "visitor"),
    Form(
        f"{_INVITATION}/unsubscribe",
        "{invitation}/unsubscribe",
        {"List-Unsubscribe": "One-Click"},
        "visitor",
    ),
    Form(f"{_INVITATION}/sign-in", "{invitation}/sign-in", person="visitor"),
]

PAGES = {
    "/sign-in": "/sign-in",
    "/sign-in/{token:str}": "{sign_in}",
    "/keys": "/keys",
    "/memberships": "/memberships",
    "/domains": "/domains",
    _DOMAIN: "/domains/owner.example",
    "/connections": "/connections",
    "/connections/pending": "/connections/pending",
    "/connections/ended": "/connections/ended",
    "/connections/invite": "/connections/invite",
    "/settings": "/settings",
    _MEMBERS: _MEMBERS,
    "/activity": "/activity",
    "/activity/download": "/activity/download",
    "/answers": "/answers",
    "/answers/download": "/answers/download",
    _ANSWER: "/answers/{answer}",
    f"{_ANSWER}/receipt": "/answers/{answer}/receipt",
    "/receipts": "/receipts",
    "/check": "/check",
    _FILE: "/check/{file}",
    f"{_FILE}/results": "/check/{file}/results",
    f"{_FILE}/report": "/check/{file}/report",
    "/": "/",
    _CONNECTION: "/connections/{shown}",
    "/opt-outs": "/opt-outs",
    "/opt-outs/{token:str}": "/opt-outs/{opt_out}",
    _INVITATION: "{invitation}",
    f"{_INVITATION}/unsubscribe": "{invitation}/unsubscribe",
}
OF_AN_ACCOUNT = (
    _CONNECTION,
    _DOMAIN,
    _ANSWER,
    f"{_ANSWER}/receipt",
    _FILE,
    f"{_FILE}/results",
    f"{_FILE}/report",
)
NEED_A_SESSION = [
    each for each in PAGES if "{token:str}" not in each and each not in ("/sign-in", "/")
]

CROSS_SITE = [
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://service.evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://service", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://service:8080", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.service", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Referer": f"{ORIGIN}/keys"},
]


def handlers(app: Litestar, method: str) -> dict[str, Any]:
    """The handlers of routes that aren't in the API document, by path."""
    return {
        route.path: handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if method in handler.http_methods and not handler.resolve_include_in_schema()
    }


def test_every_page_and_form_has_an_example() -> None:
    app = create_app("postgresql://", SETTINGS)
    pages, forms = handlers(app, "GET"), handlers(app, "POST")
    asking = {
        path for path, each in pages.items() if "visitor" in each.parsed_fn_signature.parameters
    }
    assert asking == set(PAGES)
    assert pages.keys() - asking == set(FOR_EVERYONE)
    assert forms.keys() == {form.route for form in FORMS}
    for method in ("PUT", "PATCH", "DELETE"):
        assert not handlers(app, method)
    for path, handler in forms.items():
        actions = set(re.findall(r'case "(\w+)":', inspect.getsource(handler.fn)))
        assert actions == {
            form.fields["do"] for form in FORMS if form.route == path and "do" in form.fields
        }
    assert set(IN_ANY_BROWSER) | set(FROM_ANYWHERE) <= pages.keys() | forms.keys()


@dataclass(frozen=True)
class Stage:
    """An account that has one of everything, and browsers of different people."""

    world: World
    sessions: dict[str, str]
    values: dict[str, str]
    secrets: tuple[str, ...]

    async def open(self, route: str, headers: dict[str, str]) -> httpx.Response:
        self.world.client.cookies.clear()
        return await self.world.client.get(PAGES[route].format_map(self.values), headers=headers)

    async def send(
        self, form: Form, who: str, *, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """Send a form that was made for a person's browser, by default from our page."""
        token = form_token(SECRET.encode(), self.sessions[who])
        values = {name: text.format_map(self.values) for name, text in form.fields.items()}
        return await self.world.client.post(
            form.path.format_map(self.values),
            data={**values, "form_token": token, **fields},
            files=None if form.file is None else {"file": ("leads.csv", form.file)},
            headers={**self.cookie(who), **({"Origin": ORIGIN} if headers is None else headers)},
        )

    def cookie(self, who: str) -> dict[str, str]:
        return {"Cookie": f"session={self.sessions[who]}"}


@pytest.fixture
async def stage(world: World, without_dns: None) -> Stage:
    owner, inviter, unwanted = [await world.company() for _ in range(3)]
    buyer, asking = await world.company(), await world.company()
    stranger, suspended = await world.company(), await world.company()
    await world.permit(owner, buyer)
    await world.connect(asking, owner)
    await world.opt_out(await world.invite(unwanted, owner.email), of_all=False)
    invitation = await world.invite(inviter, owner.email)
    await member_of(world, owner, "member@owner.example")
    await member_of(world, owner, "admin@owner.example", "admin")
    sent = await world.invite(owner, "seller@else.example")
    joining = await world.invite(owner, "colleague@owner.example", "join_account")
    cert_id = await world.certificate(domain="owner.example")
    await world.confirmed_owner(owner, cert_id)
    await world.fetch("UPDATE answer SET answered_at = answered_at - interval '1 hour'")
    await seal_all(world)
    (answer,) = await world.fetch("SELECT id FROM answer")
    told = await world.client.get(f"/v1/answers/{answer['id']}", headers=owner.headers)
    file = await answered(world, owner, b"site\nowner.example\n", name="Owner's leads.csv")
    reading = await upload(world, owner, b"site\nowner.example\n")
    people = {
        row["email"]: row["id"] for row in await world.fetch("SELECT id, email FROM app_user")
    }
    await world.suspend(suspended)
    async with world.database.general.transaction() as connection:
        await claims.add(connection, owner.id, "owner.example", by(owner), covers_subdomains=True)
        await grants.request_grant(
            connection, owner_id=owner.id, viewer_id=asking.id, actor=by(asking)
        )
        await grants.request_grant(
            connection, owner_id=asking.id, viewer_id=owner.id, actor=by(owner)
        )
        key_id, _ = await keys.create_key(connection, owner.id, name="Owner's key")
        user = await members.find_user(connection, owner.email)
        assert user is not None
        await members.choose_speaker(connection, user, owner.id)
        await sign_in.send_link(connection, SECRET.encode(), LinkRequest(owner.email))
    sessions = {
        "owner": await world.session(owner.email),
        "member": await world.session("member@owner.example"),
        "stranger": await world.session(stranger.email),
        "suspended": await world.session(suspended.email),
        "visitor": new_token(),
        "signed out": await world.session(owner.email),
        "key": owner.key,
    }
    (confirmation,) = await world.fetch("SELECT id FROM mail WHERE kind = 'opted_out'")
    connections = {
        row["buyer_id"]: str(row["id"])
        for row in await world.fetch("SELECT id, buyer_id FROM connection")
    }
    values = {
        "account": str(owner.id),
        "email": owner.email,
        "key_id": str(key_id),
        "shown": connections[buyer.id],
        "asking": connections[asking.id],
        "unwanted": str(unwanted.id),
        "invitation": link_of(invitation),
        "terms": terms_of(invitation),
        "opt_out": link_token(SECRET.encode(), confirmation["id"]),
        "sign_in": await sign_in_link(world, owner.email),
        "suspended": str(suspended.id),
        "stranger": str(stranger.id),
        "sent": str(sent.id),
        "joining": str(joining.id),
        "answer": str(answer["id"]),
        "file": file["id"],
        "reading": reading.json()["id"],
        "receipt": json.dumps(told.json()["receipt"]),
        "member_id": str(people["member@owner.example"]),
        "admin_id": str(people["admin@owner.example"]),
    }
    secrets = (
        owner.name,
        buyer.name,
        asking.name,
        unwanted.name,
        "owner.example",
        "Owner's key",
        "Owner's leads",
    )
    stage = Stage(world, sessions, values, secrets)
    await stage.send(Form("/sign-out", "/sign-out"), "signed out")
    return stage


def leads_to_sign_in(response: httpx.Response) -> bool:
    return response.status_code == 303 and response.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_form_acts_only_from_our_page_and_for_the_right_person(
    stage: Stage, form: Form
) -> None:
    before = await stage.world.contents()
    if form.route not in FROM_ANYWHERE:
        await refused_from_elsewhere(stage, form)
    if form.is_by_link and form.route not in IN_ANY_BROWSER:
        await refused_to_others_with_the_link(stage, form)
    if not form.is_by_link and form.route not in IN_ANY_BROWSER:
        await refused_without_a_session(stage, form)
    if form.is_for_an_account:
        await refused_to_others(stage, form)
    assert await stage.world.contents() == before
    response = await stage.send(form, form.person)
    assert response.status_code in (200, 303), response.text
    assert (await stage.world.contents() != before) is form.changes


async def refused_from_elsewhere(stage: Stage, form: Form) -> None:
    """With the right cookie, and even the right token."""
    for headers in CROSS_SITE:
        response = await stage.send(form, form.person, headers=headers)
        assert response.status_code == 403, headers
    others = form_token(SECRET.encode(), stage.sessions["stranger"])
    for token in ("", "x", others, stage.sessions[form.person]):
        response = await stage.send(form, form.person, form_token=token)
        assert response.status_code == 403, token


async def refused_to_others_with_the_link(stage: Stage, form: Form) -> None:
    """Who is signed in as someone else has come by the link of another."""
    # The form for accepting is shown again, with the reason.
    status = 409 if form.route.endswith("/accept") else 403
    for who in ("member", "stranger", "suspended"):
        assert (await stage.send(form, who)).status_code == status, who


async def refused_without_a_session(stage: Stage, form: Form) -> None:
    """An API key is no session, wherever it is."""
    for who in ("visitor", "signed out", "key"):
        assert leads_to_sign_in(await stage.send(form, who)), who
    key = {**basic(stage.sessions["key"]), "Origin": ORIGIN}
    assert leads_to_sign_in(await stage.send(form, "visitor", headers=key))
    await stage.send(form, "stranger")


async def refused_to_others(stage: Stage, form: Form) -> None:
    """Others may neither name the account, nor name their own and what is the account's."""
    for who in ("stranger", "suspended") if form.is_for_members else NOT_ADMINS:
        assert (await stage.send(form, who)).status_code == 403, who
    response = await stage.send(form, "suspended", account_id=stage.values["suspended"])
    assert response.status_code == 403
    if form.fields.get("do") not in CREATE:
        response = await stage.send(form, "stranger", account_id=stage.values["stranger"])
        assert response.status_code in (404, 422)


async def test_link_alone_accepts_nothing_for_an_address_that_has_a_user(stage: Stage) -> None:
    before = await stage.world.contents()
    (form,) = [form for form in FORMS if form.route.endswith("/accept")]
    for who in ("visitor", "signed out"):
        response = await stage.send(form, who, company="Evil Leads", your_name="Mallory")
        assert response.status_code == 409
    after = await stage.world.contents()
    # Attempts are counted.
    assert {table for table in before if before[table] != after[table]} <= {"allowance"}


@pytest.mark.parametrize("route", PAGES)
async def test_page_shows_only_what_is_for_the_visitor_and_changes_nothing(
    stage: Stage, route: str
) -> None:
    before = await stage.world.contents()
    key = basic(stage.sessions["key"])
    for headers in (
        {},
        key,
        stage.cookie("visitor") | key,
        *map(stage.cookie, ("visitor", "signed out", "key")),
    ):
        response = await stage.open(route, headers)
        assert leads_to_sign_in(response) is (route in NEED_A_SESSION)
    assert (await stage.open(route, stage.cookie("owner"))).status_code in (200, 303)
    for who in ("stranger", "suspended"):
        response = await stage.open(route, stage.cookie(who))
        if route in OF_AN_ACCOUNT:
            assert response.status_code == 404
        elif route not in (*NEED_A_SESSION, *IN_ANY_BROWSER):
            assert response.status_code == 403
        told = [secret for secret in stage.secrets if secret not in PAGES[route]]
        assert not [secret for secret in told if secret in response.text]
    if route == "/keys":
        assert stage.values["key_id"] in (await stage.open(route, stage.cookie("owner"))).text
        assert stage.values["key_id"] not in (await stage.open(route, stage.cookie("member"))).text
    assert await stage.world.contents() == before


async def test_mail_program_opts_out_from_anywhere_but_not_for_someone_else(stage: Stage) -> None:
    (form,) = [form for form in FORMS if form.route in FROM_ANYWHERE]
    before = await stage.world.contents()
    for headers in CROSS_SITE:
        response = await stage.send(form, "stranger", headers=headers, form_token="")
        assert response.status_code == 403
    assert await stage.world.contents() == before
    response = await stage.send(form, "visitor", headers=CROSS_SITE[0], form_token="")
    assert response.status_code == 200
    assert await stage.world.contents() != before
