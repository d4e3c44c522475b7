"""What the chart installs, running: the operator in its image's root, with the arguments, Secrets and the account that the chart gives it,
against a real API server that writes down who asked for what. No node: this test is kubelet (tests/support/pod.py)."""

import json
import pathlib
import shutil
import tempfile
import unittest

from tests.support.helm import CHART, NAMESPACE, ROOT, run_helm
from tests.support.image import ImageRoot, needs_root
from tests.support.kube import ControlPlane
from tests.support.pod import RunningPod
from tests.support.process import free_port, wait_until
from tests.support.stack import Stack, http_get

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:tallygate-operator"
AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["%s"]}
- {level: None}
""" % ACCOUNT
# Granted, and used where this test does not come: each with the place in the code.
SELDOM = {
    ("get", "", "namespaces"): "operator/admission/cluster_view.cc: a namespace that was made a moment ago",
    ("update", "", "secrets"): "operator/admission/certificate_keeper.cc: certificates are renewed",
    ("patch", "events.k8s.io", "events"): "operator/kube/events.cc: an Event that comes again becomes a count",
}


class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        needs_root()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-running-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.folder.chmod(0o755)
        policy = cls.folder / "audit.yaml"
        policy.write_text(AUDIT)
        cls.audit = cls.folder / "audit.log"
        cls.kube = ControlPlane(apiserver_options=[f"--audit-policy-file={policy}", f"--audit-log-path={cls.audit}", "--audit-log-mode=blocking"]).start()
        cls.addClassCleanup(cls.kube.remove)
        cls.stack = Stack(cls.folder / "stack")
        cls.addClassCleanup(cls.stack.stop)
        cls.stack.start_servers()
        cls.image = ImageRoot("operator", cls.folder)
        for namespace in (NAMESPACE, "shop"):
            cls.kube.make_namespace(namespace)
        for name, url in (("redis", cls.stack.redis.url), ("ledger", cls.stack.postgres.url)):
            cls.kube.kubectl("create", "secret", "generic", name, f"--from-literal=url={url}", "--namespace", NAMESPACE)
        cls.ports = {name: free_port() for name in ("admin", "webhook")}
        run_helm("install", "tallygate", CHART, "--namespace", NAMESPACE, "--kubeconfig", cls.kube.kubeconfig, "--set",
                 "redis.existingSecret.name=redis,postgres.existingSecret.name=ledger,secretNamespaces={shop},sidecar.namespaces={shop},settings.aggregate-interval=1s,"
                 + ",".join(f"{name}.port={port}" for name, port in cls.ports.items()))
        cls.kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        spec = cls.kube.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/tallygate-operator")["spec"]["template"]["spec"]
        cls.operator = RunningPod(cls.kube, cls.image, "operator-1", spec, NAMESPACE, cls.folder).start()
        cls.addClassCleanup(cls.operator.process.kill9)
        cls.operator.process.wait_ready(lambda: cls.probe("/readyz")[0] == 200, 60, "is ready")

    @classmethod
    def probe(cls, path):
        return http_get(f"127.0.0.1:{cls.ports['admin']}", path)

    def test_helm_test_finds_nothing_wrong(self):
        hooks = run_helm("get", "hooks", "tallygate", "--namespace", NAMESPACE, "--kubeconfig", self.kube.kubeconfig).stdout
        self.kube.kubectl("apply", "--dry-run=server", "-f", "-", stdin=hooks)
        pod = json.loads(self.kube.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=hooks))
        verify = RunningPod(self.kube, self.image, "verify", pod["spec"], NAMESPACE, self.folder).start()
        self.addCleanup(verify.process.kill9)
        self.assertEqual(verify.process.wait_exit(60), 0, verify.process.out_text() + verify.process.log_text())

    def test_what_it_may_is_what_it_does(self):
        self.kube.apply(ROOT / "examples")
        self.ready("shop")
        acme = "/apis/billing.tallygate.dev/v1alpha1/namespaces/shop/billingtenants/acme"
        self.kube.wait_for(acme, lambda tenant: tenant["metadata"].get("finalizers"))
        self.kube.kubectl("delete", "--timeout=60s", "--namespace=shop", "billingtenant", "acme")
        try:
            wait_until(lambda: not self.unused(), 30, "each right is used", 0.5)
        except TimeoutError:
            self.fail(f"it may what it does not do: {sorted(self.unused())}")
        self.assertEqual({self.words(entry) for entry in self.asked() if entry["responseStatus"]["code"] in (401, 403)}, set(), "what it may not do")
        self.assertEqual(set(SELDOM) - self.granted(), set())

    def unused(self):
        return self.granted() - {self.words(entry) for entry in self.asked()} - set(SELDOM)

    def asked(self):
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    def ready(self, namespace):
        def all_ready():
            objects = self.kube.get("/apis/billing.tallygate.dev/v1alpha1/billingplans")["items"]
            for plural in ("billingtenants", "billingpolicies"):
                objects += self.kube.get(f"/apis/billing.tallygate.dev/v1alpha1/namespaces/{namespace}/{plural}")["items"]
            return all(any(c["type"] == "Ready" and c["status"] == "True" for c in each.get("status", {}).get("conditions", [])) for each in objects)
        wait_until(all_ready, 30, "every object of examples/ is Ready", 0.2)

    @staticmethod
    def words(entry):
        """Verb, group, resource."""
        about = entry.get("objectRef") or {}
        resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
        return entry["verb"], about.get("apiGroup", ""), resource

    def granted(self):
        base = "/apis/rbac.authorization.k8s.io/v1"
        rules = self.kube.get(f"{base}/clusterroles/tallygate-operator")["rules"]
        for namespace, name in ((NAMESPACE, "tallygate-operator"), ("shop", "tallygate-operator-secrets"), ("shop", "tallygate-operator-sidecars")):
            rules += self.kube.get(f"{base}/namespaces/{namespace}/roles/{name}")["rules"]
        return {(verb, group, resource) for rule in rules for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]}


if __name__ == "__main__":
    unittest.main()
