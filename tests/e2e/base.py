"""What the end-to-end tests share: a stack of their own, manifests, and the comparison of app, ledger and Stripe."""

import os
import shutil
import sys
import tempfile
import time
import unittest

from tests.support.load import Client
from tests.support.stack import Stack

POLICY = "shop/api"
METER = "api_calls"
BOOKED_TIMEOUT_S = 60
BILLED_TIMEOUT_S = 150  # aggregates are of whole minutes

PLAN = """\
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: e2e-v1}
spec:
  displayName: End to end
  family: e2e
  pricing:
    currency: GBP
    basePrice: "0"
    meters:
    - {name: api_calls, unit: call, aggregation: Sum, settlement: Invoice, perUnits: 1000, tiers: [{upTo: 1000, price: "0"}, {price: "0.40"}]}
  limits:
  - {name: calls-month, meter: api_calls, amount: 1000000, window: Month, cap: Hard}
"""
POLICY_TEXT = """\
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPolicy
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  ports: [{port: 8080, appProtocol: HTTP}]
  identity:
  - {type: APIKey, apiKey: {header: X-Api-Key}}
  - {type: TrustedHeader, trustedHeader: {name: X-Tenant-Id, fromCIDRs: [127.0.0.1/32]}}
  routes:
  - {name: health, action: Exempt, matches: [{path: {type: Exact, value: /healthz}}]}
  defaultRoute: {action: Charge, charges: [{meter: api_calls, units: 1}]}
"""


def tenant_text(name, customer, quota, suspend=False, on_unavailable="{quota: Deny}", plan="e2e-v1"):
    return f"""\
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingTenant
metadata: {{name: {name}, namespace: shop}}
spec:
  displayName: {name}
  planRef: {{name: {plan}}}
  suspend: {str(suspend).lower()}
  billing: {{email: billing@{name}.example, interval: Month, stripe: {{customerID: {customer}}}}}
  identity: {{externalIDs: [{name}]}}
  limitOverrides:
  - {{name: calls-month, amount: {quota}}}
  onUnavailable: {on_unavailable}
"""


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


class StackTest(unittest.TestCase):
    """A stack for each test: private servers, ports and folders. A test that fails keeps its folder and says where."""

    def setUp(self):
        self.stack = Stack(tempfile.mkdtemp(prefix="tallygate-e2e-"))
        self.addCleanup(self._end)
        self.stack.start_servers()
        self.stripe = self.stack.stripe_client()
        self.addCleanup(self.stripe.close)
        self.customers = {}
        self.meter = self.stripe.ensure_meter(METER)
        self.tenants = {}

    def _end(self):
        self.stack.stop()
        result = self._outcome.result
        if any(test is self or getattr(test, "test_case", None) is self for test, _ in result.failures + result.errors):
            say(f"{self.id()} failed; its logs: {self.stack.folder}")
        elif not os.environ.get("TALLYGATE_KEEP"):
            shutil.rmtree(self.stack.folder, ignore_errors=True)

    # ---- manifests

    def set_tenant(self, name, quota, **rest):
        """Declares a tenant, or changes it; publish() puts it in force."""
        if name not in self.customers:
            self.customers[name] = self.stripe.post("/v1/customers", {"name": name})["id"]
        self.tenants[name] = {"quota": quota, **rest}

    def manifest_text(self):
        return PLAN + "".join(tenant_text(name, self.customers[name], **spec) for name, spec in self.tenants.items()) + POLICY_TEXT

    def publish(self):
        """→ the moment at which the file was in place."""
        self.stack.write_manifests(self.manifest_text())
        return time.monotonic()

    def start(self, *sidecars, tenants=None, **operator):
        """Publishes, starts operator and sidecars: → the sidecars."""
        for name, quota in (tenants or {}).items():
            self.set_tenant(name, quota)
        self.publish()
        self.stack.start_operator(**operator)
        return [self.stack.start_sidecar(name, POLICY) for name in sidecars]

    # ---- requests

    def ask(self, sidecar, tenant, path="/"):
        with Client(sidecar.address) as client:
            return client.get(path, {"X-Tenant-Id": tenant})

    def until_status(self, sidecar, tenant, status, timeout_s):
        """Asks until that status comes: → seconds since the call began."""
        began = time.monotonic()
        with Client(sidecar.address) as client:
            while True:
                response = client.get("/", {"X-Tenant-Id": tenant})
                if response.status == status:
                    return time.monotonic() - began
                if time.monotonic() - began > timeout_s:
                    self.fail(f"{tenant}: {response.status} in place of {status} for {timeout_s} s: {response}")
                time.sleep(0.01)

    # ---- what must agree

    def billed(self, tenant):
        return self.stack.stripe.total(METER, self.customers[tenant])

    def assert_books(self, tenant, units, what="every unit once"):
        """Ledger records, aggregates, postings and Stripe all say `units`, and go on saying so."""
        owner = f"shop/{tenant}"
        steps = (("usage_records", BOOKED_TIMEOUT_S, lambda: self.stack.booked(owner, METER)),
                 ("usage_aggregates", BILLED_TIMEOUT_S, lambda: self.stack.aggregated(owner, METER)),
                 ("Stripe", BILLED_TIMEOUT_S, lambda: self.billed(tenant)),
                 ("meter_submissions delivered", BILLED_TIMEOUT_S, lambda: self.stack.delivered(owner, METER)),
                 ("postings: consumed", BILLED_TIMEOUT_S, lambda: -self.stack.balance(owner, "consumed", METER)),
                 ("postings: billed", BILLED_TIMEOUT_S, lambda: self.stack.balance(owner, "billed", METER)))
        for name, timeout_s, measure in steps:
            self.wait_equal(measure, units, timeout_s, f"{what}: {tenant}: {name}")
        time.sleep(1.5)
        self.assertEqual({name: measure() for name, _, measure in steps}, {name: units for name, _, _ in steps}, f"{what}: {tenant}, later")
        self.assertEqual(self.stack.postings_sum(), 0, "ZeroSum")
        say(f"{tenant}: ledger, aggregates, postings and Stripe all say {units:,}")

    def wait_equal(self, measure, expected, timeout_s, what):
        deadline = time.monotonic() + timeout_s
        while (value := measure()) != expected:
            if value > expected or time.monotonic() > deadline:
                self.fail(f"{what}: {value}, expected {expected}")
            time.sleep(0.2)
