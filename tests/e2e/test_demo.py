"""The demo's story, as `make demo ONCE=1` tells it, ends with everything as told; two demos run side by side."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STORY_TIMEOUT_S = 420


class Demo(unittest.TestCase):
    def start(self, state, *flags):
        # Never with a key from outside: tests talk to the emulator only.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("STRIPE_", "DEMO_"))}
        process = subprocess.Popen([sys.executable, str(ROOT / "demo" / "demo.py"), *flags], env={**env, "XDG_STATE_HOME": state},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        return process

    def test_two_demos_side_by_side_are_as_told(self):
        with tempfile.TemporaryDirectory() as state:
            os.chmod(state, 0o711)
            demos = [self.start(state, "--once") for _ in range(2)]
            for demo in demos:
                output, _ = demo.communicate(timeout=STORY_TIMEOUT_S)
                self.assertEqual(demo.returncode, 0, output)
                self.assertIn("as told.", output)
                self.assertNotIn("✗", output)
                self.assertNotIn("\033[", output)

    def test_a_live_key_is_refused(self):
        done = subprocess.run([sys.executable, str(ROOT / "demo" / "demo.py"), "--once"], env={**os.environ, "STRIPE_API_KEY": "sk_live_x"},
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("never touches a live account", done.stderr)


if __name__ == "__main__":
    unittest.main()
