"""Real redis-server and PostgreSQL on loopback, each with a private folder and a free port; many side by side."""

import fcntl
import glob
import hashlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile

from tests.support.process import Process, ProcessError, children_of, free_port, wait_until
from tests.support.resp import RespClient
from tests.support.tools import cache_dir

PORT_ATTEMPTS = 5


def find_binary(name, patterns=()):
    for pattern in patterns:
        for path in sorted(glob.glob(pattern + "/" + name), key=_version, reverse=True):
            if os.access(path, os.X_OK):
                return path
    found = shutil.which(name)
    if found is None:
        raise ProcessError(f"{name} is not installed: run `make setup`")
    return found


def _version(path):
    return [int(part) for part in path.split("/") if part.isdigit()]


class RedisServer:
    def __init__(self, folder, port=None, appendonly=False, options=()):
        self.folder = pathlib.Path(folder) / "redis"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._fixed_port = port
        self._options = ["--save", "", "--appendonly", "yes" if appendonly else "no", "--appendfsync", "everysec",
                         "--maxmemory-policy", "noeviction", *options]
        self._process = None
        self.port = port

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self._process.pid

    @property
    def alive(self):
        return self._process is not None and self._process.alive

    def start(self):
        binary = find_binary("redis-server")
        for attempt in range(PORT_ATTEMPTS):
            self.port = self.port or free_port()
            self._process = Process("redis", [binary, "--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder,
                                              "--logfile", "", "--daemonize", "no", *self._options], self.folder).spawn()
            try:
                self._process.wait_ready(lambda: self.cli("PING") == "PONG", 10, "answers PING")
                return self
            except ProcessError:
                self._process.kill9()
                if self._fixed_port or attempt == PORT_ATTEMPTS - 1 or "Address already in use" not in self._process.out_text():
                    raise
                self.port = None
        return self

    def cli(self, *args):
        client = RespClient(self.port)
        try:
            return client.call(*args)
        finally:
            client.close()

    def stop(self):
        if self._process:
            self._process.term()

    def kill(self):
        if self._process:
            self._process.kill9()

    def pause(self):
        self._process.pause()

    def resume(self):
        self._process.resume()

    def restart(self, kill=False):
        """On the same port. What it remembers is what appendonly kept: nothing by default."""
        if kill:
            self.kill()
        else:
            self.stop()
        self._fixed_port = self.port
        return self.start()


