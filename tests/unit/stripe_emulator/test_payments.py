"""Payments of the emulator: sessions, intents, refunds, disputes, and the events that they give."""

import http.server
import threading
import time
import unittest

from tests.support.stripe_client import ApiError
from tests.unit.stripe_emulator.base import EmulatorTest


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.headers["Stripe-Signature"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Payments(EmulatorTest):
    def session(self, amount=2000, **params):
        return self.api.post("/v1/checkout/sessions", {
            "mode": "payment", "customer": self.customer(), "success_url": "https://a.example/", "cancel_url": "https://a.example/",
            "line_items": [{"quantity": 1, "price_data": {"currency": "gbp", "unit_amount": amount, "product_data": {"name": "Top-up"}}}],
            "expires_at": int(self.emulator.now()) + 3600, **params})

    def act(self, **spec):
        return self.admin("POST", "act", spec)

    def types(self, **params):
        return [event["type"] for event in self.api.get("/v1/events", {"limit": 100, **params})["data"]]

    def test_a_session_is_paid_once_and_has_its_intent_then(self):
        session = self.session(client_reference_id="tu_1", payment_intent_data={"metadata": {"a": "b"}})
        self.assertEqual((session["status"], session["payment_status"], session["payment_intent"]), ("open", "unpaid", None))
        paid = self.act(session=session["id"], does="pay", tax=400, discount=100)
        self.assertEqual((paid["status"], paid["payment_status"], paid["amount_total"], paid["amount_subtotal"]), ("complete", "paid", 2300, 2000))
        self.assertEqual(self.api.get("/v1/payment_intents/" + paid["payment_intent"])["metadata"], {"a": "b"})
        self.assertEqual(set(self.types()), {"payment_intent.succeeded", "checkout.session.completed"})
        with self.assertRaises(Exception):
            self.act(session=session["id"], does="pay")
        with self.assertRaises(ApiError):
            self.api.post(f"/v1/checkout/sessions/{session['id']}/expire", {})

    def test_sessions_are_refused_as_stripe_does(self):
        for amount, code in ((29, "amount_too_small"), (100000000, "amount_too_large")):
            with self.assertRaises(ApiError) as refused:
                self.session(amount)
            self.assertEqual(refused.exception.answer.body["error"]["code"], code)
        for seconds in (1000, 100000):
            with self.assertRaises(ApiError):
                self.session(expires_at=int(self.emulator.now()) + seconds)

    def test_refunds_take_no_more_than_was_paid(self):
        intent = self.act(session=self.session()["id"], does="pay")["payment_intent"]
        refund = self.api.post("/v1/refunds", {"payment_intent": intent, "amount": 1500})
        with self.assertRaises(ApiError):
            self.api.post("/v1/refunds", {"payment_intent": intent, "amount": 501})
        self.act(refund=refund["id"], does="fail")
        self.assertEqual(self.api.get("/v1/refunds/" + refund["id"])["status"], "failed")
        self.assertEqual(self.types(types=["refund.created", "refund.failed"])[::-1], ["refund.created", "refund.failed"])

    def test_test_cards(self):
        intent = self.api.post("/v1/payment_intents", {"amount": 500, "currency": "gbp", "payment_method": "pm_card_visa"})
        self.assertEqual(intent["status"], "requires_confirmation")
        self.assertEqual(self.api.post(f"/v1/payment_intents/{intent['id']}/confirm", {})["status"], "succeeded")
        declined = self.api.post("/v1/payment_intents", {"amount": 500, "currency": "gbp", "payment_method": "pm_card_chargeDeclinedLostCard"})
        with self.assertRaises(ApiError) as refused:
            self.api.post(f"/v1/payment_intents/{declined['id']}/confirm", {})
        self.assertEqual((refused.exception.answer.status, refused.exception.answer.body["error"]["code"]), (402, "card_declined"))

    def test_events_come_signed_doubled_and_lost(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.admin("POST", "settings", {"webhook_url": f"http://127.0.0.1:{server.server_port}/", "webhook_double": 1.0})
        self.act(session=self.session()["id"], does="pay")
        for _ in range(100):
            if len(server.seen) == 4:
                break
            time.sleep(0.02)
        self.assertEqual(len(server.seen), 4, "two events, each twice")
        self.assertTrue(all(seen.startswith("t=") and ",v1=" in seen for seen in server.seen))
        self.admin("POST", "settings", {"webhook_lose": 1.0})
        self.act(session=self.session()["id"], does="pay")
        self.assertEqual(self.admin("GET", "state")["post_waiting"], 0)
        self.assertEqual(len(server.seen), 4)
        self.assertEqual(len(self.types()), 4, "the list has them")


if __name__ == "__main__":
    unittest.main()
