#!/usr/bin/env python3
"""Tallygate on a Kubernetes node of this machine's own, and its story told with real pods and requests. Called by `make demo-k8s`, as root.

Starts etcd, an API server, containerd, kubelet, kube-proxy and DNS in a network namespace that is joined to nothing, installs the chart
with Redis and PostgreSQL in the cluster, and tells the story; stays up until Ctrl-C, reachable for kubectl, curl and a browser by ports on
loopback; then takes everything away again. ONCE=1: ends after the story. STRIPE_API_KEY is not looked at: this network has no way out.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from demo.k8s_story import Story
from demo.paper import Paper, curl
from tests.support import kube, node, prometheus, shop
from tests.support.process import ProcessError
from tests.support.relay import Relay
from tests.support.stack import StripeEmulator, binary
from tests.support.stripe_client import ApiError

FAILURES = (ProcessError, ApiError, AssertionError, OSError, ValueError, LookupError, http.client.HTTPException, subprocess.SubprocessError)
SCRAPED = ("admin", "tallygate-admin")  # ports' names: the operator's and the sidecars'


class Machine:
    """All that runs: the node, what runs beside its pods, and the ways in from outside."""

    def __init__(self, folder):
        self.folder = folder
        self.cluster = self.stripe = self.prometheus = self.kubeconfig = None
        self.outside = {}  # name → address on the machine's loopback
        self._relay = None
        self._targets = folder / "targets.json"
        self._ends = contextlib.ExitStack()

    @property
    def bin(self):
        return self.folder / "bin"

    def start(self, paper):
        with paper.doing("images of the operator, the sidecar, Redis, PostgreSQL and an app, from this machine's binaries"):
            archives = shop.make_images(self.folder)
            for name in ("helm", "coredns"):
                kube.tool(name)
            prometheus.binary()  # now: the node's network has no way out to get it by
        with paper.doing("a node: etcd, API server, containerd, kubelet, kube-proxy and DNS, in a network namespace of its own"):
            self.cluster = node.NodeCluster(self.folder / "node", archives)
            self._ends.callback(self.cluster.remove)
            self.cluster.start()
            for archive in archives:
                archive.unlink()
        with paper.doing("beside it: an emulator of Stripe, Prometheus, and ports on loopback"):
            self._relay = Relay()
            self._ends.callback(self._relay.close)
            self.stripe = StripeEmulator(self.folder).start()
            self._ends.callback(self.stripe.kill)
            self.prometheus = self._ends.enter_context(prometheus.Prometheus(self.folder, {
                "pods": {"file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "5s"}]}}))
            self.open("api", f"127.0.0.1:{self.cluster.port}")
            self.open("stripe", self.stripe.address)
            self.open("prometheus", f"127.0.0.1:{self.prometheus.port}")
            self._make_commands()

    def open(self, name, target):
        """A port on the machine's loopback for an address of the node's network."""
        self.outside[name] = self._relay.carry(self.cluster.listen_outside(), target)
        return self.outside[name]

    def stripe_for_pods(self):
        """https://…, of the cluster's own authority: the operator sends a key over nothing less."""
        listener = socket.create_server((node.NODE_IP, 0))
        certificate = self.cluster.sign("stripe", "/CN=stripe-emulator", f"subjectAltName=IP:{node.NODE_IP}\nextendedKeyUsage=serverAuth")
        return "https://" + self._relay.carry(listener, self.stripe.address, certificate)

    def find_targets(self):
        """Tells Prometheus which pods there are; it reads the file again when it changes."""
        groups = []
        for pod in self.cluster.get("/api/v1/pods")["items"]:
            if pod["status"].get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
                continue
            containers = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
            ports = [port["containerPort"] for container in containers for port in container.get("ports", []) if port.get("name") in SCRAPED]
            groups += [{"targets": [f"{pod['status']['podIP']}:{port}"],
                        "labels": {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}} for port in ports]
        text = json.dumps(groups, sort_keys=True)
        if not self._targets.exists() or self._targets.read_text() != text:
            fresh = self._targets.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(self._targets)

    def _make_commands(self):
        self.bin.mkdir()
        for name, path in (("kubectl", kube.binary("kubectl")), ("helm", kube.tool("helm")), ("kubectl-tallygate", binary("kubectl-tallygate"))):
            (self.bin / name).symlink_to(path)
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{self.outside['api']}"
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config, indent=1) + "\n")

    def kubectl_tallygate(self, *args):
        """→ what it printed; its status says whether something is wrong with some tenant, which is none of the demo's checks."""
        done = subprocess.run([self.bin / "kubectl", "tallygate", *args], capture_output=True, text=True, timeout=60, check=False,
                              env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(self.folder),
                                   "PATH": f"{self.bin}:{os.environ['PATH']}"})
        return done.stdout + done.stderr

    def export_line(self):
        return f"export KUBECONFIG={self.kubeconfig} PATH={self.bin}:$PATH"

    def remove(self):
        self._ends.close()


