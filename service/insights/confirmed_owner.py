"""The decision: who owns the site a certificate comes from, as far as one viewer may know.

| the host has an owner           | relation to the viewer          | status, value            |
|---------------------------------|---------------------------------|--------------------------|
| no                              | –                               | none, the fixed text     |
| yes                             | the viewer itself               | named, the name          |
| yes                             | connected, and a grant is live  | named, the name          |
| yes                             | anything else                   | verified, the fixed text |
| no host (mobile, Meta, masked): the certificate's account is the owner | as above | as above |
| no host, and no account known   | –                               | not_applicable, null     |
| a web certificate whose site is not known | –                     | not_applicable, null     |

The owner of a host is the account that owns exactly that host. Otherwise it is the owner of the
nearest ancestor whose ownership covers subdomains, never above the registrable domain. A suspended
account owns nothing.

The table is implemented once, as the SQL functions `confirmed_owner` and `owner_of_host`
(sql/migrations/0015_as_of.sql). Every statement that names an owner joins them. Everything that
can change is read in one statement, in one snapshot taken after the call began. The answer is on
record once that statement has committed. None of it is ever cached.
"""

from collections.abc import Sequence

import structlog

from service.certificates.certificates import refresh_hosts
from service.errors import Unavailable
from service.insights import queries
from service.insights.queries import Answer, Question
from service.ownership.hostname import SUFFIX_LIST_VERSION
from service.postgres.migrations import is_migrated
from service.postgres.pools import Pool

_log = structlog.get_logger("service.insights")


async def confirmed_owner(pool: Pool, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions in order, and put each answer on record. Raises `Unavailable`.

    The verdict “outdated” remains if a certificate's host was found under another suffix list and
    could not be recomputed now.
    """
    async with pool.connection() as connection:
        answers = await queries.insert_answers(connection, questions, SUFFIX_LIST_VERSION)
    outdated = [i for i, answer in enumerate(answers) if answer.verdict == "outdated"]
    if outdated:
        try:
            async with pool.transaction() as connection:
                await refresh_hosts(connection, [questions[i].cert_id for i in outdated])
            async with pool.connection() as connection:
                again = await queries.insert_answers(
                    connection, [questions[i] for i in outdated], SUFFIX_LIST_VERSION
                )
            for i, answer in zip(outdated, again, strict=True):
                answers[i] = answer
        except Exception as error:  # noqa: BLE001 - the other answers are already on record
            _log.warning("hosts not updated", error=type(error).__qualname__)
    return answers


async def check_ready(pool: Pool) -> None:
    """Check that an answer could be put on record now. Raises `Unavailable`."""
    async with pool.connection() as connection:
        if not await is_migrated(connection):
            raise Unavailable("the database schema is out of date: run “confirmed-owner migrate”")
        await queries.rehearse_answer(connection)
