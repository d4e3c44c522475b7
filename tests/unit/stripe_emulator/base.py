"""A fresh emulator in this process for each test."""

import json
import unittest
import urllib.request

from tests.support import stripe_emulator
from tests.support.stripe_client import StripeClient

KEY = "sk_test_emulator"


class EmulatorTest(unittest.TestCase):
    settings = {"summary_delay_s": 0, "processing_ms": 0}

    def setUp(self):
        self.server, self.base = stripe_emulator.start(settings=self.settings)
        self.addCleanup(stripe_emulator.stop, self.server)
        self.api = StripeClient(self.base, KEY)
        self.addCleanup(self.api.close)
        self.emulator = self.server.emulator

    def admin(self, method, path, body=None):
        request = urllib.request.Request(f"{self.base}/_emulator/{path}", method=method, data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def customer(self, **params):
        return self.api.post("/v1/customers", params or {"name": "Acme"})["id"]

    def meter(self, event_name="api_calls", **params):
        return self.api.post("/v1/billing/meters", {"display_name": event_name, "event_name": event_name,
                                                    "default_aggregation": {"formula": "sum"}, **params})

    def send(self, customer, value=1, event_name="api_calls", headers=None, **params):
        return self.api.request("POST", "/v1/billing/meter_events",
                                {"event_name": event_name, "payload": {"stripe_customer_id": customer, "value": value}, **params}, headers)

    def total(self, customer, event_name="api_calls"):
        return self.emulator.account.totals().get(event_name, {}).get(customer, 0)

    def minute(self, offset_s=0):
        return int(self.emulator.now() + offset_s) // 60 * 60