def cheat_sheet(machine, paper):
    paper.to_try((
        ("in another shell", machine.export_line()),
        ("who is there", "kubectl get btenant -A && kubectl get pods -A"),
        ("a call", curl(machine.outside["service"], shop.CALL, {"X-Api-Key": "demo-key-globex"})),
        ("one that is refused", curl(machine.outside["service"], shop.CALL, {"X-Api-Key": shop.KEY})),
        ("raise the quota", "kubectl -n shop patch btenant acme --type=merge -p "
                            "'{\"spec\": {\"limitOverrides\": [{\"name\": \"calls-month\", \"amount\": 90}]}}'"),
        ("by hand", "kubectl tallygate suspend shop/globex    # and: resume, usage, why, check"),
        ("the manual", "kubectl explain btenant.spec --recursive"),
        ("your own app", "kubectl -n shop edit deployment api"),
        ("Prometheus", f"http://{machine.outside['prometheus']}/graph?g0.expr=tallygate_sidecar_decisions_total"),
        ("Stripe (emulator)", f"curl -s 'http://{machine.outside['stripe']}/_emulator/state?events=1'"),
    ))


def wait_for_ctrl_c(machine):
    """Also ends, and says why, where the node ends. Until then Prometheus is told of pods as they come and go."""
    parts = (machine.cluster.etcd, machine.cluster.apiserver, machine.cluster.containerd, machine.cluster.kubelet)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            for part in parts:
                part.require_alive()
            machine.find_targets()
            time.sleep(1)


def tell(machine, paper, once):
    machine.start(paper)
    Story(machine, paper).tell()
    paper.verdict()
    if once:
        return
    cheat_sheet(machine, paper)
    wait_for_ctrl_c(machine)
    paper.line()


def clean_up(machine, paper):
    """To its end: a second Ctrl-C would leave mounts and containers behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with paper.doing("taking the node, its pods and its network away again"):
        machine.remove()


def keep_logs(folder):
    """What a failed demo leaves behind: the logs of its parts, no image and no mount."""
    kept = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-demo-k8s-logs-"))
    for log in [*folder.glob("*.log"), *folder.glob("node/*.log")]:
        shutil.copy(log, kept)
    return kept


def run(paper, once):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-demo-k8s-"))
    machine = Machine(folder)
    status = 2
    try:
        tell(machine, paper, once)
        status = 1 if paper.failures else 0
    except KeyboardInterrupt:
        paper.line("ended before the story was told")
        status = 130
    except FAILURES as error:
        first, _, rest = str(error).partition("\n")
        print(f"demo-k8s: {first}", file=sys.stderr, flush=True)
        (folder / "failure.log").write_text(f"{first}\n{rest}\n")
    except unittest.SkipTest:
        pass  # said already
    except SystemExit as ended:  # SIGTERM
        status = ended.code
    finally:
        clean_up(machine, paper)
        if status in (1, 2):
            paper.line(f"   logs: {keep_logs(folder)}")
        shutil.rmtree(folder, ignore_errors=True)
    return status


def main():
    lacking = node.missing()
    if lacking:
        print("demo-k8s: this machine cannot run a node yet:", *(f"  {each}" for each in lacking),
              "`sudo make demo-k8s` installs what is missing. `make demo` needs no root and no node.", sep="\n", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(Paper(), os.environ.get("ONCE", "") not in ("", "0"))


if __name__ == "__main__":
    sys.exit(main())
