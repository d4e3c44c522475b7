"""The emulator's answers have the shape that Stripe's OpenAPI description gives them, as stripe-mock serves it: the same requests
to both, the same keys, the same types. stripe-mock is stateless, so values are not compared. Requirements C6, C8."""

import socket
import subprocess
import time
import unittest

from tests.support.stripe_client import StripeClient
from tests.support.tools import STRIPE_MOCK, go_tool
from tests.unit.stripe_emulator.base import KEY, EmulatorTest


def shape(value):
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "list"
    if isinstance(value, bool):
        return "boolean"
    return {type(None): "null", int: "number", float: "number", str: "string"}[type(value)]


def differences(mock, ours, path=""):
    """Keys that only one has, and types that differ; null agrees with all. Free-form maps are not looked into."""
    found = []
    for key in sorted(set(mock) | set(ours)):
        where = f"{path}.{key}" if path else key
        if key not in mock:
            found.append(f"{where}: not in Stripe's description")
        elif key not in ours:
            found.append(f"{where}: missing")
        else:
            left, right = mock[key], ours[key]
            if "null" not in (shape(left), shape(right)) and shape(left) != shape(right):
                found.append(f"{where}: {shape(left)} there, {shape(right)} here")
            elif isinstance(left, dict) and isinstance(right, dict) and key not in ("metadata", "payload"):
                found += differences(left, right, where)
            elif isinstance(left, list) and isinstance(right, list) and left and right and isinstance(left[0], dict):
                found += differences(left[0], right[0], where + "[0]")
    return found


class Shapes(EmulatorTest):
    @classmethod
    def setUpClass(cls):
        binary = go_tool(STRIPE_MOCK)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        cls.process = subprocess.Popen([binary, "-http-addr", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.process.wait)
        cls.addClassCleanup(cls.process.kill)
        cls.mock = StripeClient(f"http://127.0.0.1:{port}", KEY)
        cls.addClassCleanup(cls.mock.close)
        deadline = time.monotonic() + 30
        while True:
            try:
                cls.mock.get("/v1/customers")
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def test_the_same_requests_get_the_same_keys_and_types(self):
        customer, meter = self.customer(), self.meter()["id"]
        product = self.api.post("/v1/products", {"name": "API"})["id"]
        self.send(customer, 25, identifier="id-0")
        window = {"customer": customer, "start_time": self.minute(-3600), "end_time": self.minute(60)}
        requests = [
            ("POST", "/v1/customers", {"name": "Acme", "email": "billing@acme.example", "metadata": {"tenant": "shop/acme"}}),
            ("GET", f"/v1/customers/{customer}", {}),
            ("GET", "/v1/customers", {"limit": 1}),
            ("POST", "/v1/products", {"name": "Tokens"}),
            ("POST", "/v1/prices", {"currency": "gbp", "product": product, "unit_amount": 1,
                                    "recurring": {"interval": "month", "usage_type": "metered", "meter": meter}}),
            ("POST", "/v1/billing/meters", {"display_name": "Tokens", "event_name": "llm_tokens", "default_aggregation": {"formula": "sum"},
                                            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                                            "value_settings": {"event_payload_key": "value"}}),
            ("GET", "/v1/billing/meters", {"limit": 1, "status": "active"}),
            ("GET", f"/v1/billing/meters/{meter}", {}),
            ("POST", "/v1/billing/meter_events", {"event_name": "api_calls", "identifier": "id-1", "timestamp": self.minute(),
                                                  "payload": {"stripe_customer_id": customer, "value": "25"}}),
            ("POST", "/v1/billing/meter_event_adjustments", {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "id-1"}}),
            ("GET", f"/v1/billing/meters/{meter}/event_summaries", window),
            ("GET", f"/v1/billing/meters/{meter}/event_summaries",
             {**window, "start_time": self.minute() // 3600 * 3600 - 3600, "end_time": self.minute() // 3600 * 3600 + 3600,
              "value_grouping_window": "hour"}),
            ("POST", f"/v1/billing/meters/{meter}/deactivate", {}),
            ("POST", f"/v1/billing/meters/{meter}/reactivate", {}),
        ]
        for method, path, params in requests:
            with self.subTest(f"{method} {path}"):
                ours, theirs = self.api.request(method, path, params), self.mock.request(method, path, params)
                self.assertEqual((ours.status, theirs.status), (200, 200), (ours.body, theirs.body))
                self.assertEqual(differences(theirs.body, ours.body), [])

    def test_both_refuse_with_the_same_status_and_error_type(self):
        for method, path, params in (("POST", "/v1/billing/meters", {"event_name": "x"}), ("POST", "/v1/billing/meter_events", {"event_name": "x"}),
                                     ("POST", "/v1/billing/meter_event_adjustments", {"type": "cancel"}), ("GET", "/v1/nothing", {}),
                                     ("POST", "/v1/customers", {"nmae": "x"})):
            with self.subTest(f"{method} {path}"):
                ours, theirs = self.api.request(method, path, params), self.mock.request(method, path, params)
                self.assertEqual((ours.status, ours.error["type"]), (theirs.status, theirs.error["type"]), theirs.body)

    def test_both_want_a_key(self):
        for client in (self.api, self.mock):
            self.assertEqual(client.request("GET", "/v1/customers", headers={"Authorization": ""}).status, 401)


    def test_payments_take_the_same_requests_and_answer_in_the_same_types(self):
        """Sessions, intents, refunds and events have fewer members here than at Stripe; those that there are agree."""
        session = {"mode": "payment", "client_reference_id": "tu_1", "customer": self.customer(), "adaptive_pricing": {"enabled": False},
                   "line_items": [{"quantity": 1, "price_data": {"currency": "gbp", "unit_amount": 5000, "product_data": {"name": "Top-up"}}}],
                   "metadata": {"tallygate_topup": "tu_1"}, "payment_intent_data": {"metadata": {"tallygate_topup": "tu_1"}},
                   "expires_at": int(self.emulator.now()) + 3600, "success_url": "https://a.example/", "cancel_url": "https://a.example/"}
        id_ = self.api.post("/v1/checkout/sessions", session)["id"]
        paid = self.admin("POST", "act", {"session": self.api.post("/v1/checkout/sessions", session)["id"], "does": "pay"})
        refund = {"payment_intent": paid["payment_intent"], "amount": 100}
        requests = [
            ("POST", "/v1/checkout/sessions", session),
            ("GET", f"/v1/checkout/sessions/{id_}", {}),
            ("POST", f"/v1/checkout/sessions/{id_}/expire", {}),
            ("POST", "/v1/payment_intents", {"amount": 500, "currency": "gbp", "payment_method": "pm_card_visa"}),
            ("GET", f"/v1/payment_intents/{paid['payment_intent']}", {}),
            ("POST", "/v1/refunds", refund),
            ("POST", "/v1/billing_portal/sessions", {"customer": session["customer"], "return_url": "https://a.example/"}),
            ("GET", "/v1/events", {"limit": 1, "types": ["checkout.session.completed"], "created": {"gte": 1}}),
        ]
        for method, path, params in requests:
            with self.subTest(f"{method} {path}"):
                found = differences(self.mock.request(method, path, params).body, self.api.request(method, path, params).body)
                self.assertEqual([fault for fault in found if not fault.endswith(": missing") and "data.object" not in fault], [])


if __name__ == "__main__":
    unittest.main()
