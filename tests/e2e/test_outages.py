"""Redis or PostgreSQL away for 10 s in the middle of traffic: the lease, then onUnavailable, then recovery without help; nothing lost,
nothing doubled. Requirement A8; I1, I2."""

import json
import time
import unittest

from tests.e2e.base import StackTest, say
from tests.support.load import Load

OUTAGE_S = 10
ALLOWANCE = 100
TIGHT_QUOTA = 300
ALLOW = f"{{quota: Allow, allowancePerPod: {ALLOWANCE}, wallet: Deny}}"


class Outages(StackTest):
    def start_traffic(self):
        self.set_tenant("deny", 1000000)
        self.set_tenant("allow", 1000000, on_unavailable=ALLOW)
        self.set_tenant("tight", TIGHT_QUOTA, on_unavailable=ALLOW)
        self.sidecar, = self.start("a")
        self.load = Load([(self.sidecar.address, {"X-Tenant-Id": tenant}, 10**9, "/") for tenant in self.tenants], pause_s=0.005, timeout_s=30).start()
        time.sleep(2)

    def counts(self):
        return {tenant: dict(counter) for tenant, counter in zip(self.tenants, [counter.copy() for counter in self.load.by_job])}

    def during(self, since):
        now = self.counts()
        return {tenant: {status: count - since[tenant].get(status, 0) for status, count in statuses.items() if count > since[tenant].get(status, 0)}
                for tenant, statuses in now.items()}

    def settle(self):
        """Service is back by itself, and the books are right."""
        took_s = self.until_status(self.sidecar, "deny", 200, 15)
        say(f"served again {took_s:.2f} s after the end of the outage")
        time.sleep(1)
        self.load.stop()
        self.assertEqual(self.load.lost, 0)
        for tenant, statuses in self.counts().items():
            self.assertEqual(set(statuses) - {200, 429, 503}, set(), tenant)
        counts = self.stack.app.counts()["tenants"]
        self.assertLessEqual(counts["tight"], TIGHT_QUOTA + ALLOWANCE, "past the stated worst case: quota + pods × allowance")
        self.assertTrue(self.sidecar.alive and self.stack.operator.alive)
        for tenant in self.tenants:
            self.assert_books(tenant, counts[tenant])

    def test_redis_paused(self):
        self.start_traffic()
        before = self.counts()
        self.stack.redis.pause()
        time.sleep(OUTAGE_S - 1)
        response = self.ask(self.sidecar, "deny")
        self.assertEqual(response.status, 503)
        self.assertEqual(response.headers["content-type"].partition(";")[0], "application/problem+json")
        problem = json.loads(response.body)
        self.assertEqual((problem["status"], bool(problem["reason"])), (503, True))
        during = self.during(before)
        say(f"during the outage: {during}; reason {problem['reason']}")
        self.stack.redis.resume()
        self.assertGreater(during["deny"].get(503, 0), 0)
        self.assertGreater(during["allow"].get(200, 0), 0)
        self.settle()

    def test_redis_restarted_empty(self):
        """A restart without persistence forgets everything: a new epoch is opened, old floats stay on hold. Rules 3–5."""
        self.start_traffic()
        self.stack.redis.restart(kill=True)
        time.sleep(3)
        self.settle()

    def test_postgres_paused(self):
        self.start_traffic()
        before = self.counts()
        self.stack.postgres.pause()
        time.sleep(OUTAGE_S)
        say(f"during the outage: {self.during(before)}")
        self.assertGreater(self.during(before)["deny"].get(200, 0), 0, "the lease and the float went on")
        self.stack.postgres.resume()
        self.settle()

    def test_postgres_restarted(self):
        self.start_traffic()
        self.stack.postgres.restart()
        time.sleep(1)
        self.stack.postgres.restart(kill=True)
        time.sleep(1)
        self.settle()

    def test_operator_away(self):
        self.start_traffic()
        before = self.counts()
        self.stack.operator.kill9()
        time.sleep(5)
        self.assertGreater(self.during(before)["deny"].get(200, 0), 0)
        self.stack.restart_operator()
        self.settle()


if __name__ == "__main__":
    unittest.main()
