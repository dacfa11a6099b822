"""A primary and two streaming replicas: real servers, each with its own data, on 127.0.0.1."""

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from service.postgres.embedded import _place
from service.postgres.place import Place
from tests.builders import until
from tests.running import free_port

DATABASE = "confirmed_owner"

# Test data need not survive a power cut. What a killed server has written, the kernel keeps.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "100ms",
}


@dataclass(eq=False)
class Server:
    """One of the servers, whatever its part is at the moment."""

    name: str
    place: Place
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres@{self.host}/{database}?sslmode=disable"

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = {**_SETTINGS, "port": str(self.port), "cluster_name": self.name}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.process = self.place.spawn("postgres", "-D", str(self.place.data), *settings)
        await until(self._answers, 60)

    def kill(self) -> None:
        """End all of its processes at once, as the loss of its machine does."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        main.suspend()
        for each in (*main.children(recursive=True), main):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(10)
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)
            self.process = None

    async def fetch(self, statement: str, *arguments: Any, database: str = DATABASE) -> list[Any]:
        """Query it, whatever its part is."""
        connection = await asyncpg.connect(self.url(database), timeout=10)
        try:
            return await connection.fetch(statement, *arguments, timeout=20)
        finally:
            await connection.close()

    async def set(self, **settings: str) -> None:
        """Change its settings."""
        for name, value in settings.items():
            await self.fetch(f"ALTER SYSTEM SET {name} = '{value}'")
        await self.fetch("SELECT pg_reload_conf()")

        async def is_set() -> bool:
            shown = [(await self.fetch(f"SHOW {name}"))[0][0] for name in settings]
            return shown == list(settings.values())

        await until(is_set)

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.place.log.read_text()
        with suppress(OSError, asyncpg.PostgresError):
            await self.fetch("SELECT 1", database="postgres")
            return True
        return False


@dataclass(eq=False)
class Cluster:
    """A primary, and the replicas that follow whichever server takes writes."""

    primary: Server
    replicas: list[Server]

    @property
    def servers(self) -> Sequence[Server]:
        """In the order of their names, which stays."""
        return sorted((self.primary, *self.replicas), key=lambda server: server.name)

    @property
    def url(self) -> str:
        """Of the database on whichever server takes writes."""
        hosts = ",".join(server.host for server in self.servers)
        return f"postgresql://postgres@{hosts}/{DATABASE}?sslmode=disable"

    async def wait_for(self, standbys: str) -> None:
        """Let commits wait for replicas, such as `FIRST 2 (two, three)`."""
        await self.primary.set(synchronous_standby_names=standbys)

    async def follow(self, server: Server) -> None:
        """Make a server that doesn't run a replica of the primary, and start it."""
        shutil.rmtree(server.place.data, ignore_errors=True)
        server.place.run(
            "pg_basebackup", "--pgdata", str(server.place.data), "--dbname",
            self.primary.url("postgres"), "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        others = [each for each in self.servers if each is not server]
        following = (
            f"host={','.join('127.0.0.1' for _ in others)} "
            f"port={','.join(str(each.port) for each in others)} "
            f"user=postgres application_name={server.name} target_session_attrs=read-write"
        )
        with (server.place.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{following}'\n")
        (server.place.data / "standby.signal").touch()
        await server.start()
        if server not in self.replicas:
            self.replicas.append(server)

    async def fail_over(self) -> Server:
        """Promote the replica that is ahead, after the primary was killed; return what that was."""
        received = {
            server: (await server.fetch("SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn"))[0][0]
            for server in self.replicas
        }
        lost, self.primary = self.primary, max(self.replicas, key=lambda each: received[each])
        self.replicas.remove(self.primary)
        await self.primary.fetch("SELECT pg_promote()")
        return lost


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Run a primary and two replicas, one that commits wait for by default."""
    one, two, three = (
        Server(name, _place(directory / name), free_port()) for name in ("one", "two", "three")
    )
    cluster = Cluster(one, [])
    try:
        one.place.run(
            "initdb", "--pgdata", str(one.place.data), "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync",
        )  # fmt: skip
        await one.start()
        await one.fetch(f"CREATE DATABASE {DATABASE}", database="postgres")
        for server in (two, three):
            await cluster.follow(server)
        yield cluster
    finally:
        for server in (one, two, three):
            server.stop()
