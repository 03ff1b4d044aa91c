"""PostgreSQL: one server, many databases that begin at the newest revision."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import create_engine, make_url, text

from app.db.migrate import upgrade
from tests.app.server import free_port
from tests.servers.programs import installed_postgres, missing, unprivileged, wheel_postgres

VARIABLE = "HYPERSERVE_TEST_DATABASE_URL"
OPTIONS = "-c fsync=off -c full_page_writes=off -c max_connections=200"
"""What is committed outlives a kill of the server, though not a power cut."""


@dataclass
class Databases:
    """Makes databases on a server, given by the URL of one that is there."""

    url: str
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _template: str | None = None

    def empty(self) -> str:
        """URL of a database without tables."""
        return self._create("")

    def migrated(self) -> str:
        """URL of a database with the tables of this code, and no rows."""
        if self._template is None:
            self._template = self.empty()
            upgrade(self._template)
        return self._create(f"TEMPLATE {make_url(self._template).database}")

    def _create(self, how: str) -> str:
        # The process in the name: several runs may share a server that was given by URL.
        name = f"hyperserve_test_{os.getpid()}_{next(self._numbers)}"
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            connection.execute(text(f"CREATE DATABASE {name} {how}"))
        engine.dispose()
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop_all(self) -> None:
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for number in range(1, next(self._numbers)):
                name = f"hyperserve_test_{os.getpid()}_{number}"
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        engine.dispose()


@dataclass
class Postgres:
    """A server in a folder of its own, which tests may stop, kill and start again on the same port."""

    programs: Path
    port: int = field(default_factory=free_port)
    # Not below pytest's folder, which is closed to the user that the server runs as.
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hyperserve-postgres-")))

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """The cluster, not yet started."""
        if become := unprivileged():
            shutil.chown(self.folder, become[1].removeprefix("--reuid="))
        self._run("initdb", "-D", str(self._data), "-U", "test", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 {OPTIONS}"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """`immediate` is what a power cut is to it."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def remove(self) -> None:
        """What is left of it, running or not."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    @property
    def process_id(self) -> int:
        """Return the id of the process whose children serve connections."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*unprivileged(), str(self.programs / program), *arguments]
        # No pipe: the server would inherit it and keep it open.
        out = self.folder / "out"
        with out.open("ab") as file:
            done = subprocess.run(command, check=False, stdout=file, stderr=file, cwd="/", timeout=60)
        if done.returncode != 0:
            raise AssertionError(f"{program} failed:\n{out.read_text()}")


def own_postgres() -> Postgres:
    """Created, not started. Skips where no program is found: a server by URL is not ours to stop."""
    programs = installed_postgres() or wheel_postgres()
    if programs is None:
        missing("PostgreSQL to stop and start", "PATH")
    server = Postgres(programs)
    server.create()
    return server
