"""A real API server as the source of the manifests: `kubectl apply` is enough, statuses say what is in force and what is used, and
nothing is lost for what the API server forgets. Requirements A4, E2, E3, E7."""

import json
import pathlib
import time

from tests.e2e.base import POLICY, StackTest, say, tenant_text
from tests.support.kube import ControlPlane
from tests.support.load import Client, Load
from tests.support.process import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
API = "/apis/billing.tallygate.dev/v1alpha1"
FINALIZER = "billing.tallygate.dev/final-usage"


def condition(obj, kind):
    found = [c for c in ((obj or {}).get("status") or {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {}


def is_ready(obj):
    ready = condition(obj, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration") == obj["metadata"]["generation"]


class KubeSource(StackTest):
    def setUp(self):
        super().setUp()
        self.kube = ControlPlane(self.stack.folder / "kube")
        self.addCleanup(self.kube.stop)
        self.kube.start()
        self.kube.install_crds()
        self.kube.make_namespace("shop")

    def start_operator(self, *flags, **more):
        self.stack.start_operator(aggregate_interval="200ms", source=f"kubernetes:{self.kube.kubeconfig}", flags=flags, **more)

    def tenant(self, name):
        return self.kube.get(f"{API}/namespaces/shop/billingtenants/{name}")

    def all_objects(self):
        return [item for plural in ("billingplans", "billingtenants", "billingpolicies") for item in self.kube.get(f"{API}/{plural}")["items"]]

    def wait_ready(self, timeout_s=30):
        """→ seconds until every object is Ready, of its newest generation."""
        began = time.monotonic()
        wait_until(lambda: all(map(is_ready, self.all_objects())), timeout_s, "every object is Ready")
        return time.monotonic() - began

    def apply_tenants(self, **quotas):
        for name, quota in quotas.items():
            self.set_tenant(name, quota)
        self.kube.apply(self.manifest_text())

    def wait_tenant(self, name, check, what, timeout_s=15):
        return self.kube.wait_for(f"{API}/namespaces/shop/billingtenants/{name}", lambda obj: obj is not None and check(obj), timeout_s, what)

    def load(self, sidecar):
        return Load([(sidecar.address, {"X-Tenant-Id": "acme"}, 1_000_000, "/")] * 2, pause_s=0.02).start()

    # ---- tests

    def test_apply_is_enough(self):
        """examples/ are Ready within five seconds, and a request is enforced at the exact unit, which the status tells."""
        self.start_operator()
        self.kube.apply(ROOT / "examples")
        took_s = self.wait_ready()
        say(f"kubectl apply -f examples/: every object Ready after {took_s:.1f} s")
        self.assertLess(took_s, 5)
        sidecar = self.stack.start_sidecar("a", "shop/api")
        statuses = [self.ask(sidecar, "acme").status for _ in range(65)]
        self.assertEqual((statuses.count(200), statuses.count(429)), (60, 5))  # acme's limitOverride is 60
        acme = self.wait_tenant("acme", lambda obj: obj["status"].get("state") == "hard", "acme's state is hard", 30)
        usage = {u["limit"]: u for u in acme["status"]["usage"]}["calls-month"]
        self.assertEqual((usage["used"], usage["amount"], usage["state"]), (60, 60, "hard"))
        self.assertEqual(acme["status"]["usedPercent"], 100)
        self.assertTrue(is_ready(acme), "a cap is no fault of the generation")
        self.assertIn("hard", self.kube.kubectl("get", "btenant", "-n", "shop", "acme"))
        wait_until(lambda: "LimitReached" in self.kube.kubectl("describe", "btenant", "-n", "shop", "acme"), 15, "people are told")
        plan = self.kube.get(f"{API}/billingplans/standard-v1")
        self.assertEqual(plan["status"]["tenants"], 2)

    def test_a_bad_version_says_so_and_the_old_one_stays(self):
        self.start_operator()
        self.apply_tenants(acme=1000, globex=1000)
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 200, 5)
        bad = tenant_text("acme", self.customers["acme"], 1000, plan="gold")
        self.kube.apply(bad)
        began = time.monotonic()
        acme = self.wait_tenant("acme", lambda obj: condition(obj, "Accepted").get("status") == "False", "the refusal is told")
        say(f"a refused version says so {1000 * (time.monotonic() - began):.0f} ms after it was applied")
        self.assertEqual(condition(acme, "Accepted")["reason"], "NotFound")
        self.assertIn("BillingPlan gold", condition(acme, "Accepted")["message"])
        self.assertIn("generation 1 stays in force", condition(acme, "Ready")["message"])
        self.assertEqual(condition(acme, "Ready")["observedGeneration"], 2)
        self.assertEqual(self.ask(sidecar, "acme").status, 200)
        # Also over a restart.
        self.stack.operator.kill9()
        self.stack.restart_operator()
        self.assertEqual(self.ask(sidecar, "acme").status, 200)
        self.apply_tenants(acme=5)
        self.wait_ready()
        self.wait_tenant("acme", lambda obj: obj["status"]["usage"][0]["amount"] == 5, "the new amount is in force")

    def test_at_rest_nothing_is_written(self):
        self.start_operator()
        self.apply_tenants(**{f"t{i}": 1000 for i in range(20)})
        self.wait_ready()
        wait_until(lambda: all(FINALIZER in self.tenant(f"t{i}")["metadata"].get("finalizers", []) for i in range(20)), 15, "all are held")
        time.sleep(3)
        before = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in self.all_objects()}
        published = self.stack.operator.metric("tallygate_operator_publications_total")
        requests = self.stack.operator.metric("rest_client_requests_total")
        time.sleep(10)
        self.assertEqual({obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in self.all_objects()}, before)
        self.assertEqual(self.stack.operator.metric("tallygate_operator_publications_total"), published)
        self.assertEqual(self.stack.operator.metric("rest_client_requests_total"), requests, "no call in ten seconds")

    def test_deletion_stops_admission_books_the_last_usage_and_ends(self):
        self.start_operator()
        self.apply_tenants(acme=1000, globex=1000)
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 200, 5)
        for _ in range(9):
            self.assertEqual(self.ask(sidecar, "acme").status, 200)
        self.wait_tenant("acme", lambda obj: FINALIZER in obj["metadata"].get("finalizers", []), "acme is held")
        self.kube.kubectl("delete", "btenant", "-n", "shop", "acme", "--wait=false")
        self.until_status(sidecar, "acme", 403, 10)
        self.assertIsNotNone(self.tenant("acme"), "it waits for its last usage")
        wait_until(lambda: self.tenant("acme") is None, 60, "acme is let go")
        self.assertEqual(self.stack.aggregated("shop/acme", "api_calls"), self.stack.app.tenant("acme"))
        self.assertEqual(self.stack.postgres.value("SELECT count(*) FROM audit_log WHERE tenant = 'shop/acme' AND action = 'tenant.end'"), 1)
        self.assertEqual(self.ask(sidecar, "globex").status, 200)

    def test_api_keys_from_a_secret(self):
        self.kube.kubectl("create", "secret", "generic", "-n", "shop", "acme-keys", "--from-literal=key=s3cret-of-acme")
        self.start_operator("--secret-namespaces=shop")
        self.set_tenant("acme", 1000)
        self.kube.apply(self.manifest_text().replace("identity: {externalIDs: [acme]}", "identity: {apiKeySecretRefs: [{name: acme-keys}]}"))
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)

        def status_of(key):
            with Client(sidecar.address) as client:
                return client.get("/", {"X-Api-Key": key}).status

        wait_until(lambda: status_of("s3cret-of-acme") == 200, 10, "the key of the Secret is taken")
        self.kube.kubectl("patch", "secret", "-n", "shop", "acme-keys", "-p", '{"stringData": {"key": "another-key-of-acme"}}')
        wait_until(lambda: status_of("another-key-of-acme") == 200, 10, "the new key is taken")
        wait_until(lambda: status_of("s3cret-of-acme") == 401, 10, "the old key is refused")
        kept = self.stack.postgres.value("SELECT string_agg(manifest::text, '') FROM accepted_manifests")
        self.assertNotIn("s3cret", kept + self.stack.operator.process.log_text())

    def test_deleted_while_the_operator_was_down(self):
        self.start_operator()
        self.apply_tenants(acme=1000, globex=1000)
        self.wait_ready()
        self.stack.operator.term()
        self.kube.kubectl("patch", "btenant", "-n", "shop", "acme", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
        self.kube.kubectl("delete", "btenant", "-n", "shop", "acme")
        self.stack.restart_operator()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 403, 10)
        self.until_status(sidecar, "globex", 200, 10)

    def test_the_crd_goes_and_comes_back(self):
        """Nobody is denied, nothing hangs in Terminating, and readiness says SourceLost meanwhile."""
        self.start_operator()
        self.apply_tenants(acme=100000, globex=100000)
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 200, 5)
        self.wait_tenant("acme", lambda obj: FINALIZER in obj["metadata"].get("finalizers", []), "acme is held")
        load = self.load(sidecar)
        self.kube.kubectl("delete", "crd", "billingtenants.billing.tallygate.dev", "--timeout=60s")
        wait_until(lambda: "SourceLost" in self.stack.operator.get("/readyz")[1], 15, "readiness says SourceLost")
        time.sleep(2)
        self.kube.install_crds()
        self.kube.apply(self.manifest_text())
        self.wait_ready(60)
        wait_until(self.stack.operator.ready, 15, "the operator is ready")
        load.stop()
        self.assertEqual(set(load.statuses), {200}, load.statuses)
        say(f"{load.statuses[200]:,} requests passed while the CRD went and came back")

    def test_an_api_server_that_restarts_denies_nobody(self):
        self.start_operator()
        self.apply_tenants(acme=100000)
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 200, 5)
        load = self.load(sidecar)
        self.kube.apiserver.kill9()
        wait_until(lambda: "billing" in json.dumps(json.loads(self.stack.operator.get("/health")[1])["services"]["manifests"]), 20, "/health says it")
        self.assertEqual(self.stack.operator.get("/readyz")[0], 200, "what is in force stays in force")
        self.kube.start_apiserver()
        self.apply_tenants(acme=100001)
        self.wait_ready(90)
        load.stop()
        self.assertEqual(set(load.statuses), {200}, load.statuses)

    def test_another_cluster_changes_nothing_until_it_is_adopted(self):
        self.start_operator()
        self.apply_tenants(acme=1000)
        self.wait_ready()
        sidecar = self.stack.start_sidecar("a", POLICY)
        self.until_status(sidecar, "acme", 200, 5)
        self.stack.operator.term()
        other = ControlPlane(self.stack.folder / "other")
        self.addCleanup(other.stop)
        other.start()
        other.install_crds()
        other.make_namespace("shop")
        self.set_tenant("acme", 1000)
        self.set_tenant("initech", 1000)
        other.apply(self.manifest_text())
        self.kube = other
        self.start_operator(migrate=False, wait_ready=False)
        wait_until(lambda: "--adopt-cluster" in self.stack.operator.get("/readyz")[1], 20, "it says whose objects are in force")
        self.assertEqual(self.ask(sidecar, "initech").status, 403)
        self.assertEqual(self.ask(sidecar, "acme").status, 200)
        self.stack.operator.term()
        self.start_operator("--adopt-cluster", migrate=False)
        self.until_status(sidecar, "initech", 200, 10)
