"""Child processes of tests and demo: each in a process group of its own, its output in files, ended by pid in every case: on
stop(), on exceptions, on SIGTERM, and by the kernel (PR_SET_PDEATHSIG) should this process be killed.

Start processes from the main thread: the kernel sends the parent-death signal when the *thread* that forked ends.
"""

import atexit
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_live = []
_handlers_installed = False


class ProcessError(Exception):
    """A part did not start, did not get ready in time, or ended when it should not have."""


def free_port():
    """A port that is free now, from below the ephemeral range, so that no client connection takes it in passing."""
    for _ in range(200):
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise ProcessError("no free port between 20000 and 32000")


def wait_until(condition, timeout_s, what, pause_s=0.02):
    """Waits for condition() to be true and returns its value. Exceptions in it count as false and are told at the end."""
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, ProcessError, subprocess.SubprocessError, LookupError, ValueError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s (last: {last!r})")
        time.sleep(pause_s)


def children_of(pid):
    """Pids of all living descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _end_all():
    for process in reversed(list(_live)):
        process.kill9()


def _install_handlers():
    global _handlers_installed
    if _handlers_installed or threading.current_thread() is not threading.main_thread():
        return
    _handlers_installed = True
    atexit.register(_end_all)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))


class Process:
    """One child. `log` is the file with its standard error, `out` the one with its standard output; both append over restarts."""

    def __init__(self, name, argv, folder, env=None, user=None, group=None):
        self.name = name
        self.argv = [str(item) for item in argv]
        self.folder = pathlib.Path(folder)
        self.log = self.folder / f"{name}.log"
        self.out = self.folder / f"{name}.out"
        self._env = env or {}
        self._user = user
        self._group = group
        self._popen = None
        self._log_mark = self._out_mark = 0

    def spawn(self):
        _install_handlers()
        self._log_mark, self._out_mark = (path.stat().st_size if path.exists() else 0 for path in (self.log, self.out))
        parent = os.getpid()

        def in_child():
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        identity = {"user": self._user, "group": self._group, "extra_groups": []} if self._user is not None else {}
        with self.log.open("ab") as log, self.out.open("ab") as out:
            try:
                self._popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env={**os.environ, **self._env},
                                               cwd=self.folder, start_new_session=True, preexec_fn=in_child, **identity)
            except OSError as error:
                raise ProcessError(f"{self.name}: cannot start {self.argv[0]}: {error}") from error
        _live.append(self)
        return self

    @property
    def pid(self):
        return self._popen.pid if self._popen else None

    @property
    def alive(self):
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self):
        return self._popen.poll() if self._popen else None

    def log_text(self, all_runs=False):
        return _tail(self.log, 0 if all_runs else self._log_mark)

    def out_text(self):
        return _tail(self.out, self._out_mark)

    def require_alive(self):
        if not self.alive:
            tail = "\n".join((self.out_text() + self.log_text()).splitlines()[-15:])
            raise ProcessError(f"{self.name} ended with status {self.returncode}; the end of its output:\n{tail}")

    def wait_ready(self, condition, timeout_s, what):
        def check():
            if not self.alive:
                return "ended"
            return condition()
        try:
            value = wait_until(check, timeout_s, f"{self.name}: {what}")
        except TimeoutError as error:
            tail = "\n".join((self.out_text() + self.log_text()).splitlines()[-15:])
            raise ProcessError(f"{error}; the end of its output:\n{tail}") from error
        self.require_alive()
        return value

    def send(self, number):
        """A signal to the process and to its group."""
        if self.alive:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def pause(self):
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)

    def kill9(self):
        self.send(signal.SIGKILL)
        return self._gone(10)

    def term(self, timeout_s=20):
        """SIGTERM, and the exit status. Kills and raises when it does not end in time."""
        self.resume()
        self.send(signal.SIGTERM)
        return self._gone(timeout_s)

    def wait_exit(self, timeout_s):
        return self._gone(timeout_s)

    def _gone(self, timeout_s):
        if self._popen is None:
            return None
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.send(signal.SIGKILL)
            self._popen.wait(10)
            raise ProcessError(f"{self.name} did not end within {timeout_s} s and was killed") from error
        finally:
            if self in _live and not self.alive:
                _live.remove(self)
        return status


def _tail(path, mark):
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(mark)
        return file.read().decode(errors="replace")
