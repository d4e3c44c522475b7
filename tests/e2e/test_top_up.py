"""A customer pays, with the real operator: from the API to the page of Stripe's emulator and back by the webhook, killed in between."""

import subprocess
import threading
import unittest

from tests.e2e.api_base import ApiStackTest
from tests.support.process import wait_until
from tests.support.stack import binary

URLS = {"successUrl": "https://app.example/paid", "cancelUrl": "https://app.example/"}


class TopUp(ApiStackTest):
    @classmethod
    def flags(cls, folder):
        return [*ApiStackTest.flags(folder), "--checkout-url-hosts", "app.example", "--topup-first-day-max", "100000",
                "--topups-per-day", "100"]

    def setUp(self):
        super().setUp()
        self.stack.stripe.admin("POST", "settings", {"webhook_url": f"http://{self.address}/v1/webhooks/stripe"})

    def begin(self, amount, key):
        answers = []

        def asked():
            answers.append(self.call("POST", "/v1/wallet/topups", {"amount": amount, **URLS}, key))
            return answers[-1][0] == 201

        wait_until(asked, 30, f"a top-up of {amount}: {answers[-1:]}")
        return answers[-1][1]

    def balance(self):
        status, wallet = self.call("GET", "/v1/wallet")
        return wallet["balance"] if status == 200 else None

    def test_each_payment_is_credited_once_through_kill_9(self):
        self.assertEqual(self.wallet("credit", "--amount", "569.00", "--currency", "GBP", "--reason", "opening", "--actor", "test",
                                     "--idempotency-key", "opening").returncode, 0)
        session = self.begin("50.00", "k0")["sessionId"]
        self.stack.stripe.admin("POST", "act", {"session": session, "does": "pay"})
        wait_until(lambda: self.balance() == "619.00", 10, "56900 + 5000 = 61900")

        self.stack.stripe.admin("POST", "settings", {"webhook_double": 0.5, "webhook_version": "2020-08-27"})
        expected = 61900
        for i in range(3):
            session = self.begin(f"{10 + i}.00", f"k{i + 1}")["sessionId"]
            killer = threading.Timer(0.04 * i, self.stack.operator.kill9)
            killer.start()
            self.stack.stripe.admin("POST", "act", {"session": session, "does": "pay"})
            killer.join()
            self.stack.restart_operator()
            wait_until(lambda: self.call("GET", "/v1/wallet")[0] == 200, 20, "the API is back")
            expected += (10 + i) * 100
        # As Stripe does with what nobody took.
        events = [event["id"] for event in self.stack.stripe.state()["notices"]]
        self.stack.stripe.admin("POST", "act", {"deliver": events + events})
        wanted = f"{expected // 100}.{expected % 100:02d}"
        wait_until(lambda: self.balance() == wanted, 30, f"the balance {wanted}")
        wait_until(lambda: self.stack.postgres.value("select count(*) from webhook_events where status <> 'completed'") == 0, 70, "all is done")
        self.assertEqual(self.balance(), wanted)
        self.assertEqual(self.stack.postgres.value("select count(*) from credit_transactions where kind = 'credit'"), 5)
        self.assertEqual(self.stack.postgres.value("select count(*) from ledger_audit()"), 0)
        listed = subprocess.run([binary("tallygate-operator"), "stripe", "events", "list", "--database-url", self.stack.postgres.url],
                                capture_output=True, text=True, timeout=30)
        self.assertIn("credited", listed.stdout + listed.stderr)


if __name__ == "__main__":
    unittest.main()
