"""The five gates of examples/gates.yaml (requirement A10): asked over the API and passed through a sidecar, with the same verdict and price."""

import hashlib
import json
import pathlib
import subprocess
import unittest
import urllib.error
import urllib.request

from tests.support.load import Client
from tests.support.process import free_port, wait_until
from tests.support.stack import ROOT, Stack, binary

TOKEN = "tgs_gates_0123456789abcdef0123456789abcdef"
TENANT = "shop/vandelay"
# gate: (path, meter, settlement, price)
GATES = {
    "sign_in": ("/v1/sessions", "sign_ins", "None", "0.00"),
    "sms_send": ("/v1/sms", "sms_messages", "Wallet", "0.04"),
    "phone_number": ("/v1/numbers", "phone_numbers", "Wallet", "1.00"),
    "outbound_call": ("/v1/calls", "call_minutes", "Wallet", "0.02"),
    "knowledge_base": ("/v1/knowledge/search", "kb_retrievals", "Invoice", "0.00"),  # the first thousand are included
}
PREPAID = ("sms_send", "phone_number", "outbound_call")


class Gates(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.__exit__, None, None, None)
        self.stack.start_servers()
        self.stack.write_manifests((ROOT / "examples" / "gates.yaml").read_text())
        tokens = pathlib.Path(self.stack.folder) / "tokens.json"
        tokens.write_text(json.dumps({"tokens": [{"name": "app", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                                                  "scopes": ["wallet:read"], "tenants": [TENANT]}]}))
        self.address = f"127.0.0.1:{free_port()}"
        self.stack.start_operator(flags=["--api", self.address, "--api-service-tokens-file", str(tokens)])
        wait_until(lambda: self.ask("sign_in")[0] == 200, 20, "the API knows the gates")
        self.sidecar = self.stack.start_sidecar("voice", "shop/voice")

    def ask(self, gate, **body):
        request = urllib.request.Request(f"http://{self.address}/v1/gates/{gate}/check", data=json.dumps(body).encode(),
                                         headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def through(self, gate):
        with Client(self.sidecar.address) as client:
            return client.request("POST", GATES[gate][0], {"X-Tenant-Id": "vandelay"})

    def credit(self, amount):
        done = subprocess.run([binary("tallygate-operator"), "wallet", "credit", "--amount", amount, "--currency", "GBP", "--reason", "test",
                               "--actor", "test", "--idempotency-key", f"credit {amount}", "--database-url", self.stack.postgres.url, "--tenant",
                               TENANT], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_gate_has_its_verdict_and_its_price(self):
        for gate, (_, meter, settlement, price) in GATES.items():
            status, verdict = self.ask(gate)
            self.assertEqual(status, 200, verdict)
            charge = verdict["charges"][0]
            self.assertEqual((charge["meter"], charge["units"], charge["settlement"], charge["price"]), (meter, 1, settlement, price))
            self.assertEqual(verdict["allowed"], gate not in PREPAID, verdict)
            if gate in PREPAID:
                self.assertEqual(verdict["reason"], "InsufficientBalance")
                self.assertEqual(self.through(gate).status, 402, gate)
        self.assertEqual(self.stack.app.counts()["total"], 0, "the app saw a denied request")

        self.credit("3.00")
        for gate in GATES:
            status, verdict = self.ask(gate)
            self.assertEqual((status, verdict["allowed"], verdict["reason"]), (200, True, ""), verdict)
            # The sidecar's last news may be old by up to a quarter of a second.
            wait_until(lambda: self.through(gate).status == 200, 10, f"{gate} passes")
        spent = {meter: 1 for _, meter, _, _ in GATES.values()}
        for meter, units in spent.items():
            wait_until(lambda: self.stack.booked(TENANT, meter) == units, 30, f"{meter} is booked")
        self.assertEqual(self.stack.postgres.value(f"SELECT balance_micros FROM wallets WHERE tenant = '{TENANT}'"), 3_000_000 - 1_060_000)
        self.assertEqual(self.stack.postings_sum(), 0)
        # 1.94 is left: one more number, not two.
        self.assertTrue(self.ask("phone_number")[1]["allowed"])
        self.assertEqual(self.ask("phone_number", times=2)[1]["reason"], "InsufficientBalance")
        self.assertEqual(self.ask("sign_in", times=31)[1]["limit"], "sign-ins-minute")
        self.assertEqual(self.ask("phone_number", times=20)[1]["limit"], "numbers-month")

    def test_a_suspended_tenant_does_not_sign_in_and_an_unknown_gate_is_named(self):
        text = (ROOT / "examples" / "gates.yaml").read_text()
        self.stack.write_manifests(text.replace("planRef: {name: voice-v1}\n", "planRef: {name: voice-v1}\n  suspend: true\n"))
        wait_until(lambda: self.ask("sign_in")[1].get("reason") == "Suspended", 10, "the suspension is in force")
        wait_until(lambda: self.through("sign_in").status == 403, 10, "and at the sidecar")
        status, problem = self.ask("teleport")
        self.assertEqual((status, problem["reason"]), (404, "UnknownGate"))


if __name__ == "__main__":
    unittest.main()
