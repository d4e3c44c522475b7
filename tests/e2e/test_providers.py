"""Providers' events at the real operator: signed by a second hand, a call lives and is charged, money that comes later pays what could
not be paid, a broken providers file stops the start."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from tests.e2e.api_base import start_api
from tests.e2e.test_api import USAGE
from tests.support.process import wait_until
from tests.support.stack import ROOT, binary

KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()
VAPI_SECRET = "a secret of the end-to-end tests"
TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
URL = "https://billing.example.com/v1/providers/sms/events"


def providers_file(folder):
    """The example of the documents, with secrets of ours."""
    document = json.loads((ROOT / "examples" / "api" / "providers.json").read_text())
    secret = folder / "dialer-secret"
    secret.write_text(SECRET + "\n")
    for provider in document["providers"]:
        if provider["name"] == "dialer":
            provider["secrets"] = [{"file": str(secret)}]
    path = folder / "providers.json"
    path.write_text(json.dumps(document))
    return path


class ProvidersTest(unittest.TestCase):
    def setUp(self):
        start_api(self, lambda folder: ["--api-providers-file", str(providers_file(folder))],
                  env={"VAPI_SECRET": VAPI_SECRET, "TWILIO_AUTH_TOKEN": TWILIO_TOKEN})
        wait_until(lambda: self.dialer("call.status", {"callId": "none"})[1].get("reason") == "ZeroBalance", 20, "the API knows the tenant")

    # ---- a client for each scheme: → (status, JSON or None)

    def post(self, provider, body, headers, query=""):
        request = urllib.request.Request(f"http://{self.address}/v1/providers/{provider}/events{query}", method="POST", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def dialer(self, kind, data, key=KEY, now=None):
        body = json.dumps({"type": kind, "timestamp": "2026-11-21T10:07:46Z", "data": data}).encode()
        stamp = str(int(time.time() if now is None else now))
        signed = b".".join([b"msg_1", stamp.encode(), body])
        signature = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return self.post("dialer", body, {"Content-Type": "application/json", "Webhook-Id": "msg_1", "Webhook-Timestamp": stamp,
                                          "Webhook-Signature": signature})

    def vapi(self, kind, call, **members):
        message = {"type": kind, "call": {"id": call, "metadata": {"tenant": "acme"}}, **members}
        return self.post("voice", json.dumps({"message": message}).encode(), {"Content-Type": "application/json", "X-Vapi-Secret": VAPI_SECRET})

    def twilio(self, status, message):
        query = "?" + urllib.parse.urlencode({"tenant": "acme", "callId": message})
        form = {"MessageSid": "SM1", "MessageStatus": status, "To": "+15558675310"}
        signed = URL + query + "".join(name + form[name] for name in sorted(form))
        signature = base64.b64encode(hmac.new(TWILIO_TOKEN.encode(), signed.encode(), hashlib.sha1).digest()).decode()
        return self.post("sms", urllib.parse.urlencode(form).encode(), {"X-Twilio-Signature": signature,
                                                                        "Content-Type": "application/x-www-form-urlencoded"}, query)

    # ---- the ledger

    def credit(self, amount, key):
        done = subprocess.run([binary("tallygate-operator"), "wallet", "credit", "--database-url", self.stack.postgres.url, "--tenant", "shop/acme",
                               "--amount", amount, "--currency", "GBP", "--reason", "test", "--actor", "e2e", "--idempotency-key", key],
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)

    def wallet(self):
        return subprocess.run([binary("tallygate-operator"), "wallet", "show", "--database-url", self.stack.postgres.url, "--tenant", "shop/acme"],
                              capture_output=True, text=True, timeout=30).stdout

    # ---- tests

    def test_calls_and_messages_are_held_for_and_charged_once(self):
        self.assertEqual(self.vapi("assistant-request", "v-1"), (200, {"error": "Sorry, this account has not enough credit for a call."}))
        self.credit("10", "top-up")
        self.assertEqual(self.vapi("assistant-request", "v-1"), (200, {}))
        self.assertEqual(self.vapi("status-update", "v-1", status="in-progress"), (200, {}))
        for _ in range(2):
            self.assertEqual(self.vapi("end-of-call-report", "v-1", cost=0.1843, endedReason="customer-ended-call"), (200, {}))
        status, answer = self.dialer("call.starting", {"callId": "c-1"})
        self.assertEqual((status, answer["allowed"], answer["amount"]), (200, True, "1.50"))
        status, answer = self.dialer("call.ended", {"callId": "c-1", "cost": "0.25"})
        self.assertEqual((status, answer["status"], answer["duplicate"]), (200, "settled", False), answer)
        self.assertEqual(self.twilio("delivered", "nobodys"), (204, None))
        self.assertIn("GBP 9.575284", self.wallet())  # 10 − 0.1843 × 0.79 × 1.20 − 0.25
        self.assertEqual(self.dialer("call.status", {"callId": "c-1"}, key=b"x" * 32)[0], 401)
        self.assertEqual(self.dialer("call.status", {"callId": "c-1"}, now=time.time() - 600)[0], 401)
        self.assertEqual(self.post("nobody", b"{}", {"Content-Type": "application/json"})[0], 401)
        metrics = urllib.request.urlopen(f"http://{self.stack.operator.admin_address}/metrics", timeout=10).read().decode()
        self.assertIn('tallygate_operator_provider_events_total{provider="voice",result="settled"} 1', metrics)
        self.assertIn('tallygate_operator_provider_events_total{provider="dialer",result="unauthenticated"} 2', metrics)

    def test_money_that_comes_later_pays_what_could_not_be_paid(self):
        self.credit("1", "first")
        status, answer = self.dialer("call.ended", {"callId": "dear", "cost": 20})
        self.assertEqual((status, answer["status"], answer["reason"]), (200, "unpaid", "DebtLimitExceeded"), answer)
        self.credit("20", "second")
        wait_until(lambda: "GBP 1.00" in self.wallet(), 30, "the unpaid call is charged")
        status, answer = self.dialer("call.ended", {"callId": "dear", "cost": 20})
        self.assertEqual((status, answer["status"], answer["duplicate"]), (200, "settled", True), answer)

    def test_a_broken_file_stops_the_start_with_every_fault(self):
        path = pathlib.Path(self.stack.folder) / "broken.json"
        path.write_text(json.dumps({"providers": [{"name": "A b", "adapter": "acme", "secrets": ["inline"]}, {"name": "voice", "adapter": "vapi"}]}))
        argv = [binary("tallygate-operator"), "run", "--source=dir:/tmp", "--redis-url", "redis://127.0.0.1:9", "--database-url",
                "postgresql://u@127.0.0.1:9/d", "--stripe", "disabled", "--api", "127.0.0.1:0", "--api-providers-file", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=dict(os.environ))
        self.assertEqual(done.returncode, USAGE, done.stderr)
        for place in ("broken.json", "providers[0].name", "providers[0].adapter", "providers[0].secrets[0]", "providers[1].secrets",
                      "providers[1].reserve"):
            self.assertIn(place, done.stderr)
        self.assertNotIn("inline", done.stderr)


if __name__ == "__main__":
    unittest.main()
