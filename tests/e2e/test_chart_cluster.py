"""The chart on a real API server: installed, upgraded, rolled back, removed, taken over. No node: pods are objects that nothing runs."""

import base64
import copy
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

import yaml

from tests.support.helm import CHART, NAMESPACE, ROOT, VALUES, objects, run_helm, template
from tests.support.kube import ControlPlane, tool
from tests.support.process import wait_until
from tests.support.schemas import openapi_to_schemas

BUNDLE = base64.b64encode(b"what the operator wrote").decode()
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:tallygate-operator"
PLAN = """\
apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: kept-v1}
spec:
  displayName: Kept
  family: kept
  pricing:
    currency: GBP
    basePrice: "0"
    meters:
    - {name: api_calls, unit: call, aggregation: Sum, settlement: Invoice, perUnits: 1000, tiers: [{price: "0.40"}]}
"""


class OnACluster(unittest.TestCase):
    controllers = False

    @classmethod
    def setUpClass(cls):
        cls.kube = ControlPlane(controllers=cls.controllers).start()
        cls.addClassCleanup(cls.kube.remove)
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-chart-"))
        cls.addClassCleanup(shutil.rmtree, cls.work, ignore_errors=True)
        cls.kube.make_namespace("shop")
        cls.kube.make_namespace("voice")
        # As strict as a namespace can be.
        cls.kube.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}))

    def helm(self, *args, check=True):
        return run_helm(*args, "--namespace", NAMESPACE, "--kubeconfig", self.kube.kubeconfig, check=check)

    def install(self, *args, release="tallygate", values="trial", chart=CHART, check=True):
        self.addCleanup(self.clear, release)
        return self.helm("install", release, chart, "--values", VALUES / f"{values}.yaml", *args, check=check)

    def clear(self, release):
        self.helm("uninstall", release, "--ignore-not-found", "--wait")
        for name in [crd["metadata"]["name"] for crd in self.crds()]:
            # One that goes before it is served is cleaned up in minutes only.
            self.kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
            self.kube.kubectl("delete", "crd", name, "--wait", timeout_s=240)
        self.kube.kubectl("delete", "secret", "--all", "--namespace", NAMESPACE)

    def crds(self):
        return [crd for crd in self.kube.get(CRDS)["items"] if crd["spec"]["group"] == "billing.tallygate.dev"]

    def write_bundles(self):
        for kind in ("validating", "mutating"):
            path = f"{WEBHOOKS}/{kind}webhookconfigurations/tallygate"
            patch = [{"op": "add", "path": f"/webhooks/{i}/clientConfig/caBundle", "value": BUNDLE} for i in range(len(self.kube.get(path)["webhooks"]))]
            status, answer = self.kube.request("PATCH", path, patch, "application/json-patch+json")
            self.assertEqual(status, 200, answer)

    def bundles(self):
        return {webhook["clientConfig"].get("caBundle") for kind in ("validating", "mutating")
                for webhook in self.kube.get(f"{WEBHOOKS}/{kind}webhookconfigurations/tallygate")["webhooks"]}

    def changed_chart(self, **changes):
        """The chart of another version."""
        folder = self.work / f"chart-{time.monotonic_ns()}"
        shutil.copytree(CHART, folder)
        path = folder / "Chart.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
        return folder


