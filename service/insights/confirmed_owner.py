"""The decision: who owns the site a certificate comes from, as far as one viewer may know.

| ownership covering the domain             | relation to the viewer         | status, value          |
|-------------------------------------------|--------------------------------|------------------------|
| none                                      | –                              | none, the fixed text   |
| yes                                       | the viewer owns it             | named, the name        |
| yes                                       | connected, and a grant is live | named, the name        |
| yes                                       | anything else                  | verified, the fixed text |
| no domain (mobile, Meta, masked): the certificate's own account plays the owner | as above | as above |
| no domain, and no account known           | –                              | not_applicable, null   |
| a web certificate whose site is not known | –                              | not_applicable, null   |

Covering is an ownership of exactly the host, else of its nearest ancestor whose coverage includes
subdomains, never above the registrable domain. An owner whose account is suspended owns nothing.

Everything that can change is read in one statement, in one snapshot taken after the call began,
and the answer is on record when that statement has committed. Nothing of it is ever cached.
"""

from collections.abc import Sequence

import structlog

from service.accounts.names import NO_VERIFIED_ACCOUNT, VERIFIED_ACCOUNT
from service.database import Pool
from service.insights import queries
from service.insights.certificates import refresh_hosts
from service.insights.queries import Answer, Question
from service.ownership.hostname import SUFFIX_LIST_VERSION

_log = structlog.get_logger("service.insights")


async def confirmed_owner(pool: Pool, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions, in order, and put each answer on record. Raises `Unavailable`.

    The verdict “outdated” is left where a certificate's host was found under another suffix list, and
    could not be found anew now.
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
        except Exception as error:  # noqa: BLE001 - the other answers are on record, and stay so
            _log.warning("hosts not found anew", error=type(error).__qualname__)
    return answers


def value_of(answer: Answer) -> str | None:
    """The value of `confirmed_owner` that an answer stands for."""
    match answer.status:
        case "named":
            return answer.owner_name
        case "verified":
            return VERIFIED_ACCOUNT
        case "none":
            return NO_VERIFIED_ACCOUNT
        case _:
            return None
