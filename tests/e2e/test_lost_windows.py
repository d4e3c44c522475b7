"""A minute's hard limit while Redis loses everything again and again: at most the limit is admitted in that minute (I1), who is
denied is told why and until when, and the next minute is a whole one. docs/PROTOCOL.md, docs/adr/0010."""

import json
import time
import unittest

from tests.e2e.base import StackTest, say
from tests.support.load import Client

MINUTE = 300
LOSSES = 3


class LostWindows(StackTest):
    def manifest_text(self):
        text = super().manifest_text()
        month = "  - {name: calls-month, meter: api_calls, amount: 1000000, window: Month, cap: Hard}\n"
        self.assertIn(month, text)
        return text.replace(month, month + f"  - {{name: calls-minute, meter: api_calls, amount: {MINUTE}, window: Minute, cap: Hard}}\n")

    def ask(self, count, until=None):
        """→ how many of so many were admitted, by turns; stops at the first answer that is `until`."""
        clients = [Client(sidecar.address) for sidecar in self.sidecars]
        admitted = 0
        for i in range(count):
            self.last = clients[i % len(clients)].get("/", {"X-Tenant-Id": "acme"})
            admitted += self.last.status == 200
            if self.last.status == until:
                break
        for client in clients:
            client.close()
        return admitted

    def lose_redis(self, epochs):
        operator = self.stack.operator
        self.stack.redis.cli("FLUSHALL")
        self.stack.wait_until(lambda: operator.metric("tallygate_operator_epochs_opened_total") >= epochs
                              and operator.metric("tallygate_operator_shards_ready") == 64, 20, "new epochs are opened")

    def test_three_losses_in_a_minute(self):
        self.sidecars = self.start("a", "b", tenants={"acme": 1000000})
        left_s = 60 - time.time() % 60
        if left_s < 45:
            time.sleep(left_s + 0.5)
        minute = int(time.time() // 60)
        admitted = self.ask(100)
        self.assertEqual(admitted, 100)
        for loss in range(LOSSES):
            self.lose_redis(64 * (loss + 2))
            admitted += self.ask(2 * MINUTE, until=503)
            self.assertEqual(self.last.status, 503, "what is on lease is spent, and no more is to be had")
        self.assertEqual(int(time.time() // 60), minute, "the machine is too slow for this test: the minute is over")
        say(f"{admitted} of {MINUTE} admitted in a minute with {LOSSES} losses of Redis")
        self.assertLessEqual(admitted, MINUTE)
        self.assertIn("Redis has lost", json.loads(self.last.body)["detail"])
        self.assertAlmostEqual(int(self.last.headers["retry-after"]), 60 - time.time() % 60, delta=2)
        time.sleep(60 - time.time() % 60 + 1)
        self.assertEqual(self.ask(2 * MINUTE, until=429), MINUTE, "the next minute is a whole one")


if __name__ == "__main__":
    unittest.main()
