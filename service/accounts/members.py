"""The users of an account: admins, who may change anything about it, and members, who may not."""

from collections.abc import Sequence
from uuid import UUID

from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts import queries
from service.accounts.names import checked_person_name
from service.accounts.records import Member, Role, Topic, User
from service.audit import Actor
from service.errors import Conflict, Forbidden, InvalidInput, LimitReached, NotFound
from service.mail.mails import queue_mail
from service.postgres.pools import Connection

NOTICES_A_DAY = 10

_WITH_ARTICLE: dict[Role, str] = {"admin": "an admin", "member": "a member"}

members_of = queries.select_members
memberships_of = queries.select_memberships
belongs_anywhere = queries.belongs_anywhere
is_member = queries.has_member
find_user = queries.select_user


async def add_member(
    connection: Connection, account_id: UUID, user_id: UUID, role: Role, actor: Actor
) -> None:
    """Add a user to an account. An existing member keeps its role. Needs a transaction."""
    if await queries.insert_membership(connection, account_id, user_id, role):
        await audit.record(
            connection, "member.added", account_id, actor=actor, user_id=user_id, role=role
        )


async def change_role(
    connection: Connection, account_id: UUID, user_id: UUID, role: Role, actor: Actor
) -> Member:
    """Change a member's role, and tell the member by email. Needs a transaction.

    Raises `NotFound`, or `Conflict` if the account would be left without an admin.
    """
    member = await _member(connection, account_id, user_id, stays_admin=role == "admin")
    if member.role == role:
        return member
    await queries.update_member_role(connection, account_id, user_id, role)
    await audit.record(
        connection, "member.role_changed", account_id, actor=actor, email=member.email, role=role
    )
    await _tell(
        connection,
        account_id,
        member,
        "role_changed",
        role=_WITH_ARTICLE[role],
        formerly=_WITH_ARTICLE[member.role],
    )
    return Member(member.user_id, member.email, member.name, role, member.since)


async def remove_member(
    connection: Connection, account_id: UUID, user_id: UUID, actor: Actor
) -> None:
    """Remove a user from an account, right away, and tell the user. Needs a transaction.

    Raises `NotFound`, or `Conflict` if the account would be left without an admin.
    """
    member = await _member(connection, account_id, user_id, stays_admin=False)
    await queries.delete_membership(connection, account_id, user_id)
    await audit.record(
        connection, "member.removed", account_id, actor=actor, email=member.email, role=member.role
    )
    await _tell(connection, account_id, member, "removed")


async def leave(connection: Connection, account_id: UUID, user: User) -> None:
    """End a user's own membership of an account. Needs a transaction.

    Raises `NotFound`, or `Conflict` if the account would be left without an admin.
    """
    member = await _member(connection, account_id, user.id, stays_admin=False)
    await queries.delete_membership(connection, account_id, user.id)
    actor = Actor("user", account_id, user.id)
    await audit.record(
        connection, "member.left", account_id, actor=actor, email=member.email, role=member.role
    )


async def choose_speaker(connection: Connection, user: User, account_id: UUID | None) -> None:
    """Let the keys of one of a user's accounts answer invitations to the user, or none of several.

    Needs a transaction. Raises `NotFound` if the user doesn't belong to the account.
    """
    former = await queries.lock_answers_by(connection, user.id)
    if former == account_id:
        return
    if not await queries.update_answers_by(connection, user.id, account_id):
        raise NotFound("account", str(account_id))
    for each, action in ((former, "member.answers_alone"), (account_id, "member.answered_for")):
        if each is not None:
            await audit.record(
                connection, action, each, actor=Actor("user", each, user.id), email=user.email
            )


async def account_of_admin(connection: Connection, user: User, account_id: str) -> UUID:
    """Return the parsed id of an account that the user is an admin of.

    The role can't change until the transaction ends. Raises `InvalidInput` or `Forbidden`.
    """
    parsed, role = await _role_in(connection, user, account_id)
    if role != "admin":
        raise Forbidden("only an admin of the account can do this")
    return parsed


async def account_of_member(connection: Connection, user: User, account_id: str) -> UUID:
    """Return the parsed id of an account that the user belongs to.

    That can't change until the transaction ends. Raises `InvalidInput` or `Forbidden`.
    """
    parsed, role = await _role_in(connection, user, account_id)
    if role is None:
        raise Forbidden("only a member of the account can do this")
    return parsed


async def _role_in(connection: Connection, user: User, account_id: str) -> tuple[UUID, Role | None]:
    try:
        parsed = UUID(account_id)
    except ValueError:
        raise InvalidInput("account_id", account_id, "the id of an account") from None
    return parsed, await queries.lock_role(connection, parsed, user.id)


async def mute(
    connection: Connection, account_id: UUID, user: User, topics: Sequence[Topic]
) -> None:
    """Send a user no emails of an account about these topics. Raises `NotFound`."""
    if not await queries.update_muted(connection, account_id, user.id, topics):
        raise NotFound("account", str(account_id))


async def named_user(connection: Connection, user: User | None, email: str, name: str) -> User:
    """Name the signed-in user, or create a user with that address and name. Needs a transaction.

    Returns the user. Raises `InvalidInput`, or `Forbidden` if nobody is signed in and the address
    already has a user.
    """
    name = checked_person_name(name)
    if user is not None:
        await queries.update_user_name(connection, user.id, name)
        return User(user.id, user.email, name)
    added = await queries.insert_user(connection, uuid7(), email, name)
    if added is None:
        raise Forbidden("this address already has an account: sign in to accept")
    return added


async def mail_admins(
    connection: Connection, account_id: UUID, kind: str, about: object, **params: object
) -> None:
    """Email each admin of an account about a partner, an address, or a domain. Needs a transaction.

    Admins who muted the topic get nothing, and nobody gets more than the daily limit per kind and
    `about`: repeated acts of a partner are in the events anyway.
    """
    try:
        await allowance.take(connection, f"notice {kind}", f"{account_id} {about}", NOTICES_A_DAY)
    except LimitReached:
        return
    own = await queries.select_account_name(connection, account_id)
    topic: Topic = "domains" if kind.startswith("domain_") else "connections"
    for email in await queries.select_admin_emails(connection, account_id, topic):
        await queue_mail(connection, kind, email, params={"own": own, **params})


async def _tell(
    connection: Connection, account_id: UUID, member: Member, kind: str, **params: object
) -> None:
    try:
        await allowance.take(
            connection, f"notice {kind}", f"{account_id} {member.user_id}", NOTICES_A_DAY
        )
    except LimitReached:
        return
    own = await queries.select_account_name(connection, account_id)
    await queue_mail(connection, kind, member.email, params={"own": own, **params})


async def _member(
    connection: Connection, account_id: UUID, user_id: UUID, *, stays_admin: bool
) -> Member:
    """Return a member to change, and lock the account's memberships until the transaction ends.

    Raises `NotFound`, or `Conflict` if the account would be left without an admin.
    """
    await queries.lock_members(connection, account_id)
    members = await queries.select_members(connection, account_id)
    member = next((each for each in members if each.user_id == user_id), None)
    if member is None:
        raise NotFound("member", str(user_id))
    admins = [each for each in members if each.role == "admin"]
    if not stays_admin and admins == [member]:
        raise Conflict("this is the only admin; make another member an admin first")
    return member
