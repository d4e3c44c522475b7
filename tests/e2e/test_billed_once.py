"""Every unit reaches the ledger once and Stripe once, wherever the operator dies and whatever Stripe does.
Requirements C8, C9; I2 BilledOnce. Issue: pump killed between commit and ack, submitter killed between call and record."""

import unittest

from tests.e2e.base import METER, StackTest, say
from tests.support.load import Load

UNITS = 2000
FAULT_TIMEOUT_S = 150


class BilledOnce(StackTest):
    def traffic(self, sidecar, count=UNITS):
        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, count // 2, "/")] * 2).start().join()
        self.assertEqual(load.statuses, {200: count})

    def die_at(self, fault):
        """The operator with that fault point, until it has died of it; traffic passes meanwhile."""
        sidecar, = self.start("a", tenants={"acme": 100000}, env={"TALLYGATE_FAULT": fault})
        self.traffic(sidecar)
        status = self.stack.operator.process.wait_exit(FAULT_TIMEOUT_S)
        say(f"operator died at {fault} with status {status}")
        self.assertEqual(status, 137)
        return sidecar

    def test_pump_killed_between_commit_and_ack(self):
        sidecar = self.die_at("pump.after_commit:exit:2")  # the first batch is the sidecar's hello
        self.stack.restart_operator()
        self.traffic(sidecar)
        self.assert_books("acme", 2 * UNITS)

    def test_submitter_killed_between_call_and_record(self):
        sidecar = self.die_at("submitter.after_call:exit")
        self.assertGreater(self.billed("acme"), 0)
        self.stack.restart_operator()
        self.traffic(sidecar)
        self.assert_books("acme", 2 * UNITS)
        self.assertGreater(self.stack.stripe.state()["counters"].get("duplicate_identifiers", 0), 0, "the repetition never reached Stripe")

    def test_aggregator_killed_after_its_commit(self):
        self.die_at("aggregator.after_commit:exit")
        self.stack.restart_operator()
        self.assert_books("acme", UNITS)

    def test_operator_kill_9_at_any_moment(self):
        sidecar, = self.start("a", tenants={"acme": 100000})
        for _ in range(4):
            self.traffic(sidecar, 500)
            self.stack.operator.kill9()
            self.stack.restart_operator()
        self.assert_books("acme", 2000)

    def test_stripe_fails_in_every_way(self):
        """500 before and after the effect, time-outs, resets, 429 and 409: each is tried again, none counts twice."""
        for kind in ("500_after", "429", "reset_after", "409", "500_before", "reset_before"):
            self.stack.stripe.fault(kind, path="meter_events")
        self.stack.stripe.fault("timeout_after", path="meter_events", seconds=3)
        sidecar, = self.start("a", tenants={"acme": 100000, "globex": 100000})
        self.traffic(sidecar)
        Load([(sidecar.address, {"X-Tenant-Id": "globex"}, 300, "/")]).start().join()
        self.assert_books("acme", UNITS)
        self.assert_books("globex", 300)
        state = self.stack.stripe.state()
        self.assertEqual([fault["kind"] for fault in state["faults"] if fault["hits"] < fault["count"]], [], "faults that never came to pass")
        self.assertEqual(state["counters"].get("lock_timeouts", 0), 0, "two calls at once for one customer and meter")

    def test_stripe_away_then_back(self):
        sidecar, = self.start("a", tenants={"acme": 100000})
        self.stack.stripe.kill()
        self.traffic(sidecar)
        self.wait_equal(lambda: self.stack.booked("shop/acme", METER), UNITS, 60, "booked while Stripe is away")
        self.stack.stripe.start()
        self.assert_books("acme", UNITS)

    def test_sidecar_killed_before_its_usage_was_sent(self):
        """The pod's folder is all that remains: a successor on it books the rest. Rule 1."""
        sidecar, = self.start("a", tenants={"acme": 100000})
        self.stack.redis.pause()
        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, 50, "/")], timeout_s=30).start().join()
        admitted = load.statuses[200]
        sidecar.kill9()
        self.stack.redis.resume()
        self.stack.restart_sidecar("a")
        say(f"admitted while Redis was away: {admitted} of 50")
        self.assertEqual(self.stack.app.tenant("acme"), admitted)
        self.traffic(sidecar, 100)
        self.assert_books("acme", admitted + 100)


if __name__ == "__main__":
    unittest.main()
