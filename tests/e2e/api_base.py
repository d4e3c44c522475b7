"""What the end-to-end tests of the API share."""

import hashlib
import http.client
import json
import pathlib
import subprocess
import unittest
import urllib.error
import urllib.request

from tests.support.process import free_port, wait_until
from tests.support.stack import ROOT, Stack, binary

TOKEN = "tgs_e2e_0123456789abcdef0123456789abcdef"
PLANS = (ROOT / "examples" / "plans.yaml").read_text()
TENANT = """
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingTenant
metadata: {name: acme, namespace: shop}
spec:
  displayName: Acme Ltd
  planRef: {name: enterprise-v1}
  billing: {email: billing@acme.example, interval: Month}
  identity: {externalIDs: [acme]}
  wallet: {currency: GBP, debtLimit: "5.00"}
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPolicy
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  ports: [{port: 8080, appProtocol: HTTP}]
  identity: [{type: APIKey, apiKey: {header: X-Api-Key}}]
  routes:
  - {name: run, gate: agent-run, matches: [{path: {type: PathPrefix, value: /run}}], charges: [{meter: agent_executions, units: 1}]}
  defaultRoute: {action: Charge, charges: [{meter: api_calls, units: 1}]}
"""


def start_api(test, flags_of, env=None):
    """A stack of the test's own whose operator serves the API: test.stack, test.address. flags_of(folder) → its further flags."""
    test.stack = Stack()
    test.addCleanup(test.stack.__exit__, None, None, None)
    test.stack.__enter__()
    test.stack.start_servers()
    test.stack.write_manifests(PLANS + "---" + TENANT)
    test.address = f"127.0.0.1:{free_port()}"
    test.stack.start_operator(flags=["--api", test.address, *flags_of(pathlib.Path(test.stack.folder))], env=env)


class ApiStackTest(unittest.TestCase):
    """Servers, the operator with its API, a credentials file; one tenant."""

    def setUp(self):
        start_api(self, self.flags)
        wait_until(lambda: self.call("GET", "/v1/wallet")[0] == 200, 20, "the API knows the tenant")

    @staticmethod
    def flags(folder):
        tokens = folder / "tokens.json"
        tokens.write_text(json.dumps({"tokens": [{"name": "e2e", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "scopes": ["admin"],
                                                  "tenants": ["shop/acme"]}]}))
        return ["--api-service-tokens-file", str(tokens), "--api-rate", "100000", "--api-burst", "100000", "--exchange-rates",
                "USD/GBP=0.79"]

    def call(self, method, path, body=None, key=None, content_type="application/json"):
        """→ (status, JSON); 0 where nobody listens, or no whole answer came."""
        request = urllib.request.Request(f"http://{self.address}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type})
        if key:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (OSError, http.client.HTTPException):
            return 0, None

    def wallet(self, *args):
        return subprocess.run([binary("tallygate-operator"), "wallet", *args, "--database-url", self.stack.postgres.url, "--tenant", "shop/acme"],
                              capture_output=True, text=True, timeout=30)
