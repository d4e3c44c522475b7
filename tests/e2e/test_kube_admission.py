"""The webhook on a real API server, with the chart's own configurations and permissions: injection, validation, certificates.

Neither PostgreSQL nor Redis runs here: admission needs neither."""

import base64
import http.server
import json
import pathlib
import ssl
import tempfile
import threading
import unittest

import yaml

from tests.support.helm import NAMESPACE, ROOT, objects, template
from tests.support.kube import ControlPlane
from tests.support.process import Process, free_port, wait_until
from tests.support.stack import binary

GOLDEN = ROOT / "tests" / "golden" / "inject"
GROUP = "billing.tallygate.dev"
LABEL = f"{GROUP}/inject"
SIDECAR = "tallygate-sidecar"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/tallygate-webhook-certificates"
CONFIGURATIONS = [f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/tallygate" for kind in ("mutating", "validating")]
SOON_S = 30


def policy(name, namespace, labels=None, port=8080, **spec):
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "BillingPolicy", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels or {"app": "api"}}, "ports": [{"port": port}],
                     "identity": [{"type": "APIKey", "apiKey": {"header": "X-Api-Key"}}],
                     "defaultRoute": {"charges": [{"meter": "api_calls", "units": 1}]}, **spec}}


def pod(name="api", labels=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": f"{name}-", "labels": {"app": "api", **(labels or {})}},
            "spec": {"containers": [{"name": "api", "image": "api:1", "ports": [{"name": "http", "containerPort": 8080}]}], **spec}}


def sidecars(made):
    return [c for c in made["spec"].get("initContainers", []) if c["name"] == SIDECAR]


class World(unittest.TestCase):
    controllers = False

    @classmethod
    def setUpClass(cls):
        # The webhook's Service is a name for this machine; addresses of loopback cannot be endpoints.
        cls.kube = ControlPlane(controllers=cls.controllers, apiserver_options=["--enable-aggregator-routing=false"]).start()
        cls.addClassCleanup(cls.kube.remove)
        cls.kube.install_crds()
        cls.kube.make_namespace(NAMESPACE)
        cls.folder = pathlib.Path(tempfile.mkdtemp(dir=cls.kube.folder))
        cls.namespaces = 0

    def make_namespace(self, **labels):
        type(self).namespaces += 1
        name = f"n{self.namespaces}"
        self.kube.make_namespace(name)
        if labels:
            self.label(name, **labels)
        return name

    def label(self, name, **labels):
        status, answer = self.kube.request("PATCH", f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}}, "application/merge-patch+json")
        self.assertEqual(status, 200, answer)

    def create(self, namespace, what, plural="pods", query=""):
        group = "/api/v1" if plural == "pods" else f"/apis/{GROUP}/v1alpha1"
        return self.kube.request("POST", f"{group}/namespaces/{namespace}/{plural}{query}", what)

    def create_pod(self, namespace, what=None, query=""):
        status, answer = self.create(namespace, what or pod(), query=query)
        self.assertEqual(status, 201, answer)
        return answer


class GoldenPods(World):
    def test_the_api_server_takes_each_of_them(self):
        """Its own validation, and Pod Security where the sidecar must fit."""
        free = self.make_namespace()
        restricted = self.make_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
        taken = 0
        for path in sorted(GOLDEN.glob("*.json")):
            golden = json.loads(path.read_text())
            if golden["result"]["outcome"] != "injected":
                continue
            with self.subTest(path.stem):
                made = golden["result"]["pod"]
                made["metadata"].pop("namespace", None)
                made["spec"].pop("serviceAccountName", None)
                self.create_pod(restricted if path.stem == "restricted" else free, made, "?dryRun=All&fieldValidation=Strict")
                taken += 1
        self.assertGreater(taken, 20)


