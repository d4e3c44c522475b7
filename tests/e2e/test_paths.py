"""Hostile paths through the real sidecar to real app servers: the route that was charged is the handler that ran, or the request was
refused. What runs is what the server says in X-Handler, what is charged is what the response's quota headers say, and in the end the
ledger."""

import collections
import sys

from tests.e2e.base import StackTest
from tests.support.load import Client
from tests.support.path_servers import SERVERS, Unavailable

METERS = ("agents", "chat", "me", "other")  # a meter and a limit for each route that is charged
QUOTA = 1_000_000
BOOKED_TIMEOUT_S = 60

PLAN = """\
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: paths-v1}
spec:
  displayName: Paths
  family: paths
  pricing:
    currency: GBP
    basePrice: "0"
    meters:
""" + "".join(f"    - {{name: {meter}, unit: call, settlement: None}}\n" for meter in METERS) + "  limits:\n" + "".join(
    f"  - {{name: {meter}-month, meter: {meter}, amount: {QUOTA}, window: Month, cap: Hard}}\n" for meter in METERS)


def policy_text(name, paths):
    return f"""\
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  identity:
  - {{type: TrustedHeader, trustedHeader: {{name: X-Tenant-Id, fromCIDRs: [127.0.0.1/32]}}}}
  paths: {paths}
  routes:
  - {{name: health, action: Exempt, matches: [{{path: {{type: Exact, value: /healthz}}}}]}}
  - {{name: agents, matches: [{{path: {{type: PathPrefix, value: /v1/agents}}}}], charges: [{{meter: agents, units: 1}}]}}
  - {{name: chat, matches: [{{path: {{type: Exact, value: "/v1/chat%3Acomplete"}}}}], charges: [{{meter: chat, units: 1}}]}}
  - {{name: me, matches: [{{path: {{type: Exact, value: "/users/@me"}}}}], charges: [{{meter: me, units: 1}}]}}
  - {{name: admin, action: Deny, matches: [{{path: {{type: PathPrefix, value: /admin}}}}]}}
  defaultRoute: {{charges: [{{meter: other, units: 1}}]}}
"""


def tenant_text(name):
    return f"""\
---
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingTenant
metadata: {{name: {name}, namespace: shop}}
spec:
  displayName: {name}
  planRef: {{name: paths-v1}}
  billing: {{email: billing@{name}.example, interval: Month}}
  identity: {{externalIDs: [{name}]}}
"""


# policy → its paths. Express matches whatever the case, as ignoreCase says of it.
POLICIES = {"plain": "{}", "caseless": "{ignoreCase: true}", "normal": "{ambiguous: Normalise}", "normal-caseless":
            "{ambiguous: Normalise, ignoreCase: true}"}

PLAIN = {"/healthz": "health", "/v1/agents": "agents", "/v1/agents/run": "agents", "/v1/chat:complete": "chat", "/users/@me": "me",
         "/": "other", "/x/y": "other"}
TARGETS = ("/healthz", "/v1/agents/x", "/v1/chat:complete", "/users/@me", "/admin/x", "/x")

HOSTILE = ["/v1/agents/run/%2e%2e/%2e%2e/%2e%2e/healthz", "/v1/agents/run/../../../healthz", "/v1/agents/..;/..;/healthz", "/v1/agents;/../healthz",
           "/v1/chat%3Acomplete", "/users/%40me", "/v1/%63hat:complete", "/admin%2fx", "/v1%2fagents/x", "/%61dmin/x", "/admi%6e",
           "/admin%2f..%2fhealthz", "/healthz%2f..%2fadmin", "/healthz/..%2fadmin/x", "/healthz;/../admin/x", "/healthz;x", "/admin;x", "/admin;x/y",
           "/healthz/", "/v1/chat:complete/", "/users/@me/", "/admin/", "/healthz%0a", "/v1/chat:complete%0a", "/healthz%00", "/healthz%3Fx", "/admin%3Fx",
           "/healthz%23", "/admin%20", "/v1/chat:complete%20", "/x%2F..%2Fadmin", "/%2e/admin", "/./admin", "/.//admin/x", "/x/%252e%252e/admin",
           "/admin%252fx", "/v1/agents/a%2Fb", "/v1/agents/a;b=c", "/v1/agents//x", "/x/a%2Fb", "/x/caf%C3%A9%20y", "/x//y", "/%", "/x%zz", "/..",
           "/x/../..", "/HEALTHZ", "/ADMIN/x", "/Users/@Me", "/v1/AGENTS/x", "/%41DMIN", "/%c0%ae%c0%ae/admin", "/healthz%c0%af", "/%5c%5c/admin",
           "http://a.example/admin/../healthz", "http://a.example//admin", "http://a.example"]


