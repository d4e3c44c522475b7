"""The sidecar's data folder, copied, deleted, full, or not its own: nobody spends twice, nothing that was admitted is lost, and it is
said. I1, I2."""

import json
import os
import pathlib
import shutil
import subprocess
import time
import unittest

from tests.e2e.base import METER, POLICY, StackTest, say
from tests.support.stack import binary

QUOTA = 600
SEEN_TIMEOUT_S = 3  # it is looked at twice a second


class DataFolder(StackTest):
    def folder_of(self, name):
        return self.stack.folder / f"sidecar-{name}" / "data"

    def admitted(self, sidecar, requests):
        return sum(self.ask(sidecar, "acme").status == 200 for _ in range(requests))

    def assert_booked(self):
        admitted = self.stack.app.tenant("acme")
        self.wait_equal(lambda: self.stack.booked("shop/acme", METER), admitted, 60, "every unit once in the ledger")
        time.sleep(1)
        self.assertEqual(self.stack.booked("shop/acme", METER), admitted)
        say(f"ledger and app say {admitted:,}")

    def test_a_copy_of_a_live_folder(self):
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 100)
        shutil.copytree(self.folder_of("a"), self.folder_of("b"))
        b = self.stack.start_sidecar("b", POLICY)
        a.kill9()  # and now its successor comes, on the folder itself
        a = self.stack.restart_sidecar("a")
        for _ in range(2):
            self.admitted(a, QUOTA)
            self.admitted(b, QUOTA)
        admitted = self.stack.app.tenant("acme")
        self.assertLessEqual(admitted, QUOTA, "a copy gives back what the original holds")
        self.assertGreater(admitted, 100)
        told = [line for line in b.log_lines() if line["msg"] == "predecessor recovered"]
        self.assertEqual([line["torn"] for line in told], [True])
        self.assertIn("copy", told[0]["damage"])
        self.assert_booked()

    def test_an_older_copy_in_its_place(self):
        """A backup written over the files themselves: which files they are does not tell, what is booked of them does."""
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 40)
        self.assert_booked()
        shutil.copytree(self.folder_of("a"), self.folder_of("backup"))
        self.admitted(a, 150)
        self.assert_booked()
        a.kill9()
        for path in self.folder_of("backup").rglob("*"):
            if path.is_file():
                (self.folder_of("a") / path.relative_to(self.folder_of("backup"))).write_bytes(path.read_bytes())
        a = self.stack.restart_sidecar("a")
        self.admitted(a, QUOTA)
        admitted = self.stack.app.tenant("acme")
        self.assertLessEqual(admitted, QUOTA, "what the copy does not know of is not given back")
        self.assertGreater(admitted, 190)
        self.assertTrue(any("older than what the ledger has booked" in line["msg"] for line in a.log_lines()))
        self.assert_booked()

    def test_its_lock_is_deleted(self):
        """Another sidecar on a folder whose lock file is gone takes the living one for dead: it must not start."""
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 40)
        (self.folder_of("a") / "lock").unlink()
        argv = [word if word != a.address else "127.0.0.1:0" for word in a.argv]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, env={**os.environ, **a.env})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("in use by another sidecar", done.stdout + done.stderr)

    def test_a_copy_does_not_condemn_the_original(self):
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 20)
        shutil.copytree(self.folder_of("a"), self.folder_of("b"))
        b = self.stack.start_sidecar("b", POLICY)
        self.assertEqual(self.admitted(b, 1), 1)
        self.assert_booked()
        self.stack.redis.restart(kill=True)
        for sidecar in (a, b):
            self.stack.wait_until(lambda: self.ask(sidecar, "acme").status == 200, 30, "a member of the next epoch")
        self.assert_booked()

    def test_what_cannot_be_read_is_kept(self):
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 20)
        self.assert_booked()
        a.kill9()
        left, = self.folder_of("a").glob("inc-*")
        for path in left.glob("records-*"):
            path.write_bytes(b"?" + path.read_bytes()[1:])
        a = self.stack.restart_sidecar("a")
        self.assertEqual(self.admitted(a, 5), 5)
        self.assertEqual([path.name for path in self.folder_of("a").glob("aside-*")], ["aside-" + left.name])
        usage_log = json.loads(a.get("/health")[1])["services"]["usageLog"]
        self.assertEqual(usage_log["status"], "degraded")
        self.assertIn("aside-", str(usage_log))
        self.assertTrue([line for line in a.log_lines() if line["level"] == "error" and str(left) in line.get("folder", "")])
        self.assert_booked()

    def test_deleted_under_a_running_sidecar(self):
        a, = self.start("a", tenants={"acme": QUOTA})
        self.assertEqual(self.admitted(a, 50), 50)
        self.assertEqual(a.metric("tallygate_sidecar_log_writable"), 1)
        shutil.rmtree(self.folder_of("a"))
        self.stack.wait_until(lambda: a.get("/readyz")[0] == 503, SEEN_TIMEOUT_S, "not ready without its folder")
        status, health = a.get("/health")
        self.assertEqual((status, json.loads(health)["services"]["usageLog"]["status"]), (503, "down"))
        self.assertEqual(a.metric("tallygate_sidecar_log_writable"), 0)
        self.assertTrue([line for line in a.log_lines() if line["level"] == "error" and str(self.folder_of("a")) in line.get("error", "")])
        response = self.ask(a, "acme")
        problem = json.loads(response.body)
        self.assertEqual((response.status, problem["reason"]), (503, "LogFull"))
        self.assertNotIn(str(self.stack.folder), response.body.decode() if isinstance(response.body, bytes) else response.body)
        self.assertEqual(self.stack.app.tenant("acme"), 50, "nothing is admitted that a kill would lose")
        # What it knows in memory it still sends; and its successor serves.
        self.assertEqual(a.term(), 0)
        a = self.stack.restart_sidecar("a")
        self.assertEqual(self.admitted(a, 20), 20)
        self.assert_booked()

    def test_away_and_back_again(self):
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 20)
        away = self.folder_of("a").with_name("away")
        self.folder_of("a").rename(away)
        self.stack.wait_until(lambda: a.get("/readyz")[0] == 503, SEEN_TIMEOUT_S, "not ready without its folder")
        self.assertEqual(self.ask(a, "acme").status, 503)
        away.rename(self.folder_of("a"))
        self.stack.wait_until(a.ready, SEEN_TIMEOUT_S, "ready again by itself")
        self.assertEqual(self.admitted(a, 20), 20)
        self.assert_booked()

    def test_a_full_disk(self):
        folder = self.folder_of("a")
        folder.mkdir(parents=True)
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", folder], check=False).returncode != 0:
            self.skipTest("needs the right to mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
        a, = self.start("a", tenants={"acme": QUOTA})
        self.admitted(a, 20)
        with open(folder / "ballast", "wb", buffering=0) as ballast:
            try:
                while ballast.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        self.stack.wait_until(lambda: a.get("/readyz")[0] == 503, SEEN_TIMEOUT_S, "not ready on a full disk")
        self.assertEqual(json.loads(a.get("/health")[1])["services"]["usageLog"]["status"], "degraded")
        served = self.admitted(a, 50)  # slots are there: what is admitted in them survives a kill
        say(f"{served} of 50 admitted on a full disk")
        a.kill9()
        (folder / "ballast").unlink()
        a = self.stack.restart_sidecar("a")
        self.assertEqual(self.admitted(a, 20), 20)
        self.assert_booked()

    def test_a_folder_of_somebody_else(self):
        folder = pathlib.Path(self.stack.folder) / "open"
        folder.mkdir()
        folder.chmod(0o777)
        ended = subprocess.run([binary("tallygate-sidecar"), "run", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "--admin", "127.0.0.1:0",
                                "--policy", POLICY, "--redis-url", self.stack.redis.url, "--data-dir", folder], capture_output=True, timeout=20, check=False)
        self.assertEqual(ended.returncode, 64)
        self.assertIn(str(folder), ended.stderr.decode())
        self.assertIn("chmod", ended.stderr.decode())
        self.assertEqual(list(folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