class Installed(World):
    """With the webhook, and the chart's configurations."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.port = free_port()
        cls.kube.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tallygate-webhook", "namespace": NAMESPACE},
                                       "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": cls.port}]}}))
        chart = objects(template("--set", "crds.enabled=false", values="trial").stdout)
        configurations = [d for d in chart if d["kind"].endswith("WebhookConfiguration")]
        for webhook in (w for d in configurations for w in d["webhooks"]):
            webhook["clientConfig"]["service"]["port"] = cls.port
        cls.permissions = [d for d in chart if d["kind"].startswith(("ClusterRole", "Role"))]
        cls.configurations = configurations
        cls.kube.apply(yaml.safe_dump_all(configurations + cls.permissions))
        cls.kube.sign("operator", f"/CN=system:serviceaccount:{NAMESPACE}:tallygate-operator", "extendedKeyUsage=clientAuth")
        cls.kubeconfig = cls.kube.folder / "operator.conf"
        cls.kube._write_kubeconfig(cls.kubeconfig, "operator")
        cls.manifests = cls.folder / "manifests"
        cls.manifests.mkdir()
        cls.first = cls.replica("first", cls.port)
        cls.ready(cls.first)

    @classmethod
    def replica(cls, name, port, *args):
        process = Process(name, [binary("tallygate-operator"), "run", f"--source=dir:{cls.manifests}", f"--kubeconfig={cls.kubeconfig}",
                                 "--database-url=postgresql://127.0.0.1:1/none", "--redis-url=redis://127.0.0.1:1", "--stripe=disabled",
                                 f"--admin=127.0.0.1:{free_port()}", f"--webhook=127.0.0.1:{port}", "--webhook-configuration=tallygate",
                                 "--sidecar-image=sidecar:1", "--capture=unprivileged", *args], cls.folder).spawn()
        cls.addClassCleanup(process.kill9)
        process.webhook_port = port
        return process

    @classmethod
    def ready(cls, process):
        """It listens, and the API server has been told whom to trust."""
        process.wait_ready(lambda: cls.served(process) and all(cls.bundles()), SOON_S, "serves, and is trusted")

    @staticmethod
    def served(process):
        return ssl.get_server_certificate(("127.0.0.1", process.webhook_port), timeout=5)

    @classmethod
    def bundles(cls):
        return [w["clientConfig"].get("caBundle") for path in CONFIGURATIONS for w in cls.kube.get(path)["webhooks"]]

    @classmethod
    def bundle(cls):
        return cls.kube.get(SECRET)["data"]["ca.crt"]

    def injecting(self, **more):
        return self.make_namespace(**{LABEL: "enabled", **more})

    def refused(self, namespace, what, *parts, plural="pods"):
        status, answer = self.create(namespace, what, plural)
        self.assertGreaterEqual(status, 400, answer)
        for part in parts:
            self.assertIn(part, answer["message"])
        return answer["message"]


class Webhook(Installed):
    # ---- injection

    def test_a_pod_of_a_labelled_namespace_has_its_sidecar(self):
        namespace = self.injecting()
        self.create(namespace, policy("api", namespace), "billingpolicies")
        made = self.create_pod(namespace)
        sidecar = sidecars(made)[0]
        self.assertEqual(sidecar["restartPolicy"], "Always")
        self.assertIn(f"--policy={namespace}/api", sidecar["args"])
        self.assertEqual(made["spec"]["containers"][0]["ports"], [{"containerPort": 8080, "protocol": "TCP"}])
        self.assertEqual([p.get("name") for p in sidecar["ports"]], ["http", "tallygate-admin"])
        stored = self.kube.get(f"/api/v1/namespaces/{namespace}/pods/{made['metadata']['name']}")
        self.assertEqual(stored["spec"], made["spec"])

    def test_a_pod_that_asks_itself(self):
        namespace = self.make_namespace()
        self.assertEqual(sidecars(self.create_pod(namespace)), [])
        self.assertEqual(len(sidecars(self.create_pod(namespace, pod(labels={LABEL: "enabled"})))), 1)

    def test_a_dry_run_says_what_would_be_and_stores_nothing(self):
        namespace = self.injecting()
        made = self.create_pod(namespace, query="?dryRun=All")
        self.assertEqual(len(sidecars(made)), 1)
        self.assertEqual(self.kube.get(f"/api/v1/namespaces/{namespace}/pods")["items"], [])

    def test_a_running_pods_manifest_makes_the_same_again(self):
        namespace = self.injecting()
        self.create(namespace, policy("api", namespace), "billingpolicies")
        first = self.create_pod(namespace)
        again = self.create_pod(namespace, {**first, "metadata": {"generateName": "api-", "labels": first["metadata"]["labels"],
                                                                  "annotations": first["metadata"]["annotations"]}})
        self.assertEqual(again["spec"], first["spec"])

    def test_a_policy_of_the_same_moment_is_in_force(self):
        """Label, policy and pod one after the other: what a watch has not told yet is asked for."""
        for _ in range(20):
            namespace = self.make_namespace()
            self.label(namespace, **{LABEL: "enabled"})
            self.create(namespace, policy("now", namespace), "billingpolicies")
            self.assertIn(f"--policy={namespace}/now", sidecars(self.create_pod(namespace))[0]["args"])

    def test_the_oldest_policy_is_in_force(self):
        namespace = self.injecting()
        self.create(namespace, policy("zz-old", namespace), "billingpolicies")
        first = self.kube.get(f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/billingpolicies/zz-old")["metadata"]["creationTimestamp"]

        def younger():
            name = "aa-new"
            self.kube.request("DELETE", f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/billingpolicies/{name}")
            return self.create(namespace, policy(name, namespace), "billingpolicies")[1]["metadata"]["creationTimestamp"] > first
        wait_until(younger, SOON_S, "a policy of a later second", pause_s=0.3)
        self.assertIn(f"--policy={namespace}/zz-old", sidecars(self.create_pod(namespace))[0]["args"])

    def test_what_cannot_be_is_refused_with_a_word(self):
        namespace = self.injecting()
        self.create(namespace, policy("api", namespace), "billingpolicies")
        self.refused(namespace, pod(hostNetwork=True), "hostNetwork", "gateway")
        self.refused(namespace, pod(labels={LABEL: "disabled"}), "optOut")
        self.refused(namespace, pod(labels={"sidecar.istio.io/inject": "true"}), "mesh Istio")
        self.assertEqual(self.kube.get(f"/api/v1/namespaces/{namespace}/pods")["items"], [])

    def test_a_restricted_namespace_takes_an_injected_pod(self):
        namespace = self.injecting(**{"pod-security.kubernetes.io/enforce": "restricted"})
        self.create(namespace, policy("api", namespace), "billingpolicies")
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        wanted = pod()
        wanted["spec"]["containers"][0]["securityContext"] = security
        self.assertEqual(len(sidecars(self.create_pod(namespace, wanted))), 1)

    def test_people_are_warned(self):
        namespace = self.injecting()
        text = json.dumps({**pod(), "metadata": {"name": "api", "labels": {"app": "api"}}})
        status, output = self.kube.kubectl("create", "-n", namespace, "-f", "-", stdin=text, check=False)
        self.assertEqual(status, 0, output)
        self.assertIn("no BillingPolicy selects this pod", output)

    # ---- validation

    def test_what_the_schema_cannot_say_is_refused_with_field_and_fix(self):
        namespace = self.make_namespace()
        tenant = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "BillingTenant", "metadata": {"name": "acme", "namespace": namespace},
                  "spec": {"planRef": {"name": "not-there-yet"}, "billing": {"timeZone": "Europe/Lundon"}}}
        message = self.refused(namespace, tenant, "spec.billing.timeZone", plural="billingtenants")
        self.assertIn("Europe/London", message)
        tenant["spec"]["billing"]["timeZone"] = "Europe/London"
        status, answer = self.create(namespace, tenant, "billingtenants")
        self.assertEqual(status, 201, answer)  # a plan may come later: a condition tells
        name = f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/billingtenants/acme"
        self.assertEqual(self.kube.request("DELETE", name)[0], 200)

    # ---- certificates

    def test_an_overwritten_bundle_is_put_right(self):
        right = self.bundles()
        for path in CONFIGURATIONS:
            configuration = self.kube.get(path)
            for webhook in configuration["webhooks"]:
                webhook["clientConfig"]["caBundle"] = ""
            self.assertEqual(self.kube.request("PUT", path, configuration)[0], 200)
        wait_until(lambda: self.bundles() == right, SOON_S, "the bundle is ours again")
        self.create_pod(self.injecting())

    def test_an_upgrade_of_the_chart_leaves_the_bundle(self):
        right = self.bundles()
        self.kube.apply(yaml.safe_dump_all(self.configurations))
        self.assertEqual(self.bundles(), right)

    def test_all_replicas_serve_the_same_and_one_is_enough(self):
        second = self.replica("second", free_port())
        third = self.replica("third", free_port())
        for other in (second, third):
            self.ready(other)
            self.assertEqual(self.served(other), self.served(self.first))
        second.term(SOON_S)
        third.kill9()

    def test_a_new_certificate_is_served_without_a_refusal(self):
        namespace = self.injecting()
        for part in ("tls.crt", "tls.key", None):
            before, bundle = self.served(self.first), self.bundle()
            if part:
                patch = {"data": {part: base64.b64encode(b"garbage").decode()}}
                self.assertEqual(self.kube.request("PATCH", SECRET, patch, "application/merge-patch+json")[0], 200)
                wait_until(lambda: self.create_pod(namespace) and self.served(self.first) != before, SOON_S, "another certificate is served", pause_s=0)
            else:
                self.assertEqual(self.kube.request("DELETE", SECRET)[0], 200)
                wait_until(lambda: self.create_pod(namespace) and self.kube.get(SECRET), SOON_S, "the Secret is there again", pause_s=0)
                self.assertEqual(self.served(self.first), before)
            self.assertEqual(self.bundle(), bundle, "the authority is the same")
            self.create_pod(namespace)

    def test_another_authority_is_told_to_the_api_server(self):
        before, namespace = self.bundle(), self.injecting()
        patch = {"data": {"ca.key": ""}}
        self.assertEqual(self.kube.request("PATCH", SECRET, patch, "application/merge-patch+json")[0], 200)
        wait_until(lambda: self.bundle() != before and set(self.bundles()) == {self.bundle()}, SOON_S, "the new authority is told")
        wait_until(lambda: self.create(namespace, pod())[0] == 201, SOON_S, "pods are created")

    def test_certificates_of_somebody_else(self):
        folder = self.folder / "files"
        folder.mkdir()
        pki = self.kube.ca_file.parent

        def issue(name):
            key, certificate = self.kube.sign(name, "/CN=webhook", f"subjectAltName=DNS:tallygate-webhook.{NAMESPACE}.svc")
            (folder / "tls.key").write_bytes(pathlib.Path(key).read_bytes())
            (folder / "tls.crt").write_bytes(pathlib.Path(certificate).read_bytes())
            return pathlib.Path(certificate).read_text()
        first = issue("webhook-1")
        other = self.replica("files", free_port(), f"--webhook-certificates={folder}")
        wait_until(lambda: ssl.PEM_cert_to_DER_cert(self.served(other)) == ssl.PEM_cert_to_DER_cert(first), SOON_S, "it serves the file")
        second = issue("webhook-2")
        wait_until(lambda: ssl.PEM_cert_to_DER_cert(self.served(other)) == ssl.PEM_cert_to_DER_cert(second), SOON_S, "it serves the new file")
        self.assertTrue(pki.exists())
        other.term(SOON_S)

    # ---- away

    def test_while_it_is_away_labelled_pods_wait_and_all_else_goes_on(self):
        labelled, other = self.injecting(), self.make_namespace()
        self.first.kill9()
        try:
            self.refused(labelled, pod(), "failed calling webhook")
            self.refused(other, pod(labels={LABEL: "enabled"}), "failed calling webhook")
            self.create_pod(other)
            status, answer = self.create(labelled, policy("api", labelled), "billingpolicies")
            self.assertEqual(status, 201, answer)
            self.assertEqual(self.kube.request("DELETE", f"/api/v1/namespaces/{other}")[0], 200)
        finally:
            self.first.spawn()
            self.ready(self.first)
        self.assertEqual(len(sidecars(self.create_pod(labelled))), 1)

    def test_an_api_server_that_was_away(self):
        self.kube.restart_apiserver()
        namespace = self.injecting()
        self.create(namespace, policy("api", namespace), "billingpolicies")
        self.assertIn(f"--policy={namespace}/api", sidecars(self.create_pod(namespace))[0]["args"])


class Thief:
    """Another vendor's mutating webhook, which takes init containers out of pods."""

    def __init__(self, kube):
        key, certificate = kube.sign("thief", "/CN=thief", "subjectAltName=DNS:localhost")

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                response = {"uid": review["request"]["uid"], "allowed": True}
                if review["request"]["object"]["spec"].get("initContainers"):
                    patch = json.dumps([{"op": "remove", "path": "/spec/initContainers"}])
                    response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
                body = json.dumps({**review, "response": response}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        kube.apply(yaml.safe_dump({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "zz-thief"},
            "webhooks": [{"name": "thief.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "reinvocationPolicy": "IfNeeded",
                          "clientConfig": {"url": f"https://localhost:{self.server.server_port}/",
                                           "caBundle": base64.b64encode(kube.ca_file.read_bytes()).decode()},
                          "objectSelector": {"matchLabels": {"thief": "yes"}},
                          "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}]}))


class Workloads(Installed):
    """With controllers: Deployments make pods, and each namespace has its service account."""

    controllers = True

    def test_the_pods_of_a_deployment(self):
        namespace = self.injecting()
        wait_until(lambda: self.kube.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"), SOON_S, "the service account is there")
        self.create(namespace, policy("api", namespace), "billingpolicies")
        template_ = pod()
        template_["metadata"].pop("generateName")
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"},
                      "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "api"}},
                               "template": {"metadata": template_["metadata"], "spec": template_["spec"]}}}
        self.assertEqual(self.kube.request("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)[0], 201)
        pods = self.kube.wait_for(f"/api/v1/namespaces/{namespace}/pods", lambda made: len(made["items"]) == 3, SOON_S)["items"]
        for made in pods:
            sidecar = sidecars(made)[0]
            mounts = {m["mountPath"]: m["name"] for m in sidecar["volumeMounts"]}
            self.assertEqual(mounts["/var/run/secrets/kubernetes.io/serviceaccount"], "tallygate-no-token")
            self.assertFalse([m for m in sidecar["volumeMounts"] if m["name"].startswith("kube-api-access")], "no token of ours")
            app = made["spec"]["containers"][0]
            self.assertTrue([m for m in app["volumeMounts"] if m["name"].startswith("kube-api-access")], "the app's is its own affair")

    def test_while_it_is_away_a_deployment_waits_and_then_goes_on(self):
        namespace = self.injecting()
        wait_until(lambda: self.kube.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"), SOON_S, "the service account is there")
        self.first.kill9()
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
               "spec": {"template": {"metadata": {"labels": {"app": "api"}}, "spec": {**pod()["spec"], "restartPolicy": "Never"}}}}
        try:
            self.assertEqual(self.kube.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", job)[0], 201)
            events = f"/api/v1/namespaces/{namespace}/events"
            self.kube.wait_for(events, lambda told: any("failed calling webhook" in e["message"] for e in told["items"]), SOON_S)
            self.assertEqual(self.kube.get(f"/api/v1/namespaces/{namespace}/pods")["items"], [])
        finally:
            self.first.spawn()
            self.ready(self.first)
        made = self.kube.wait_for(f"/api/v1/namespaces/{namespace}/pods", lambda pods: pods["items"], 2 * SOON_S)["items"][0]
        self.assertEqual(len(sidecars(made)), 1)

    def test_a_sidecar_that_something_takes_out_again_is_missed(self):
        thief = Thief(self.kube)
        self.addCleanup(thief.server.server_close)
        self.addCleanup(thief.server.shutdown)
        namespace, other = self.injecting(), self.make_namespace()
        for name in (namespace, other):
            wait_until(lambda name=name: self.kube.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), SOON_S, "the service account is there")
        self.create(namespace, policy("api", namespace), "billingpolicies")
        wanted = pod(labels={"thief": "yes"}, initContainers=[{"name": "prepare", "image": "prepare:1"}])
        wait_until(lambda: "initContainers" not in self.create_pod(other, wanted, "?dryRun=All")["spec"], SOON_S, "the thief is at work")
        self.refused(namespace, wanted, "is to have the container tallygate-sidecar")
        self.create_pod(namespace)


if __name__ == "__main__":
    unittest.main()