class Life(OnACluster):
    def test_installed_upgraded_rolled_back_removed(self):
        installed = self.install("--set", "secretNamespaces={shop}")
        self.assertIn("FOR A TRIAL ONLY", installed.stdout)
        self.assertIn("NOTHING IS SUBMITTED TO STRIPE", installed.stdout)
        self.assertNotIn("would violate PodSecurity", installed.stderr)
        self.kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        self.kube.apply(PLAN)
        self.write_bundles()
        self.assertEqual(self.bundles(), {BUNDLE})

        newer = self.changed_chart(version="0.2.0", appVersion="0.2.0")
        crd = next((newer / "files" / "crds").glob("billingplans.yaml"))
        document = yaml.safe_load(crd.read_text())
        document["spec"]["names"]["shortNames"] = ["newer"]
        crd.write_text(yaml.safe_dump(document))
        self.helm("upgrade", "tallygate", newer, "--values", VALUES / "trial.yaml", "--set", "replicas=3")
        self.assertEqual(self.bundles(), {BUNDLE}, "an upgrade leaves what the operator wrote")
        deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/tallygate-operator"
        self.assertEqual(self.kube.get(deployment)["spec"]["replicas"], 3)
        self.assertTrue(self.kube.get(deployment)["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":0.2.0"))
        self.assertEqual(self.kube.get(f"{CRDS}/billingplans.billing.tallygate.dev")["spec"]["names"]["shortNames"], ["newer"],
                         "an upgrade upgrades the CRDs")
        self.assertIsNone(self.kube.get(f"{RBAC}/namespaces/shop/roles/tallygate-operator-secrets"), "no longer in secretNamespaces")
        self.assertIsNotNone(self.kube.get("/apis/billing.tallygate.dev/v1alpha1/billingplans/kept-v1"))

        self.helm("rollback", "tallygate", "1")
        self.assertEqual(self.bundles(), {BUNDLE})
        self.assertEqual(self.kube.get(deployment)["spec"]["replicas"], 2)
        self.assertEqual(self.kube.get(f"{CRDS}/billingplans.billing.tallygate.dev")["spec"]["names"]["shortNames"], ["bplan"])

        self.helm("uninstall", "tallygate")
        self.assertEqual(len(self.crds()), 3)
        self.assertIsNotNone(self.kube.get("/apis/billing.tallygate.dev/v1alpha1/billingplans/kept-v1"))
        for kind in ("validating", "mutating"):
            self.assertEqual(self.kube.get(f"{WEBHOOKS}/{kind}webhookconfigurations")["items"], [], "nobody serves it")
        self.assertEqual([i["metadata"]["name"] for i in self.kube.get(f"{RBAC}/clusterroles")["items"] if "tallygate" in i["metadata"]["name"]], [])
        # With the operator gone nothing holds a namespace or a pod up.
        self.kube.make_namespace("later")
        self.kube.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "later", "labels": {
            "billing.tallygate.dev/inject": "enabled"}}, "spec": {"containers": [{"name": "app", "image": "app"}]}}))

    def test_the_next_release_takes_over_what_was_kept(self):
        secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/tallygate-bundled"
        no_password = ("--set", "redis.bundled.password=,postgres.bundled.password=")
        self.install(*no_password)
        passwords = self.kube.get(secret)["data"]
        self.helm("upgrade", "tallygate", CHART, "--values", VALUES / "trial.yaml", *no_password)
        self.assertEqual(self.kube.get(secret)["data"], passwords, "made once")
        self.helm("uninstall", "tallygate")
        self.install(*no_password)
        self.assertEqual(self.kube.get(secret)["data"], passwords, "as the volume of PostgreSQL, which outlives the release")
        self.helm("uninstall", "tallygate")
        refused = self.install(*no_password, release="billing-tallygate", check=False)
        self.assertIn("invalid ownership metadata", refused.stderr)
        self.install(*no_password, "--take-ownership", release="billing-tallygate")
        self.assertEqual({crd["metadata"]["annotations"]["meta.helm.sh/release-name"] for crd in self.crds()}, {"billing-tallygate"})

    def test_over_crds_that_were_applied_by_hand(self):
        self.kube.apply(ROOT / "crds")
        self.install("--take-ownership")
        self.assertEqual(self.kube.kubectl("get", "crd", "--output", "name").count("billing.tallygate.dev"), 3)

    def test_without_keep_everything_goes(self):
        self.install("--set", "crds.keep=false")
        self.helm("uninstall", "tallygate", "--wait")
        self.assertEqual(self.crds(), [])

    def test_a_release_fits_its_secret(self):
        """Helm keeps a release, chart and all, in a Secret, which holds 1 MiB at most."""
        self.install("--set", "api.enabled=true,api.insecure=true,api.serviceTokens.secretName=tokens,monitoring.dashboard.enabled=true")
        secrets = self.kube.get(f"/api/v1/namespaces/{NAMESPACE}/secrets?labelSelector=owner%3Dhelm")["items"]
        self.assertLess(max(len(secret["data"]["release"]) for secret in secrets), 700_000)