class Postgres:
    """PostgreSQL refuses to run as root: then it runs as the distribution's `postgres` user, in a folder that user can reach.
    The cluster is made once (initdb takes seconds) and copied. Durable against kill -9 of its processes, not of the machine."""

    USER = "tallygate"
    DATABASE = "tallygate"
    OPTIONS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "48MB", "max_connections": "80",
               "log_min_messages": "warning", "log_timezone": "UTC", "timezone": "UTC", "max_wal_size": "256MB", "jit": "off"}

    def __init__(self, folder, port=None, options=None):
        self.folder = pathlib.Path(folder) / "postgres"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._fixed_port = port
        self.port = port
        self._options = {**self.OPTIONS, **(options or {})}
        self._process = None
        self._elsewhere = None
        self._account = _postgres_account()
        self._bin = pathlib.Path(os.path.realpath(find_binary("postgres", ["/usr/lib/postgresql/*/bin"]))).parent
        self.data = self.folder / "data"

    @property
    def url(self):
        return f"postgresql://{self.USER}@127.0.0.1:{self.port}/{self.DATABASE}"

    @property
    def alive(self):
        return self._process is not None and self._process.alive

    def start(self):
        if not self.data.exists():
            self._make_data()
        for attempt in range(PORT_ATTEMPTS):
            self.port = self.port or free_port()
            options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
            self._process = Process("postgres", [self._bin / "postgres", "-D", self.data, "-p", self.port, *options], self.folder,
                                    env={"LC_ALL": "C"}, **self._identity()).spawn()
            try:
                self._process.wait_ready(self._answers, 30, "accepts connections")
                return self
            except ProcessError:
                self.kill()
                if self._fixed_port or attempt == PORT_ATTEMPTS - 1 or "Address already in use" not in self._process.log_text():
                    raise
                self.port = None
        return self

    def _identity(self):
        return {"user": self._account.pw_uid, "group": self._account.pw_gid} if self._account else {}

    def _answers(self):
        return subprocess.run([self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0

    def _make_data(self):
        template = _template(self._bin, self._account)
        if self._account and not _reachable(self.folder, self._account.pw_uid):
            self._elsewhere = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-postgres-"))
            self._elsewhere.chmod(0o711)
            self.data = self._elsewhere / "data"
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(self.data)], check=True)

    def psql(self, sql, timeout_s=30):
        done = subprocess.run([self._bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", sql],
                              capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, "PGCONNECT_TIMEOUT": "5"})
        if done.returncode:
            raise ProcessError(f"psql: {done.stderr.strip()}\nin: {sql}")
        return done.stdout

    def query(self, sql):
        """Rows of a SELECT as dicts, with numbers as numbers."""
        return json.loads(self.psql(f"SELECT coalesce(json_agg(q), '[]') FROM ({sql.rstrip().rstrip(';')}) q"))

    def value(self, sql):
        """The first column of the only row."""
        row, = self.query(sql)
        return next(iter(row.values()))

    def stop(self):
        """A fast shutdown: sessions end, a checkpoint is written."""
        if self.alive:
            self.resume()
            os.kill(self._process.pid, signal.SIGINT)
            self._process.wait_exit(30)

    def kill(self):
        """kill -9 of all its processes, as in a crash."""
        if self.alive:
            os.kill(self._process.pid, signal.SIGSTOP)
            for pid in children_of(self._process.pid):
                _signal(pid, signal.SIGKILL)
            self._process.kill9()

    def remove(self):
        self.kill()
        if self._elsewhere:
            shutil.rmtree(self._elsewhere, ignore_errors=True)

    def back_up(self):
        """A physical backup: a copy of the data folder, taken while the server is down. → what restore() takes."""
        copy = self.data.with_name("backup")
        shutil.rmtree(copy, ignore_errors=True)
        self.stop()
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.data), str(copy)], check=True)
        self.restart()
        return copy

    def restore(self, copy):
        """Puts a physical backup in the place of the data, and starts on it."""
        self.kill()
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", "--reflink=auto", str(copy), str(self.data)], check=True)
        self.restart()

    def dump(self, path):
        """A logical backup by pg_dump."""
        self._run_tool("pg_dump", "-Fc", "-f", path, "-d", self.url)

    def restore_dump(self, path):
        """Drops the database under whoever is connected, and makes it anew from a logical backup."""
        admin = self.url.rpartition("/")[0] + "/postgres"
        for sql in (f"DROP DATABASE {self.DATABASE} WITH (FORCE)", f"CREATE DATABASE {self.DATABASE}"):
            self._run_tool("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", admin, "-c", sql)
        self._run_tool("pg_restore", "--exit-on-error", "-d", self.url, path)

    def _run_tool(self, name, *args):
        done = subprocess.run([self._bin / name, *args], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise ProcessError(f"{name}: {done.stderr.strip()}")

    def pause(self):
        """SIGSTOP to all its processes: connections stay open and nothing answers."""
        os.kill(self._process.pid, signal.SIGSTOP)
        for pid in children_of(self._process.pid):
            _signal(pid, signal.SIGSTOP)

    def resume(self):
        for pid in children_of(self._process.pid):
            _signal(pid, signal.SIGCONT)
        os.kill(self._process.pid, signal.SIGCONT)

    def restart(self, kill=False):
        if kill:
            self.kill()
        else:
            self.stop()
        self._fixed_port = self.port
        return self.start()


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _postgres_account():
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise ProcessError("PostgreSQL does not run as root and there is no user `postgres`: run `make setup`") from None


def _reachable(path, uid):
    """Whether that user can get into the folder: every parent lets others or the user pass."""
    for folder in [path, *path.resolve().parents]:
        info = folder.stat()
        if not info.st_mode & stat.S_IXOTH and not (info.st_uid == uid and info.st_mode & stat.S_IXUSR):
            return False
    return True


def _template(bin_dir, account):
    """A fresh cluster with the database in it, made once per PostgreSQL version."""
    version = subprocess.run([bin_dir / "postgres", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    key = hashlib.sha256(f"{version} {account.pw_uid if account else os.geteuid()} 1".encode()).hexdigest()[:12]
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    template = cache / f"postgres-template-{key}"
    with (cache / "postgres-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if template.exists():
            return template
        with tempfile.TemporaryDirectory(prefix="tallygate-initdb-") as work:
            data = os.path.join(work, "data")
            identity = {}
            if account:
                os.chown(work, account.pw_uid, account.pw_gid)
                identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            common = {"check": True, "cwd": work, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, "stdout": subprocess.DEVNULL, **identity}
            subprocess.run([bin_dir / "initdb", "-D", data, "-A", "trust", "-U", Postgres.USER, "-E", "UTF8", "--locale=C", "--no-sync",
                            "--no-instructions"], **common)
            subprocess.run([bin_dir / "postgres", "--single", "-D", data, "-c", "fsync=off", "postgres"], text=True,
                           input=f"CREATE DATABASE {Postgres.DATABASE};\n", stderr=subprocess.DEVNULL, **common)
            partial = template.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(["cp", "-a", data, str(partial)], check=True)
            partial.rename(template)
    return template


def wait_for_value(server, sql, expected, timeout_s, what):
    """Waits until the query's only value is `expected`; tells the last one otherwise."""
    seen = []

    def check():
        seen[:] = [server.value(sql)]
        return seen[0] == expected
    try:
        wait_until(check, timeout_s, what, 0.1)
    except TimeoutError as error:
        raise AssertionError(f"{what}: expected {expected!r}, last saw {seen}") from error
