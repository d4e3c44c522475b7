"""Hard caps are exact and every unit is billed once, with several sidecars at full speed, also over kill -9.
Requirements A2, A3, A4, C8; I1 NoOvershoot, I2 BilledOnce, I4 ZeroSum, I5 DenialIsFree."""

import unittest

from tests.e2e.base import StackTest, say
from tests.support.load import Load

QUOTAS = {"acme": 7000, "globex": 6000}
PER_CONNECTION = 5000  # 4 connections: 20,000 requests, 10,000 for each tenant


class ExactQuota(StackTest):
    def start_two(self):
        self.sidecars = self.start("a", "b", tenants=QUOTAS)

    def jobs(self, count=PER_CONNECTION):
        return [(sidecar.address, {"X-Tenant-Id": tenant}, count, "/") for tenant in QUOTAS for sidecar in self.sidecars]

    def test_20000_requests_over_two_sidecars_pass_exactly_the_quotas(self):
        self.start_two()
        load = Load(self.jobs()).start().join()
        say(f"{dict(load.statuses)} in {load.seconds:.1f} s, longest {load.longest_s * 1000:.0f} ms")
        self.assertEqual(load.statuses, {200: 13000, 429: 7000})
        self.assertEqual(load.lost, 0)
        for tenant, quota in QUOTAS.items():
            self.assertEqual(self.stack.app.tenant(tenant), quota)
        for tenant, quota in QUOTAS.items():
            self.assert_books(tenant, quota)

    def test_kill_9_between_requests_half_way_changes_nothing(self):
        """Nothing is in flight at the kill, so the app's count is exact too. All that was admitted before it is only in the log."""
        self.start_two()
        first = Load(self.jobs(PER_CONNECTION // 2)).start().join()
        self.sidecars[0].kill9()
        self.stack.restart_sidecar("a")
        second = Load(self.jobs(PER_CONNECTION // 2)).start().join()
        say(f"before the kill {dict(first.statuses)}, after it {dict(second.statuses)}")
        self.assertEqual(first.lost + second.lost, 0)
        for tenant, quota in QUOTAS.items():
            self.assertEqual(self.stack.app.tenant(tenant), quota)
        for tenant, quota in QUOTAS.items():
            self.assert_books(tenant, quota)

    def test_kill_9_under_full_load_half_way_loses_and_doubles_nothing(self):
        """At most one request per connection is in flight at the kill. Such a one is in the log, so it counts as admitted, whether the app
        has seen it or not: the ledger is exact, the app's count may fall short by those."""
        self.start_two()
        load = Load(self.jobs()).start()
        load.wait_done(4 * PER_CONNECTION // 2 // 2)
        self.sidecars[0].kill9()
        self.stack.restart_sidecar("a")
        load.join()
        say(f"{dict(load.statuses)}, cut off by the kill: {load.lost}, refused while it was down: {load.refused}")
        # Two connections to it, each at most twice: the request in flight, and one in the backlog of a socket that was just closing.
        self.assertLessEqual(load.lost, 4)
        self.assertEqual(sum(load.statuses.values()) + load.lost, 4 * PER_CONNECTION)
        for tenant, quota in QUOTAS.items():
            seen = self.stack.app.tenant(tenant)
            self.assertLessEqual(seen, quota)
            self.assertGreaterEqual(seen, quota - load.lost)
        for tenant, quota in QUOTAS.items():
            self.assert_books(tenant, quota)

    def test_sigterm_drains_and_settles(self):
        """Requirement A3: a sidecar that is asked to end finishes what is in flight and loses nothing."""
        sidecar, = self.start("a", tenants={"acme": 100000})
        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, 100000, "/")] * 2, patience_s=0).start()
        load.wait_done(2000)
        self.assertEqual(sidecar.term(), 0)
        try:
            load.stop()
        except ConnectionRefusedError:
            pass  # as it should be once it has ended
        self.assertEqual(set(load.statuses) - {200, 503}, set())
        self.assert_books("acme", self.stack.app.tenant("acme"))


if __name__ == "__main__":
    unittest.main()