def hostile_paths():
    """The list above, and each target behind and within everything that servers read in different ways."""
    for target in TARGETS:
        yield from (f"/{target}", f"//a{target}", f"/\\a{target}", f"/x/..{target}", f"/x/%2e%2e{target}", f"/x/.%2E{target}", f"/x/..;{target}",
                    f"/x/..;a=b{target}", f"/x//..{target}", f"/x/..%2f{target[1:]}", f"/x%2f..{target}", f"/x\\..{target}", f"/x%5c..{target}",
                    f"{target}/.", f"{target}/..", f"{target}/%2e", f"{target}//", f"{target}\\", f"{target}%2f", f"{target};a/../x",
                    target.replace("/", "//"), target.replace("/", "\\")[1:].join(("/", "")), target[0] + target[1:].replace("/", "%2f"),
                    target.replace("/", "/./"), target.replace("e", "%65"), target.replace("e", "%2565"))
    yield from HOSTILE


class Paths(StackTest):
    def test_the_route_that_was_charged_is_the_handler_that_ran(self):
        self.stack.write_manifests(PLAN + "".join(tenant_text(name) for name in SERVERS) +
                                   "".join(policy_text(name, paths) for name, paths in POLICIES.items()))
        self.stack.start_operator()
        charged = {}
        for name, start in SERVERS.items():
            with self.subTest(name):
                try:
                    server = start(self.stack.folder)
                except Unavailable as error:
                    print(f"\n*** SKIPPED: {name}: {error} ***", file=sys.stderr, flush=True)
                    self.skipTest(f"{name}: {error}")
                self.addCleanup(server.stop)
                charged[name] = collections.Counter()
                suffix = "caseless" if name == "express" else ""
                for policy in (suffix or "plain", f"normal-{suffix}".rstrip("-")):
                    sidecar = self.stack.start_sidecar(f"{name}-{policy}", f"shop/{policy}", upstream=server.address)
                    self.check(name, sidecar, charged[name])
        for name, counts in charged.items():
            for meter in METERS:
                self.wait_equal(lambda: self.stack.booked(f"shop/{name}", meter), counts[meter], BOOKED_TIMEOUT_S, f"{name}: {meter} in the ledger")

    def check(self, server, sidecar, charged):
        seen = collections.Counter()
        with Client(sidecar.address) as client:
            def ask(path, method="GET"):
                response = client.request(method, path, {"X-Tenant-Id": server})
                ran = response.headers.get("x-handler")
                took = next((meter for meter in METERS if f'"{meter}-month"' in response.headers.get("ratelimit-policy", "")), None)
                charged.update([took] if took else [])
                seen[f"{response.status // 100}xx"] += 1
                return response, ran, took

            for path, handler in PLAIN.items():
                for method in ("GET", "POST", "HEAD"):
                    response, ran, took = ask(path, method)
                    self.assertEqual((response.status, ran, took), (200, handler, None if handler == "health" else handler), f"{method} {path}")
            for path in PLAIN:
                for method in ("post", "Post", "get", "head"):  # which some apps take for what they are in capitals
                    response, ran, took = ask(path, method)
                    self.assertEqual((response.status, ran, took), (400, None, None), f"{method} {path}")
            self.assertEqual(ask("/admin/x")[0].status, 403)
            for path in dict.fromkeys(hostile_paths()):
                for method in ("GET", "POST"):
                    with self.subTest(f"{method} {path}"):
                        response, ran, took = ask(path, method)
                        self.assertLess(response.status, 500, response)
                        if ran is not None:  # else the server answered by itself, or the request was refused
                            self.assertEqual(took or "health", ran, response)
        self.assertGreater(seen["2xx"], 40, "the test says something of what passes")
        self.assertGreater(seen["4xx"], 40)
