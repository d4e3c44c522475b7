"""Machines whose clocks are wrong: the ledger's decides which window is now, whoever else says what. docs/PROTOCOL.md, Clocks."""

import time
import unittest

from tests.e2e.base import POLICY, StackTest, say
from tests.support.load import Client, Load
from tests.support.wrong_clock import LIBRARY, MISSING, WrongClock

MINUTE = 200
HOUR = 100000


@unittest.skipUnless(LIBRARY, MISSING)
class Clocks(StackTest):
    def manifest_text(self):
        limits = f"""\
  - {{name: calls-month, meter: api_calls, amount: 1000000, window: Month, cap: Hard}}
  - {{name: calls-hour, meter: api_calls, amount: {HOUR}, window: Hour, cap: Hard}}
"""
        text = super().manifest_text()
        month = "  - {name: calls-month, meter: api_calls, amount: 1000000, window: Month, cap: Hard}\n"
        self.assertIn(month, text)
        return text.replace(month, limits + self.more_limits)

    more_limits = ""

    def clock(self, name, offset):
        return WrongClock(self.stack.folder, offset, name)

    def begin_window(self, seconds, room_s):
        """Waits where the window that is now ends within `room_s`."""
        left_s = seconds - time.time() % seconds
        if left_s < room_s:
            time.sleep(left_s + 0.5)

    def serves(self, sidecar, count=100):
        with Client(sidecar.address) as client:
            statuses = [client.get("/", {"X-Tenant-Id": "acme"}).status for _ in range(count)]
        self.assertEqual(set(statuses), {200})

    def clock_word(self, binary):
        return binary.get("/health")[1]

    def lose_redis(self, epochs):
        """→ once the operator has opened so many in all."""
        self.stack.redis.restart(kill=True)
        began = time.monotonic()
        operator = self.stack.operator
        self.stack.wait_until(lambda: operator.metric("tallygate_operator_epochs_opened_total") >= epochs
                              and operator.metric("tallygate_operator_shards_ready") == 64, 20, "new epochs are opened")
        say(f"new epochs are open {time.monotonic() - began:.1f} s after the loss of Redis")

    def test_an_operator_an_hour_ahead(self):
        self.begin_window(3600, 120)
        sidecar, = self.start("a", tenants={"acme": 1000000}, env=self.clock("operator", "+3600").env())
        self.serves(sidecar)
        self.assertIn("ahead of the ledger's", self.clock_word(self.stack.operator))
        self.assertGreater(self.stack.operator.metric("tallygate_operator_clock_ahead_seconds"), 3590)
        self.lose_redis(128)
        self.serves(sidecar)
        self.stack.operator.kill9()
        self.stack.restart_operator()  # whose clock is right: nothing that the other wrote keeps it
        self.lose_redis(64)
        self.serves(sidecar)
        self.assertNotIn("ahead of the ledger's", self.clock_word(self.stack.operator))

    def test_an_operator_a_minute_behind_and_a_sidecar_too(self):
        self.begin_window(3600, 120)
        self.set_tenant("acme", 1000000)
        self.publish()
        self.stack.start_operator(env=self.clock("operator", "-60").env())
        sidecar = self.stack.start_sidecar("a", POLICY, env=self.clock("a", "-90").env())
        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, 6000, "/")] * 2).start().join()  # many times the float
        self.assertEqual(load.statuses, {200: 12000})
        self.assertIn("behind the ledger's", self.clock_word(sidecar))

    def test_sidecars_ten_minutes_off_share_a_minutes_limit(self):
        self.more_limits = f"  - {{name: calls-minute, meter: api_calls, amount: {MINUTE}, window: Minute, cap: Hard}}\n"
        self.set_tenant("acme", 1000000)
        self.publish()
        self.stack.start_operator()
        sidecars = [self.stack.start_sidecar("right", POLICY)]
        for name, offset in (("ahead", "+600"), ("behind", "-600")):
            sidecars.append(self.stack.start_sidecar(name, POLICY, env=self.clock(name, offset).env()))
        self.begin_window(60, 30)
        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, MINUTE, "/") for sidecar in sidecars]).start().join()
        say(f"{dict(load.statuses)} in {load.seconds:.1f} s")
        self.assertEqual(set(load.statuses), {200, 429})
        self.assertEqual(self.stack.app.tenant("acme"), load.statuses[200])
        self.assertLessEqual(load.statuses[200], MINUTE)
        # What a slow one held when the others were done went unused, no more.
        self.assertGreater(load.statuses[200], MINUTE // 2)

    def test_a_sidecars_clock_steps_a_month_ahead_and_back(self):
        self.more_limits = "  - {name: calls-minute, meter: api_calls, amount: 100000, window: Minute, cap: Hard}\n"
        clock = self.clock("a", "+0")
        self.set_tenant("acme", 1000000)
        self.publish()
        self.stack.start_operator()
        sidecar = self.stack.start_sidecar("a", POLICY, env=clock.env())
        for offset in ("+0", "+2678400", "+0", "+1200", "+0", "-2678400", "+0"):
            clock.set(offset)
            time.sleep(0.3)
            self.serves(sidecar, 20)


if __name__ == "__main__":
    unittest.main()
