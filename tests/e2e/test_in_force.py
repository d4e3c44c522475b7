"""Manifests, edited, are in force in every pod within a second; a bad file keeps the last good state. SPEC A2, A6, E7, E8."""

import json
import time
import unittest

from tests.e2e.base import StackTest, say
from tests.support.load import Load

PROMISED_S = 1.0


class InForce(StackTest):
    def in_force(self, tenant, status, since, what):
        for name, sidecar in self.stack.sidecars.items():
            self.until_status(sidecar, tenant, status, 10)
            took_s = time.monotonic() - since
            say(f"{what}: {status} at sidecar {name} after {took_s * 1000:.0f} ms")
            self.assertLessEqual(took_s, PROMISED_S, f"{what} at {name}")

    def exhaust(self, tenant, sidecar):
        """Asks until nothing is left, also of what another pod's idle purse gives back."""
        passed = 1
        while passed:
            load = Load([(sidecar.address, {"X-Tenant-Id": tenant}, 200, "/")] * 2).start().join()
            passed = load.statuses.get(200, 0)
            time.sleep(1)

    def test_suspension_and_its_end(self):
        self.start("a", "b", tenants={"acme": 1000})
        for sidecar in self.stack.sidecars.values():
            self.until_status(sidecar, "acme", 200, 5)
        self.set_tenant("acme", 1000, suspend=True)
        self.in_force("acme", 403, self.publish(), "suspension")
        seen = self.stack.app.tenant("acme")
        for sidecar in self.stack.sidecars.values():
            self.exhaust("acme", sidecar)
        self.assertEqual(self.stack.app.tenant("acme"), seen)
        self.set_tenant("acme", 1000)
        self.in_force("acme", 200, self.publish(), "its end")

    def test_a_raised_quota(self):
        sidecar, _ = self.start("a", "b", tenants={"acme": 50})
        self.exhaust("acme", sidecar)
        self.assertEqual(self.stack.app.tenant("acme"), 50)
        self.set_tenant("acme", 80)
        self.in_force("acme", 200, self.publish(), "raised quota")
        self.exhaust("acme", sidecar)
        self.assertEqual(self.stack.app.tenant("acme"), 80)
        self.assert_books("acme", 80)

    def test_a_new_tenant_and_a_removed_one(self):
        sidecar, = self.start("a", tenants={"acme": 50})
        self.assertEqual(self.ask(sidecar, "globex").status, 403)
        self.set_tenant("globex", 50)
        self.in_force("globex", 200, self.publish(), "new tenant")
        del self.tenants["globex"]
        self.in_force("globex", 403, self.publish(), "removed tenant")
        self.assertEqual(self.ask(sidecar, "acme").status, 200)

    def test_a_bad_file_keeps_the_last_good_state_and_says_so(self):
        sidecar, = self.start("a", tenants={"acme": 1000})
        self.until_status(sidecar, "acme", 200, 5)
        good = self.manifest_text()
        for name, text, named in (("not YAML", "kind: [", "resources.yaml"),
                                  ("a plan that does not exist", good.replace("planRef: {name: e2e-v1}", "planRef: {name: gold-v1}"), "gold-v1"),
                                  ("a negative amount", good.replace("amount: 1000}", "amount: -5}"), "amount"),
                                  ("a duplicate tenant", good + good[good.index("---\n"):], "acme")):
            with self.subTest(name):
                self.stack.write_manifests(text)
                line = self.stack.wait_until(lambda named=named: next(
                    (row for row in self.stack.operator.log_lines()
                     if row.get("level") in ("warn", "warning", "error") and named in json.dumps(row)), None), 5, f"{name}: the operator says so")
                self.assertIn("resources.yaml", json.dumps(line))
                self.assertEqual(self.ask(sidecar, "acme").status, 200)
                self.assertTrue(self.stack.operator.alive)
                self.stack.write_manifests(good)
                time.sleep(0.3)
        self.set_tenant("acme", 1000, suspend=True)
        self.in_force("acme", 403, self.publish(), "a good file after bad ones")


if __name__ == "__main__":
    unittest.main()
