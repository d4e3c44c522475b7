"""Two operators: whatever becomes of the one that leads, the other leads within seconds; what wakes up later does no harm.
I1, I2; docs/PROTOCOL.md, Leadership."""

import collections
import time
import unittest

from tests.e2e.base import StackTest, say
from tests.support.load import Load

TAKEN_OVER_S = 10  # some 3 s on a machine that is not busy
STOPPED_S = 12
QUOTA = 1000000


class Leadership(StackTest):
    def start_two(self):
        self.sidecar, = self.start("a", tenants={"acme": QUOTA})
        self.first = self.stack.operator
        self.second = self.stack.start_standby()
        self.assertEqual((self.leads(self.first), self.leads(self.second)), (1, 0))
        self.load = Load([(self.sidecar.address, {"X-Tenant-Id": "acme"}, 10**9, "/")] * 2, pause_s=0.001, timeout_s=30).start()
        time.sleep(2)

    @staticmethod
    def leads(operator):
        return int(operator.metric("tallygate_operator_leader"))

    def taken_over(self):
        began = time.monotonic()
        self.stack.wait_until(lambda: self.leads(self.second) == 1, TAKEN_OVER_S, "the second operator leads")
        say(f"the second one leads {time.monotonic() - began:.1f} s later")

    def counts(self):
        return sum((counter.copy() for counter in self.load.by_job), collections.Counter())

    def settle(self):
        time.sleep(1)
        self.load.stop()
        say(f"{dict(self.load.statuses)}")
        self.assertEqual(self.load.lost, 0)
        self.assertEqual(set(self.load.statuses) - {200, 503}, set())
        self.assertLess(self.load.statuses[503], self.counts()[200], "service went on")
        self.assert_books("acme", self.counts()[200])

    def test_the_leader_is_stopped_and_wakes_up_later(self):
        self.start_two()
        self.first.process.pause()
        self.taken_over()
        before = self.counts()
        time.sleep(STOPPED_S)
        during = self.counts() - before
        say(f"while the first one stood still: {dict(during)}")
        self.assertGreater(during[200], during[503], "the funder, the pump and the keeper of epochs work, whatever the first one has locked")
        booked = self.stack.booked("shop/acme", "api_calls")
        self.first.process.resume()
        time.sleep(3)
        self.assertEqual((self.leads(self.first), self.leads(self.second)), (0, 1))
        self.assertGreater(self.stack.booked("shop/acme", "api_calls"), booked)
        self.assertEqual(self.first.get("/readyz")[0], 200, "it stands by")
        self.settle()

    def test_the_leader_ends_in_order(self):
        self.start_two()
        self.first.term()
        self.taken_over()
        self.settle()


if __name__ == "__main__":
    unittest.main()
