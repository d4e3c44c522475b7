"""A crash of either real binary leaves no core file, though the system would write one; with --core-dumps it does."""

import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import unittest

from tests.support.process import wait_until
from tests.support.stack import binary

COMMANDS = {
    "tallygate-sidecar": ["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "--policy", "shop/api", "--data-dir", "data"],
    "tallygate-operator": ["--source", "dir:manifests", "--database-url", "postgresql://u@127.0.0.1:9/d", "--stripe", "disabled"],
}


def allow_core_files():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)


def crash(name, *flags):
    """Starts the binary, ends it by a fault: → whether its memory was written."""
    with tempfile.TemporaryDirectory() as folder:
        for needed in ("data", "manifests"):
            (pathlib.Path(folder) / needed).mkdir()
        log = pathlib.Path(folder) / "log"
        command = [str(pathlib.Path(binary(name)).resolve()), "run", *COMMANDS[name], "--admin", "127.0.0.1:0", "--redis-url",
                   "redis://127.0.0.1:9", *flags]
        with log.open("wb") as err:
            process = subprocess.Popen(command, cwd=folder, stdout=err, stderr=err, preexec_fn=allow_core_files)
        try:
            wait_until(lambda: process.poll() is not None or '"msg":"listening"' in log.read_text(), 20, f"{name} listens")
            os.kill(process.pid, signal.SIGSEGV)
            _, status = os.waitpid(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        assert process.returncode == -signal.SIGSEGV, log.read_text()
        return os.WCOREDUMP(status) or any(pathlib.Path(folder).glob("core*"))


class CoreDumps(unittest.TestCase):
    def test_a_crash_writes_no_memory_unless_it_is_told_to(self):
        writes_any = False
        for name in COMMANDS:
            with self.subTest(name):
                self.assertFalse(crash(name))
                writes_any |= crash(name, "--core-dumps")
        if not writes_any:
            self.skipTest("this system writes no core file in any case: nothing was shown")


if __name__ == "__main__":
    unittest.main()
