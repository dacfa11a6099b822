"""Whether answers can be explained by changes, as their clients saw both.

A register is what one viewer is told about one owner's domain. Its changes come one after the other:
each begins once the one before has been acknowledged. A change takes effect at some instant between
its begin and its end, and an answer tells what is so at some instant between its own. So a history is
right if the instants can be chosen so that each answer tells what the changes before its instant have
led to (the history is linearizable: Herlihy and Wing, 1990).

For a register whose changes are in order, that is quickly told. Number the states: 0 at first, and n
after the nth change. An answer can be about no state before that of the last change which ended before
the answer began, nor before the state of any answer which did; and about none whose change began after
the answer ended. Take the answers in the order in which they began, and give each the earliest state
that it may be about and that says the same. Since an answer limits later ones only from below, the
earliest state is always the best. If an answer has no such state, no choice of instants explains it.
If all have one, there are such instants: put changes and answers in the order of their states, each
change before the answers about its state, and those in the order in which they began. Then give each
the latest begin so far: nothing that comes before it began after it ended.

An answer depends on much: who owns the domain, and whether that account is suspended, what it is
called, and whether it shows its name. Each state is all of that together, so an answer with the name
of one state and the permission of another is about no state.

A change whose outcome is unknown is made again until it is acknowledged. Its begin is the first try's,
its end the last one's, and it may take effect at any instant in between, once. That holds because
nobody gives up a try before the service has ended it, so none is left behind, and because a try waits
for the locks of any whose commit is still under way. What was never acknowledged has no end: it may
take effect at any instant after its begin, or never, but not be taken back.
"""

import heapq
import math
from collections.abc import Sequence

import msgspec

# When a change was acknowledged that never was.
NEVER = math.inf


class Change(msgspec.Struct, frozen=True):
    """When a change was sent and acknowledged (or never), in seconds, and what is told after it."""

    began: float
    ended: float
    told: str | None


class Answer(msgspec.Struct, frozen=True):
    """When a question was sent and answered, in seconds, and what the answer told."""

    began: float
    ended: float
    told: str | None


class Violation(msgspec.Struct, frozen=True):
    """An answer that nothing explains, and what it could have told."""

    answer: Answer
    possible: Sequence[str | None]


def violations(
    first: str | None, changes: Sequence[Change], answers: Sequence[Answer]
) -> list[Violation]:
    """Return the answers of a register that nothing explains. `first` is what is told at first."""
    states = [first, *(change.told for change in changes)]
    found: list[Violation] = []
    # What has ended, and how many changes its end implies.
    ending = [(change.ended, number) for number, change in enumerate(changes, 1)]
    heapq.heapify(ending)
    least = 0
    for answer in sorted(answers, key=lambda each: each.began):
        while ending and ending[0][0] < answer.began:
            least = max(least, heapq.heappop(ending)[1])
        most = least
        while most < len(changes) and changes[most].began < answer.ended:
            most += 1
        possible = states[least : most + 1]
        if answer.told in possible:
            heapq.heappush(ending, (answer.ended, least + possible.index(answer.told)))
        else:
            found.append(Violation(answer, possible))
    return found
