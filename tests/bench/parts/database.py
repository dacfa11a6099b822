"""The service's statement, as the service runs it, against pgbench running the same statement.

Both have as many batches of the same size in flight. pgbench sends the very text that the service
sends, in a session with the same settings, and with the same values. But since it can't make values up
for each batch, the server does: the ids of the answers, and which certificates are asked about. That
takes it 3 % of the statement's time.
"""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from service.postgres.pools import FOR_ANSWERS
from tests.bench.cluster import CERT_ID, Bench, Filled, program
from tests.bench.measuring import Figure, Turn, in_turns
from tests.bench.statement import BATCH, answered_for, batches, sent_for

_SECONDS = 3

# As PGOPTIONS has it.
SPACE = "\\ "

_ANSWER_IDS = f"(SELECT array_agg(uuidv7()) FROM generate_series(1, {BATCH}))"
_CERT_IDS = f"""(
    SELECT array_agg({CERT_ID}) FROM (
        SELECT random(1, {{certificates}}) AS n FROM generate_series(1, {BATCH})
    ) AS numbers
)"""


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    script = Script(filled, bench.directory / "pgbench.sql")
    rounds = in_turns(
        {
            "ours": partial(answered_for, filled, _SECONDS),
            "pgbench": partial(script.run, _SECONDS),
        }
    )
    case = f"batches of {BATCH}, {FOR_ANSWERS} at once"
    yield Figure(
        "database.ratio_to_pgbench",
        case,
        "rows decided and recorded, as a share of pgbench's",
        rounds.ratios("rate", "ours", "pgbench"),
        at_least=0.7,
    )
    yield Figure("database.rows_per_s", case, "rows", rounds.values("rate", "ours"), "/s")
    yield Figure(
        "database.postgres_cpu_us",
        case,
        "CPU of PostgreSQL for a row",
        rounds.values("postgres_us", "ours"),
        "µs",
    )
    yield Figure(
        "database.cpu_us",
        case,
        "CPU of sending and reading a row",
        rounds.values("server_us", "ours"),
        "µs",
    )


class Script:
    """What pgbench runs: what the service sends for a batch, in a session like its own."""

    def __init__(self, filled: Filled, path: Path) -> None:
        self._filled = filled
        self._path = path
        questions = next(batches(filled))
        sent = asyncio.run(sent_for(filled.url, questions))
        made_up = {
            _ANSWER_IDS: [question.answer_id for question in questions],
            _CERT_IDS.format(certificates=filled.certificates): [
                question.cert_id for question in questions
            ],
        }
        self._variables: dict[str, str] = {}
        expressions = []
        for number, (value, text) in enumerate(zip(sent.values, sent.texts, strict=True)):
            expression = next((sql for sql, values in made_up.items() if values == value), None)
            if expression is None:
                expression = f":value{number}"
                self._variables[f"value{number}"] = text
            expressions.append(expression)
        assert made_up.keys() <= set(expressions), "the statement takes ids in another way"
        script = re.sub(r"\$(\d+)", lambda place: expressions[int(place[1]) - 1], sent.statement)
        path.write_text(f"{script.strip()};\n")
        self._session = " ".join(
            f"-c {name}={value.replace(' ', SPACE)}" for name, value in sent.settings.items()
        )

    def run(self, seconds: int) -> Turn:
        """Run it for so long."""
        variables = [f"-D{name}={value}" for name, value in self._variables.items()]
        options = ["-n", "-Mprepared", f"-c{FOR_ANSWERS}", f"-T{seconds}", f"-f{self._path}"]
        postgres = self._filled.cpu_seconds()
        done = subprocess.run(
            [program("pgbench"), *options, *variables, self._filled.url],
            env={"PGOPTIONS": self._session},
            check=True,
            capture_output=True,
            text=True,
        )
        postgres = self._filled.cpu_seconds() - postgres
        (run,) = re.findall(r"transactions actually processed: (\d+)", done.stdout)
        (rate,) = re.findall(r"tps = ([\d.]+)", done.stdout)
        return Turn(int(run) * BATCH, int(run) / float(rate), 0.0, postgres)
