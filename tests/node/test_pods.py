"""Pods with a sidecar over their lives, on a real node: how soon they are ready, what a sidecar costs that has nothing to do, a Job that
completes, and replaced pods under load at the edge of a quota. Figures are printed."""

import collections
import json
import os
import pathlib
import statistics
import tempfile
import threading
import time
import unittest

from tests.support import shop
from tests.support.helm import NAMESPACE
from tests.support.node import NodeCluster
from tests.support.process import wait_until
from tests.support.shop import SHOP

KEY, TENANT, CAP = "demo-key-globex", "globex", 10000  # examples: Globex on the Standard plan
PODS_EACH = 5
CLIENTS = 4
IDLE_S = 20
LOST_AT_MOST = 500  # what one pod had admitted and not sent when it was killed: a second or two of its share of the load
IMAGE = {"image": f"{shop.REPOSITORY}/app:{shop.TAG}", "imagePullPolicy": "Never"}
INJECT = {"app": "api", "billing.tallygate.dev/inject": "enabled"}


def app_container():
    return {"name": "app", **IMAGE, "args": ["/app.py", "--host", "0.0.0.0", "--port", "8080"], "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}}


class Load:
    """Clients that each ask on a new connection, as fast as they are told to, until stop()."""

    def __init__(self, address, pause_s):
        self.address, self.pause_s = address, pause_s
        self.statuses, self.failed = collections.Counter(), []
        self._end, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        while not self._end.is_set():
            try:
                status = shop.ask(self.address, key=KEY).status
                with self._lock:
                    self.statuses[status] += 1
            except OSError as error:
                with self._lock:
                    self.failed.append(repr(error))
            time.sleep(self.pause_s)

    def wait_done(self, count, timeout_s=120):
        wait_until(lambda: self.statuses.total() >= count, timeout_s, f"{count} requests")

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join()


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tallygate-pods-")
        cls.addClassCleanup(folder.cleanup)
        cls.cluster = NodeCluster(archives=shop.make_images(pathlib.Path(folder.name)))
        cls.addClassCleanup(cls.cluster.remove)
        cls.cluster.start()
        cls.cluster.apply(shop.EXAMPLES / "00-namespace.yaml")
        # Statuses follow aggregates, which are made once a minute by default.
        shop.install(cls.cluster, {"settings": {"aggregate-interval": "2s"}})
        cls.cluster.wait_ready(NAMESPACE, shop.OPERATOR, count=2, timeout_s=180)
        cls.cluster.apply(shop.EXAMPLES)
        shop.wait_in_force(cls.cluster, "billingtenants", TENANT)
        shop.wait_in_force(cls.cluster, "billingpolicies", "api")

    # ---- how soon

    def seconds_until_ready(self, name, labels):
        """Of a pod of its own, from the request that makes it; it is gone afterwards."""
        path = f"/api/v1/namespaces/{SHOP}/pods"
        began = time.monotonic()
        status, answer = self.cluster.request("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [app_container()]}})
        self.assertEqual(status, 201, answer)
        pod = self.cluster.wait_for(f"{path}/{name}", lambda pod: any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])), 60)
        took = time.monotonic() - began
        self.cluster.kubectl("-n", SHOP, "delete", "pod", name, "--force", "--grace-period=0", "--wait=true")
        return took, pod

    def test_how_soon_a_pod_is_ready(self):
        times = collections.defaultdict(list)
        for kind, security in (("redirect", "privileged"), ("unprivileged", "baseline")):
            self.cluster.kubectl("label", "namespace", SHOP, f"pod-security.kubernetes.io/enforce={security}", "--overwrite")
            for turn in range(PODS_EACH):
                times[f"none, beside {kind}"].append(self.seconds_until_ready(f"plain-{kind}-{turn}", {"app": "other"})[0])
                took, pod = self.seconds_until_ready(f"{kind}-{turn}", INJECT)
                times[kind].append(took)
                self.assertTrue(shop.has_sidecar(pod))
                self.assertEqual(any(c["name"] == "tallygate-init" for c in pod["spec"]["initContainers"]), kind == "redirect")
        self.cluster.kubectl("label", "namespace", SHOP, "pod-security.kubernetes.io/enforce-")
        for kind, taken in times.items():
            print(f"\nready, sidecar {kind}: median {statistics.median(taken):.2f} s of {', '.join(f'{t:.2f}' for t in taken)}", flush=True)

    # ---- to the end

    def test_a_job_completes(self):
        """`restartPolicy: Never`: the sidecar ends when the app has, and the Job is complete."""
        container = {"name": "app", **IMAGE, "command": ["/bin/sh", "-c", "sleep 1; echo worked"]}
        began = time.monotonic()
        self.cluster.apply(json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": SHOP}, "spec": {
            "backoffLimit": 0, "template": {"metadata": {"labels": INJECT}, "spec": {"restartPolicy": "Never", "containers": [container]}}}}))
        self.cluster.wait_for(f"/apis/batch/v1/namespaces/{SHOP}/jobs/once", lambda job: any(
            c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in job["status"].get("conditions", [])), 90, "the Job has ended")
        took = time.monotonic() - began
        job = self.cluster.get(f"/apis/batch/v1/namespaces/{SHOP}/jobs/once")
        pod = self.cluster.pods(SHOP, "job-name=once")[0]
        self.assertEqual(job["status"].get("succeeded"), 1, job["status"])
        self.assertTrue(shop.has_sidecar(pod))
        self.assertEqual(pod["status"]["phase"], "Succeeded")
        self.assertEqual(self.cluster.kubectl("-n", SHOP, "logs", pod["metadata"]["name"], "-c", "app").strip(), "worked")
        print(f"\na Job of 1 s with its sidecar is complete after {took:.1f} s", flush=True)

    # ---- under load

    def deploy_counting_app(self, replicas):
        seen = self.cluster.folder / "seen"
        seen.mkdir()
        self.cluster.kubectl("-n", SHOP, "create", "configmap", "counting", f"--from-file=app.py={pathlib.Path(__file__).with_name('counting_app.py')}")
        container = {**app_container(), "args": ["/counting/app.py"], "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                     "volumeMounts": [{"name": "counting", "mountPath": "/counting"}, {"name": "seen", "mountPath": "/seen"}]}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": SHOP}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "api"}}, "template": {"metadata": {"labels": INJECT}, "spec": {
                "terminationGracePeriodSeconds": 30, "containers": [container], "volumes": [
                    {"name": "counting", "configMap": {"name": "counting"}}, {"name": "seen", "hostPath": {"path": str(seen), "type": "Directory"}}]}}}}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": SHOP}, "spec": {
            "selector": {"app": "api"}, "ports": [{"port": 80, "targetPort": "http"}]}}
        self.cluster.apply(json.dumps(deployment))
        self.cluster.apply(json.dumps(service))
        return seen

    def test_replaced_pods_at_the_edge_of_a_quota(self):
        cluster = self.cluster
        seen_folder = self.deploy_counting_app(3)
        pods = cluster.wait_ready(SHOP, "app=api", count=3, timeout_s=120)
        self.idle_sidecars()
        load = Load(shop.service(cluster), 0.004)
        load.wait_done(1000)
        # One is killed with its node's word only: what it had not sent yet is gone with it.
        cluster.kubectl("-n", SHOP, "delete", "pod", pods[0]["metadata"]["name"], "--force", "--grace-period=0")
        cluster.wait_ready(SHOP, "app=api", count=3, timeout_s=120)
        wait_until(lambda: not any(p["metadata"].get("deletionTimestamp") for p in cluster.pods(SHOP, "app=api")), 60, "it is gone")
        by_force, before = list(load.failed), load.statuses.total()
        cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment/api")
        cluster.kubectl("-n", SHOP, "rollout", "status", "deployment/api", "--timeout=120s", timeout_s=150)
        during = load.statuses.total() - before
        wait_until(lambda: load.statuses[429] >= 500, 120, "the quota is used up")
        load.stop()
        by_rollout = load.failed[len(by_force):]
        seen = sum(os.stat(path).st_size for path in seen_folder.iterdir())
        used = self.settled_usage(seen)
        print(f"\ncap {CAP}: the app saw {seen}, clients got {dict(load.statuses)}, the ledger has {used}; "
              f"without an answer: {len(by_force)} at the forced deletion, {len(by_rollout)} of some {during} in the rolling restart", flush=True)
        self.assertLessEqual(seen, CAP)
        self.assertLessEqual(used, seen)
        self.assertGreaterEqual(used, seen - LOST_AT_MOST)
        self.assertEqual(by_rollout, [])
        self.assertEqual(set(load.statuses), {200, 429}, load.statuses)

    def settled_usage(self, wanted, patience_s=60):
        """What the tenant's status says once it has all of it, or else in the end."""
        deadline = time.monotonic() + patience_s
        while True:
            used = shop.used(self.cluster.get(shop.path_of("billingtenants", TENANT)))
            if used >= wanted or time.monotonic() > deadline:
                return used
            time.sleep(0.5)

    # ---- at rest

    def idle_sidecars(self):
        def used_s(pid):
            fields = pathlib.Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and self.is_sidecar(pid)]
        before, began = {pid: used_s(pid) for pid in mine}, time.monotonic()
        time.sleep(IDLE_S)
        took = time.monotonic() - began
        figures = []
        for pid in mine:
            status = pathlib.Path("/proc", pid, "status").read_text()
            rss = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith(("VmRSS", "RssAnon"))}
            figures.append(f"{rss['VmRSS'] / 1024:.1f} MiB resident ({rss['RssAnon'] / 1024:.1f} its own), {(used_s(pid) - before[pid]) / took * 100:.2f} % of a core")
        print("\nidle sidecars, with the kubelet's probes: " + "; ".join(figures), flush=True)

    def is_sidecar(self, pid):
        try:
            words = pathlib.Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            return words[0].endswith(b"tallygate-sidecar") and b"run" in words and self.cluster.name in pathlib.Path("/proc", pid, "cgroup").read_text()
        except OSError:
            return False


if __name__ == "__main__":
    unittest.main()
