"""`kubectl tallygate` against a real API server, with a real operator behind the API server's proxy."""

import base64
import hashlib
import json
import socket
import subprocess
import tempfile
import threading
import unittest

from tests.e2e.api_base import PLANS, TENANT, TOKEN, start_api
from tests.support.kube import ControlPlane
from tests.support.process import wait_until
from tests.support.stack import binary
from tests.support.tools import skip_loudly

SYSTEM = "tallygate-system"
LABELS = {"app.kubernetes.io/part-of": "tallygate", "app.kubernetes.io/component": "operator"}
FINALIZER = "billing.tallygate.dev/final-usage"


def own_address():
    """One of this machine's that is not loopback: the API server's proxy goes to no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return probe.getsockname()[0]
        except OSError:
            skip_loudly("this machine has no address but loopback, which the API server's proxy refuses")


class Relay:
    """From this machine's own address to one on loopback."""

    def __init__(self, host, target):
        self._target = target.rpartition(":")[0], int(target.rpartition(":")[2])
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, timeout=30)
            except OSError:
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class KubectlTallygate(unittest.TestCase):
    def setUp(self):
        self.kube = ControlPlane(tempfile.mkdtemp(prefix="tallygate-plugin-"))
        self.addCleanup(self.kube.remove)
        self.kube.start()
        self.kube.install_crds()
        for namespace in (SYSTEM, "shop"):
            self.kube.make_namespace(namespace)
        self.kube.apply(PLANS + "---" + TENANT)

    # ---- the cluster's side of an operator

    def start_operator(self):
        def flags(folder):
            tokens = folder / "tokens.json"
            tokens.write_text(json.dumps({"tokens": [{"name": "cli", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "scopes": ["admin"],
                                                      "tenants": ["shop/acme"]}]}))
            return ["--api-service-tokens-file", str(tokens), "--metrics-interval", "1s"]
        start_api(self, flags)
        host = own_address()
        admin, api = Relay(host, self.stack.operator.admin_address), Relay(host, self.address)
        self.addCleanup(admin.close)
        self.addCleanup(api.close)
        self.make("/api/v1/namespaces/tallygate-system/pods", {
            "metadata": {"name": "operator-0", "labels": LABELS},
            "spec": {"containers": [{"name": "operator", "image": "none", "ports": [{"name": "admin", "containerPort": admin.port},
                                                                                     {"name": "api", "containerPort": api.port}]}]}})
        self.merge(f"/api/v1/namespaces/{SYSTEM}/pods/operator-0/status", {"status": {
            "phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "conditions": [{"type": "Ready", "status": "True"}]}})
        self.set_token(TOKEN)
        wait_until(lambda: "tallygate_operator_tenants{" in self.stack.operator.get("/metrics")[1], 30, "the operator knows its tenants")

    def set_token(self, token):
        self.kube.apply(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tallygate-cli", "namespace": SYSTEM},
                                    "data": {"token": base64.b64encode(token.encode()).decode()}}))

    def make(self, path, body):
        status, answer = self.kube.request("POST", path, body)
        self.assertEqual(status, 201, answer)

    def merge(self, path, body):
        status, answer = self.kube.request("PATCH", path, body, content_type="application/merge-patch+json")
        self.assertEqual(status, 200, answer)

    def set_conditions(self, path, ready="True", message="it is in force", **status):
        self.merge(path + "/status", {"status": {**status, "conditions": [
            {"type": "Ready", "status": ready, "reason": "Reason", "message": message, "lastTransitionTime": "2026-12-01T00:00:00Z"}]}})

    def all_ready(self):
        base = "/apis/billing.tallygate.dev/v1alpha1/"
        for plural in ("billingplans", "billingtenants", "billingpolicies"):
            for item in self.kube.get(base + plural)["items"]:
                namespace = item["metadata"].get("namespace")
                self.set_conditions(base + (f"namespaces/{namespace}/" if namespace else "") + f"{plural}/{item['metadata']['name']}")

    # ---- as a person

    def run_plugin(self, *args, status=0, stdin=""):
        done = subprocess.run([binary("kubectl-tallygate"), "--kubeconfig", str(self.kube.kubeconfig), *args], input=stdin, capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 or done.stdout else done.stderr

    TENANT_PATH = "/apis/billing.tallygate.dev/v1alpha1/namespaces/shop/billingtenants/acme"

    def test_looks_and_explains(self):
        self.assertIn("there is none in tallygate-system", self.run_plugin("status", status=1))
        self.run_plugin("check", "--pre")
        self.assertIn("WRONG", self.run_plugin("check", status=1))
        self.start_operator()
        self.assertIn("has not looked at it yet", self.run_plugin("status", status=1))
        self.all_ready()
        text = self.run_plugin("status")
        self.assertIn("All is well.", text)
        self.assertRegex(text, r"operator-0 +yes +leader +\d")
        document = json.loads(self.run_plugin("status", "-o", "json"))
        self.assertEqual((document["operators"][0]["leader"], document["wrong"]), (True, []))
        checks = json.loads(self.run_plugin("check", "-o", "json"))
        self.assertTrue(checks["ok"], checks)
        self.assertIn("operator-0: redis", [check["check"] for check in checks["checks"]])

        self.set_conditions(self.TENANT_PATH, ready="False", message="its plan is not there", state="hard", balance="GBP 1.50", usage=[
            {"limit": "calls-month", "used": 60, "state": "hard", "resetsAt": "2027-01-01T00:00:00Z"}])
        self.assertIn("its plan is not there", self.run_plugin("status", status=1))
        text = self.run_plugin("usage", "shop/acme")
        self.assertIn("balance GBP 1.50", text)
        self.assertRegex(text, r"calls-month +60 +hard +2027-01-01")
        self.assertEqual(json.loads(self.run_plugin("usage", "acme", "-n", "shop", "-o", "json"))["usage"][0]["used"], 60)
        text = self.run_plugin("why", "shop/acme")
        self.assertIn("429 until 2027-01-01T00:00:00Z", text)
        self.assertIn("its plan is not there", text)

        self.run_plugin("suspend", "shop/acme")
        self.assertTrue(self.kube.get(self.TENANT_PATH)["spec"]["suspend"])
        self.assertIn("403", self.run_plugin("why", "shop/acme"))
        self.run_plugin("resume", "shop/acme")
        self.assertFalse(self.kube.get(self.TENANT_PATH)["spec"]["suspend"])

    def test_credits_once_and_says_who_did(self):
        self.start_operator()
        self.run_plugin("credit", "shop/acme", "12.50", status=64)
        self.assertIn("12.50", self.run_plugin("credit", "shop/acme", "12.50", "--reason", "goodwill", "--key", "k1"))
        self.run_plugin("credit", "shop/acme", "12.50", "--reason", "goodwill", "--key", "k1")  # as after a lost answer
        self.run_plugin("credit", "shop/acme", "-2.50", "--reason", "a mistake")
        ledger = self.stack.postgres
        self.assertEqual(ledger.value("SELECT balance_micros FROM wallets WHERE tenant = 'shop/acme'"), 10_000_000)
        self.assertEqual(ledger.value("SELECT count(*) FROM audit_log WHERE actor = 'token:cli for kubectl:admin' AND reason = 'goodwill'"), 1)
        self.assertIn("402", self.run_plugin("credit", "shop/acme", "-200", "--reason", "too much", status=1))
        self.set_token("tgs_another_0123456789abcdef0123456789ab")
        self.assertIn("401", self.run_plugin("credit", "shop/acme", "1", "--reason", "r", status=1))

    def test_uninstall_frees_what_is_held(self):
        self.merge(self.TENANT_PATH, {"metadata": {"finalizers": [FINALIZER]}})
        self.make("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {
            "metadata": {"name": "tallygate", "labels": {"app.kubernetes.io/part-of": "tallygate"}},
            "webhooks": [{"name": "validate.billing.tallygate.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                          "clientConfig": {"service": {"name": "gone", "namespace": SYSTEM}},
                          "rules": [{"apiGroups": ["billing.tallygate.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                                     "resources": ["billingtenants"]}]}]})
        self.kube.request("DELETE", self.TENANT_PATH)
        self.assertIsNotNone(self.kube.get(self.TENANT_PATH), "its finalizer holds it")
        self.assertIn("nothing was done", self.run_plugin("uninstall", status=1, stdin="n\n"))
        self.assertIsNotNone(self.kube.get(self.TENANT_PATH))
        self.run_plugin("uninstall", "--yes")
        self.kube.wait_for(self.TENANT_PATH, lambda tenant: tenant is None)
        self.run_plugin("uninstall", "--yes")  # again

    def test_is_misused_kindly(self):
        self.assertIn("credit TENANT AMOUNT", self.run_plugin("--help"))
        self.assertIn("there is no command frobnicate", self.run_plugin("frobnicate", status=64))
        self.assertIn("there is no flag --frob", self.run_plugin("status", "--frob", status=64))
        self.assertIn("takes 1 arguments", self.run_plugin("usage", status=64))
        self.assertIn("404", self.run_plugin("usage", "shop/nobody", status=1))
        done = subprocess.run([binary("kubectl-tallygate"), "status", "--kubeconfig", "/nowhere"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere", done.stderr)
