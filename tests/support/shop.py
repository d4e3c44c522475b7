"""The shop of examples/ on a real node: its images, the chart with everything in the cluster, and an app that knows nothing of it.

    archives = shop.make_images(folder)
    with NodeCluster(archives=archives) as cluster:
        cluster.apply(shop.EXAMPLES / "00-namespace.yaml")
        shop.install(cluster)
        cluster.apply(shop.EXAMPLES)
        cluster.apply(shop.APP)
        address = shop.service(cluster)
        shop.ask(address).status
"""

import json
import os

from tests.support import images
from tests.support.helm import CHART, NAMESPACE, run_helm
from tests.support.kube import ROOT
from tests.support.load import Client

EXAMPLES = ROOT / "examples"
SHOP = "shop"
KEY, LIMIT = "demo-key-acme", 60  # examples/tenants.yaml
CALL = "/v1/items"
REPOSITORY, TAG = "docker.io/local", "test"
OPERATOR = "app.kubernetes.io/component=operator"
LABEL = "billing.tallygate.dev/inject: enabled"
# It lingers after it was told to end, as an app behind a Service should: the node still sends it requests for a moment.
APP = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: api, namespace: {SHOP}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: api}}}}
  template:
    metadata: {{labels: {{app: api, {LABEL}}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: {REPOSITORY}/app:{TAG}
        imagePullPolicy: Never
        args: [/app.py, --host, 0.0.0.0, --port, "8080"]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: api, namespace: {SHOP}}}
spec: {{selector: {{app: api}}, ports: [{{port: 80, targetPort: http}}]}}
"""


def make_images(folder):
    """What the node needs, from this machine's binaries: → the archives."""
    return [
        images.redis_image(folder, f"{REPOSITORY}/redis:{TAG}"),
        images.postgres_image(folder, f"{REPOSITORY}/postgres:{TAG}"),
        images.python_image(folder, f"{REPOSITORY}/app:{TAG}", {"/app.py": ROOT / "tests" / "support" / "example_app.py"}),
        images.tallygate_image(folder, "tallygate-operator", f"{REPOSITORY}/tallygate-operator:{TAG}"),
        images.tallygate_image(folder, "tallygate-sidecar", f"{REPOSITORY}/tallygate-sidecar:{TAG}"),
    ]


def values():
    """Of the chart: everything in the cluster, and sidecars' credentials in the shop's namespace."""
    image = {"tag": TAG, "pullPolicy": "Never"}
    return {
        "redis": {"bundled": {"enabled": True, "image": f"{REPOSITORY}/redis:{TAG}"}},
        "postgres": {"bundled": {"enabled": True, "image": f"{REPOSITORY}/postgres:{TAG}", "storage": ""}},
        "image": {"repository": f"{REPOSITORY}/tallygate-operator", **image},
        "sidecar": {"image": {"repository": f"{REPOSITORY}/tallygate-sidecar", **image}, "namespaces": [SHOP]},
    }


def install(cluster, more=None):
    """helm install, with further values beside those above: → the file of values."""
    path = cluster.folder / "values.yaml"
    path.write_text(json.dumps({**values(), **(more or {})}, indent=1))  # JSON is YAML
    run_helm("install", "tallygate", CHART, "--namespace", NAMESPACE, "--create-namespace", "--values", path,
             env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.folder)})
    return path


def wait_in_force(cluster, plural, name, timeout_s=60):
    """Until the operator says of that resource of the shop that it is Ready: → the object."""
    return cluster.wait_for(path_of(plural, name), lambda item: item is not None and any(
        c["type"] == "Ready" and c["status"] == "True" and c.get("observedGeneration") == item["metadata"]["generation"]
        for c in item.get("status", {}).get("conditions", [])), timeout_s, f"{plural}/{name} is Ready")


def path_of(plural, name):
    return f"/apis/billing.tallygate.dev/v1alpha1/namespaces/{SHOP}/{plural}/{name}"


def used(tenant, limit="calls-month"):
    """What a tenant's status says was used of that limit."""
    return next((int(usage.get("used", 0)) for usage in tenant.get("status", {}).get("usage", []) if usage["limit"] == limit), 0)


def service(cluster):
    """The address of the app's Service."""
    return cluster.get(f"/api/v1/namespaces/{SHOP}/services/api")["spec"]["clusterIP"] + ":80"


def has_sidecar(pod):
    return any(container["name"] == "tallygate-sidecar" for container in pod["spec"].get("initContainers", []))


def ask(address, path=CALL, key=KEY, method="GET"):
    """One request on a connection of its own: → the response."""
    with Client(address, timeout_s=20) as client:
        return client.request(method, path, {"X-Api-Key": key} if key else {})


def reason(response):
    """Of a problem; "" where it is none."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return ""
    return json.loads(response.body).get("reason", "")


def app_saw(cluster, path=CALL):
    """How many requests of that path reached the app, over all of its pods that run. Asked inside of each pod, past every sidecar."""
    counts = [cluster.kubectl("-n", SHOP, "exec", pod["metadata"]["name"], "-c", "app", "--", "wget", "-qO-", "http://127.0.0.1:8080/_count")
              for pod in cluster.pods(SHOP, "app=api") if not pod["metadata"].get("deletionTimestamp")]
    return sum(json.loads(count)["paths"].get(path, 0) for count in counts)
