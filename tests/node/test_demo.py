"""`make demo-k8s` as a newcomer meets it: the story is as told, and whatever way it ends, nothing of it is left on the machine."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from tests.support.node import require_node
from tests.support.process import wait_until
from tests.support.stack import ROOT

STORY_TIMEOUT_S = 420


class Demo(unittest.TestCase):
    def setUp(self):
        require_node()
        folder = tempfile.TemporaryDirectory(prefix="tallygate-node-demo-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, **env):
        said = (self.folder / "said").open("w+")
        self.addCleanup(said.close)
        process = subprocess.Popen([sys.executable, str(ROOT / "demo" / "k8s.py")], stdout=said, stderr=subprocess.STDOUT, text=True,
                                   env={**os.environ, "TMPDIR": str(self.folder), **env}, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        return process

    def said(self):
        return (self.folder / "said").read_text()

    def assert_nothing_is_left(self, process):
        name = f"tgn{process.pid}"
        places = pathlib.Path("/proc/mounts").read_text()
        self.assertNotIn(name, places)
        self.assertNotIn(str(self.folder), places)
        self.assertFalse(pathlib.Path(f"/run/netns/{name}").exists())
        self.assertFalse(pathlib.Path(f"/run/{name}").exists())
        self.assertEqual([path.name for path in self.folder.glob("tallygate-demo-k8s-*")], [])
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn(f"/run/{name}", running)
        self.assertNotIn(str(self.folder), running)

    def test_it_is_as_told(self):
        demo = self.start(ONCE="1")
        status = demo.wait(timeout=STORY_TIMEOUT_S)
        said = self.said()
        self.assertEqual(status, 0, said)
        self.assertIn("as told.", said)
        for unwanted in ("✗", "\033[", "Traceback"):
            self.assertNotIn(unwanted, said)
        self.assert_nothing_is_left(demo)

    def test_ctrl_c_in_the_middle(self):
        demo = self.start()
        # Pods are starting.
        wait_until(lambda: "installing it" in self.said() or demo.poll() is not None, STORY_TIMEOUT_S, "the chart is being installed")
        name = f"tgn{demo.pid}"
        wait_until(lambda: f"/run/{name}/io.containerd.runtime" in pathlib.Path("/proc/mounts").read_text(), 60, "a pod runs")
        os.killpg(demo.pid, signal.SIGINT)
        self.assertEqual(demo.wait(timeout=60), 130, self.said())
        self.assertIn("ended before the story was told", self.said())
        self.assertNotIn("Traceback", self.said())
        self.assert_nothing_is_left(demo)

    def test_a_part_that_dies_is_told_with_its_logs(self):
        demo = self.start()
        wait_until(lambda: "One chart" in self.said() or demo.poll() is not None, STORY_TIMEOUT_S, "the node runs")
        apiserver = next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self.is_apiserver(pid))
        os.kill(apiserver, signal.SIGKILL)
        self.assertEqual(demo.wait(timeout=STORY_TIMEOUT_S), 2, self.said())
        self.assertIn("demo-k8s: ", self.said())
        self.assertNotIn("Traceback", self.said())
        kept = list(self.folder.glob("tallygate-demo-k8s-logs-*"))
        self.assertEqual(len(kept), 1)
        self.assertTrue((kept[0] / "apiserver.log").exists())
        for path in kept[0].iterdir():
            path.unlink()
        kept[0].rmdir()
        self.assert_nothing_is_left(demo)

    def is_apiserver(self, pid):
        try:
            words = pathlib.Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
        return "kube-apiserver" in words.split("\0")[0] and str(self.folder) in words


if __name__ == "__main__":
    unittest.main()