class Accepted(OnACluster):
    def test_pods_fit_the_restricted_profile(self):
        """As the API server's own admission sees it: a Deployment's pods would not be told to anybody."""
        self.install("--set", "serviceAccount.create=true")
        for document in objects(template(values="trial").stdout):
            spec = document["spec"] if document["kind"] == "Pod" else document.get("spec", {}).get("template", {}).get("spec")
            if spec:
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-made", "namespace": NAMESPACE}, "spec": copy.deepcopy(spec)}
                claims = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
                pod["spec"].setdefault("volumes", []).extend({"name": name, "emptyDir": {}} for name in claims)
                status, answer = self.kube.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", pod)
                self.assertEqual(status, 201, answer)

    def test_schemas(self):
        """kubeconform, strict, with schemas of this API server's own OpenAPI. (The CRDs are looked at by the server, at each installation.)"""
        schemas = self.work / "schemas"
        openapi_to_schemas(self.kube.get("/openapi/v2"), schemas)
        for kind in sorted(path.stem for path in VALUES.glob("*.yaml")):
            with self.subTest(kind):
                text = template(values=kind).stdout
                done = subprocess.run([tool("kubeconform"), "-strict", "-summary", "-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                                       # The last three are the Prometheus operator's, which is not here.
                                       "-skip", "CustomResourceDefinition,ServiceMonitor,PodMonitor,PrometheusRule", "-"], input=text, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_production_values_are_taken_by_the_server(self):
        text = template("--set", "monitoring.serviceMonitor.enabled=false,monitoring.podMonitor.enabled=false,monitoring.rules.enabled=false", values="production").stdout
        status, output = self.kube.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text, check=False)
        self.assertEqual(status, 0, output)
        self.assertNotIn("Warning", output)


class WhoMay(OnACluster):
    """What the API server says of the operator's account and of people's roles."""

    controllers = True  # one of them fills view, edit and admin

    def setUp(self):
        self.install("--set", "secretNamespaces={shop}")

    def may(self, verb, resource, namespace=None, name=None, group="", subresource="", user=OPERATOR, groups=()):
        attributes = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
        attributes.update({key: value for key, value in {"namespace": namespace, "name": name}.items() if value})
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes}}
        status, answer = self.kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        self.assertEqual(status, 201, answer)
        return answer["status"]["allowed"]

    def test_the_operator_reads_secrets_where_it_was_told_to(self):
        for verb in ("list", "watch"):
            self.assertTrue(self.may(verb, "secrets", "shop"))
            self.assertFalse(self.may(verb, "secrets", "voice"))
            self.assertFalse(self.may(verb, "secrets"))
        for verb in ("get", "create", "update", "patch", "delete"):
            self.assertFalse(self.may(verb, "secrets", "shop"))
        self.assertFalse(self.may("get", "secrets", NAMESPACE, "tallygate-bundled"))
        self.assertFalse(self.may("update", "secrets", NAMESPACE, "sh.helm.release.v1.tallygate.v1"))
        self.assertTrue(self.may("update", "secrets", NAMESPACE, "tallygate-webhook-certificates"))

    def test_the_operator_writes_what_is_its_own(self):
        billing = "billing.tallygate.dev"
        self.assertTrue(self.may("patch", "billingtenants", "shop", group=billing, subresource="status"))
        for verb in ("create", "delete", "update"):
            self.assertFalse(self.may(verb, "billingtenants", "shop", group=billing))
        admission = "admissionregistration.k8s.io"
        self.assertTrue(self.may("patch", "mutatingwebhookconfigurations", name="tallygate", group=admission))
        self.assertFalse(self.may("patch", "mutatingwebhookconfigurations", name="istio", group=admission))
        self.assertFalse(self.may("create", "mutatingwebhookconfigurations", group=admission))
        for resource, group in (("pods", ""), ("deployments", "apps"), ("nodes", ""), ("clusterroles", "rbac.authorization.k8s.io")):
            for verb in ("create", "update", "patch", "delete"):
                self.assertFalse(self.may(verb, resource, "shop", group=group), f"{verb} {resource}")
        self.assertFalse(self.may("create", "pods", "shop", subresource="exec"))

    def test_people(self):
        bind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"}
        for user, role in (("seller", "tallygate-billing-edit"), ("auditor", "tallygate-billing-view"), ("developer", "admin")):
            self.kube.apply(json.dumps({**bind, "metadata": {"name": user, "namespace": "shop"}, "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]}))
        billing = "billing.tallygate.dev"
        self.assertTrue(self.may("patch", "billingtenants", "shop", group=billing, user="seller"))
        self.assertFalse(self.may("patch", "billingtenants", "shop", group=billing, user="seller", subresource="status"))
        self.assertFalse(self.may("patch", "billingtenants", "voice", group=billing, user="seller"))
        self.assertFalse(self.may("patch", "billingplans", group=billing, user="seller"), "a plan is the cluster's")
        self.assertTrue(self.may("list", "billingtenants", "shop", group=billing, user="auditor"))
        self.assertFalse(self.may("patch", "billingtenants", "shop", group=billing, user="auditor"))
        wait_until(lambda: self.may("create", "deployments", "shop", group="apps", user="developer"), 30, "admin is filled")
        for verb in ("get", "patch", "create"):
            self.assertFalse(self.may(verb, "billingtenants", "shop", group=billing, user="developer"), "who deploys does not set prices")


if __name__ == "__main__":
    unittest.main()
