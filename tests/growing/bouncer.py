"""A real PgBouncer in transaction mode in front of a database server."""

import asyncio
import dataclasses
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from service.postgres.embedded import _place
from service.postgres.place import Place
from tests.builders import until
from tests.running import free_port

# Every transaction gets another one than the last.
SESSIONS = 4


@dataclass
class Bouncer:
    """A PgBouncer that can be stopped and started."""

    place: Place
    server_url: str
    settings: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the server's own database."""
        return self.url_of(self.server_url)

    def url_of(self, database_url: str) -> str:
        """The URL of a database on the server, by way of PgBouncer."""
        parts = urlsplit(database_url)
        return f"postgresql://{parts.username}@127.0.0.1:{self.port}{parts.path}?sslmode=disable"

    async def start(self) -> None:
        config = self.place.home / "pgbouncer.ini"
        config.write_text(self._config())
        config.chmod(0o644)
        self.process = self.place.spawn("pgbouncer", str(config))
        await until(self._listens)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def _config(self) -> str:
        parts = urlsplit(self.server_url)
        password = f" password={parts.password}" if parts.password else ""
        host = parse_qs(parts.query).get("host", [parts.hostname])[0]
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": str(SESSIONS),
            "min_pool_size": str(SESSIONS),
            "server_round_robin": "1",
            **self.settings,
        }
        lines = [
            "[databases]",
            f"* = host={host} port={parts.port or 5432} user={parts.username}{password}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
        return "\n".join(lines) + "\n"

    async def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.place.log.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def pgbouncer(server_url: str, directory: Path, **settings: str) -> AsyncIterator[Bouncer]:
    """Run it before a server, with these settings of its own."""
    place = dataclasses.replace(_place(directory), binaries=Path("/usr/sbin"))
    bouncer = Bouncer(place, server_url, settings)
    try:
        await bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()
