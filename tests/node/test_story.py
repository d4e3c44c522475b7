"""The whole product on a real node, as a platform team meets it: the chart with its bundled Redis and PostgreSQL, `kubectl apply -f examples/`,
an app that knows nothing of it under a label, traffic through its Service, 429 at the exact unit, and `kubectl get btenant` shows it."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import tempfile
import unittest

from tests.support import images
from tests.support.helm import CHART, NAMESPACE, run_helm
from tests.support.node import NodeCluster
from tests.support.stack import ROOT

KEY, LIMIT = "demo-key-acme", 60  # examples/tenants.yaml
REPOSITORY = "docker.io/local"
APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api, billing.tallygate.dev/inject: enabled}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: docker.io/local/app:test
        imagePullPolicy: Never
        args: [/app.py, --host, 0.0.0.0, --port, "8080", --key, demo-key-acme=acme]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}
"""


def make_images(folder):
    """What the node needs, from this machine's binaries: → the archives."""
    return [
        images.redis_image(folder, f"{REPOSITORY}/redis:test"),
        images.postgres_image(folder, f"{REPOSITORY}/postgres:test"),
        images.python_image(folder, f"{REPOSITORY}/app:test", {"/app.py": ROOT / "tests" / "support" / "example_app.py"}),
        images.tallygate_image(folder, "tallygate-operator", f"{REPOSITORY}/tallygate-operator:test"),
        images.tallygate_image(folder, "tallygate-sidecar", f"{REPOSITORY}/tallygate-sidecar:test"),
    ]


def install(cluster):
    """helm install with everything in the cluster, and sidecars' credentials in `shop`."""
    settings = {
        "redis.bundled.enabled": "true", "redis.bundled.image": f"{REPOSITORY}/redis:test",
        "postgres.bundled.enabled": "true", "postgres.bundled.image": f"{REPOSITORY}/postgres:test", "postgres.bundled.storage": "",
        "image.repository": f"{REPOSITORY}/tallygate-operator", "image.tag": "test", "image.pullPolicy": "Never",
        "sidecar.image.repository": f"{REPOSITORY}/tallygate-sidecar", "sidecar.image.tag": "test", "sidecar.image.pullPolicy": "Never",
        "sidecar.namespaces[0]": "shop",
    }
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    run_helm("install", "tallygate", CHART, "--namespace", NAMESPACE, "--create-namespace", *flags,
             env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.folder)})


def ask(host, port, path="/", key=KEY):
    """→ (status, reason of a problem or "")."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path, headers={"X-Api-Key": key} if key else {})
        response = connection.getresponse()
        body = response.read()
        problem = response.headers.get_content_type() == "application/problem+json"
        return response.status, json.loads(body).get("reason", "") if problem else ""
    finally:
        connection.close()


class Story(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tallygate-story-")
        self.addCleanup(folder.cleanup)
        self.cluster = NodeCluster(archives=make_images(pathlib.Path(folder.name)))
        self.addCleanup(self.cluster.remove)
        self.cluster.start()

    def ready(self, kind, name, timeout_s=60):
        plural = kind + ("ies" if kind.endswith("y") else "s")
        path = f"/apis/billing.tallygate.dev/v1alpha1/namespaces/shop/{plural}/{name}"
        self.cluster.wait_for(path.replace("policyies", "policies"), lambda item: item is not None and any(
            c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", [])), timeout_s, f"{kind} {name} is Ready")

    def test_from_the_chart_to_the_exact_unit(self):
        cluster = self.cluster
        cluster.apply(ROOT / "examples" / "00-namespace.yaml")
        install(cluster)
        cluster.wait_ready(NAMESPACE, "app.kubernetes.io/component=operator", timeout_s=180)
        cluster.apply(ROOT / "examples")
        self.ready("billingtenant", "acme")
        cluster.apply(APP)
        pods = cluster.wait_ready("shop", "app=api", count=2, timeout_s=120)
        self.assertTrue(all(any(c["name"] == "tallygate-sidecar" for c in pod["spec"].get("initContainers", [])) for pod in pods))
        service = cluster.get("/api/v1/namespaces/shop/services/api")["spec"]["clusterIP"]

        self.assertEqual(ask(service, 80, key=None)[0], 401)
        self.assertEqual(ask(service, 80, "/healthz", key=None)[0], 200)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(service, 80), range(LIMIT + 30)))
        self.assertEqual(sum(status == 200 for status, _ in answers), LIMIT, answers)
        self.assertEqual({reason for status, reason in answers if status != 200}, {"QuotaExhausted"})
        # What went past the sidecar's port, to the pod's own, was captured too.
        self.assertEqual(ask(pods[0]["status"]["podIP"], 8080)[0], 429)

        cluster.wait_for("/apis/billing.tallygate.dev/v1alpha1/namespaces/shop/billingtenants/acme",
                         lambda tenant: any(u.get("limit") == "calls-month" and int(u.get("used", 0)) == LIMIT for u in tenant["status"].get("usage", [])),
                         120, "the tenant's status shows what was used")
        print(cluster.kubectl("get", "btenant,bplan,bpolicy", "-A"))
        # A rollout restart under the same Service: nothing more is admitted.
        cluster.kubectl("-n", "shop", "rollout", "restart", "deployment/api")
        cluster.kubectl("-n", "shop", "rollout", "status", "deployment/api", "--timeout=120s", timeout_s=150)
        self.assertEqual({ask(service, 80)[0] for _ in range(10)}, {429})


if __name__ == "__main__":
    unittest.main()
