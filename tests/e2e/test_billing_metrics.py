"""The billing metrics, as a real Prometheus scrapes them: what they say is what the ledger says, across a failover too."""

import json
import subprocess

from tests.e2e.base import METER, POLICY, StackTest
from tests.support.load import Client
from tests.support.prometheus import Prometheus, promtool
from tests.support.stack import ROOT

FILES = ROOT / "charts" / "tallygate" / "files"
FLAGS = ["--metrics-interval", "1s", "--tenant-metrics", "1"]
TIMEOUT_S = 90
# As the dashboard asks: a moment with two leaders counts once.
BILLED = 'sum(max by (plan, meter, settlement, currency) (tallygate_operator_billed_amount_total{currency="GBP"}))'


class BillingMetrics(StackTest):
    def use(self, sidecar, tenant, count):
        with Client(sidecar.address) as client:
            for _ in range(count):
                self.assertEqual(client.get("/", {"X-Tenant-Id": tenant}).status, 200)

    def say(self, prometheus, expression, expected, what):
        self.stack.wait_until(lambda: prometheus.value(expression) == expected or None, TIMEOUT_S,
                              f"{what}: {expression} is {expected}, not {prometheus.value(expression)}")

    def test_prometheus_is_told_what_the_ledger_says(self):
        sidecar, = self.start("a", tenants={"large": 2000, "small": 100}, flags=FLAGS)
        standby = self.stack.start_standby()
        addresses = [self.stack.operator.admin_address, standby.admin_address]
        with Prometheus(self.stack.folder, {"operator": addresses, "sidecar": [sidecar.admin_address]}, [FILES / "rules.yaml"]) as prometheus:
            units = f'sum(tallygate_operator_booked_units_total{{plan="e2e-v1", meter="{METER}", settlement="invoice"}})'
            self.say(prometheus, units, 0, "from the first tenant on")
            self.use(sidecar, "large", 1500)
            self.use(sidecar, "small", 90)
            self.assert_books("large", 1500)
            self.assert_books("small", 90)
            self.say(prometheus, units, 1590, "booked")
            self.say(prometheus, units.replace("booked", "submitted"), 1590, "submitted")
            self.say(prometheus, units.replace("booked", "billed"), 1590, "billed")
            # 1,000 are free for each tenant; 0.40 per 1,000 after that.
            self.say(prometheus, BILLED, 0.2, "their money")
            self.say(prometheus, 'tallygate_operator_tenant_usage_units{tenant="shop/large", limit="calls-month"}', 1500, "the largest tenant")
            self.say(prometheus, 'tallygate_operator_tenant_usage_units{tenant="other", limit="calls-month"}', 90, "the others")
            self.say(prometheus, 'tallygate_operator_tenants{state="warned"}', 1, "a tenant at 90 %")
            self.say(prometheus, 'sum(tallygate_operator_sidecars)', 1, "sidecars")
            # promtool finds no fault in what the leader tells.
            checked = subprocess.run([promtool(), "check", "metrics"], input=self.stack.operator.get("/metrics")[1], capture_output=True, text=True)
            self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

            self.stack.operator.kill9()
            self.say(prometheus, units, 1590, "the next leader")
            self.say(prometheus, 'count(tallygate_operator_leader == 1)', 1, "one leads")
            self.use(sidecar, "small", 10)
            self.assert_books("small", 100)
            self.say(prometheus, units, 1600, "counted on")
            self.say(prometheus, 'sum(increase(tallygate_operator_booked_units_total[1h])) <= bool 2000', 1, "and nothing twice")
            self.say(prometheus, 'tallygate_operator_tenants{state="hard"}', 1, "a tenant at its cap")
            self.ask_all(prometheus)

    def ask_all(self, prometheus):
        """Each query of dashboard and rules is one; those of the billing rows have an answer."""
        panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
        for panel in panels:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$namespace", ".*")
                answer = prometheus.query(expression)
                if "tallygate_operator_booked" in expression or "tallygate_operator_tenants" in expression:
                    self.assertTrue(answer, f"{panel['title']}: {expression}")
        self.assertAlmostEqual(prometheus.value('tallygate:billed_amount:sum{currency="GBP"}'), 0.2)
