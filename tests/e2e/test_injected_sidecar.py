"""A sidecar that runs with the arguments and variables that injection writes into a pod: they are this version's, and the app's
probes go through its admin port, unmetered."""

import json
import re
import subprocess
import threading
import unittest

from tests.e2e.base import POLICY, StackTest
from tests.support.load import Client
from tests.support.process import free_port, wait_until
from tests.support.stack import ROOT, Sidecar, binary, http_get

GOLDEN = ROOT / "tests" / "golden" / "inject"
SOON_S = 30


def injected(name):
    """The sidecar's container, as the golden pod has it."""
    pod = json.loads((GOLDEN / f"{name}.json").read_text())["result"]["pod"]
    return next(c for c in pod["spec"]["initContainers"] if c["name"] == "tallygate-sidecar")


class InjectedSidecar(StackTest):
    def start_injected(self, golden, probes=None):
        """As a kubelet would start it, with this machine's places in place of the pod's."""
        container = injected(golden)
        folder = self.stack.folder / "pod"
        (folder / "credentials").mkdir(parents=True)
        (folder / "credentials" / "redis-url").write_text(self.stack.redis.url)
        places = {":9900": f"127.0.0.1:{free_port()}", ":9902": f"127.0.0.1:{free_port()}", "/var/run/tallygate": str(folder / "credentials"),
                  "/var/lib/tallygate/log": str(folder / "log"), "[$(POD_IPS)]:8080": f"[127.0.0.1]:{self.stack.app.address.rpartition(':')[2]}"}
        args = []
        for arg in container["args"]:
            flag, equals, value = arg.partition("=")
            for place, here in places.items():
                value = value.replace(place, here)
            args.append(flag + equals + value)
        env = {"TALLYGATE_APP_PROBES": json.dumps(probes) if probes else
               next((v["value"] for v in container["env"] if v["name"] == "TALLYGATE_APP_PROBES"), "")}
        sidecar = self.stack.sidecars["pod"] = Sidecar("pod", [binary("tallygate-sidecar"), *args], folder, env)
        return sidecar.start(wait_ready=False)

    def test_it_enforces_and_relays(self):
        self.start(tenants={"acme": 3})
        sidecar = self.start_injected("probes_http")
        sidecar.wait_ready()
        self.assertEqual([self.ask(sidecar, "acme").status for _ in range(5)], [200, 200, 200, 429, 429])
        for probe in ("startup", "liveness", "readiness", "pre-stop"):
            self.assertEqual(sidecar.get(f"/app-health/api/{probe}"), (200, "ok\n"))
        asked = self.stack.app.counts()["paths"]
        self.assertEqual({path: asked.get(path) for path in ("/up", "/live", "/ready", "/stop")}, dict.fromkeys(("/up", "/live", "/ready", "/stop"), 1))
        self.assertEqual(self.stack.app.tenant("acme"), 3)
        self.assertEqual(sidecar.get("/app-health/api/post-start")[0], 404)
        self.assertEqual(http_get(sidecar.address, "/app-health/api/liveness")[0], 401, "no way round the gate")

    def test_a_pod_that_ends(self):
        """The preStop hook, then SIGTERM: clients are told to come back elsewhere, who comes is served, and all is booked."""
        self.start(tenants={"acme": 100})
        sidecar = self.start_injected("plain")
        sidecar.wait_ready()
        hook = injected("plain")["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(hook[1:], ["drain", "--admin=:9902"])
        with Client(sidecar.address) as kept:
            self.assertEqual(kept.get("/", {"X-Tenant-Id": "acme"}).status, 200)
            for _ in range(2):  # a hook may run twice
                subprocess.run([binary("tallygate-sidecar"), "drain", f"--admin={sidecar.admin_address}"], check=True)
            wait_until(lambda: not sidecar.ready(), SOON_S, "it is not ready")
            self.assertEqual(self.ask(sidecar, "acme").status, 200)
        self.assertEqual(sidecar.term(), 0)
        self.assertEqual(wait_until(lambda: self.stack.booked("shop/acme", "api_calls") == 2, SOON_S, "all is booked"), True)
        done = subprocess.run([binary("tallygate-sidecar"), "drain", f"--admin={sidecar.admin_address}"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be told", done.stderr)

    def test_a_probe_that_hangs_holds_up_no_other(self):
        sidecar = self.start_injected("plain", {
            "/app-health/api/liveness": {"httpGet": {"path": "/"}, "timeoutSeconds": 1},
            "/app-health/api/readiness": {"httpGet": {"path": "/slow?ms=20000"}, "timeoutSeconds": 30},
            "/app-health/api/startup": {"tcpSocket": {}}})
        hanging = [threading.Thread(target=lambda: http_get(sidecar.admin_address, "/app-health/api/readiness", timeout_s=40), daemon=True)
                   for _ in range(4)]
        for thread in hanging:
            thread.start()
        wait_until(lambda: self.stack.app.counts()["paths"].get("/slow"), SOON_S, "the app has been asked")
        for path in ("/app-health/api/liveness", "/app-health/api/startup", "/healthz", "/metrics"):
            self.assertEqual(sidecar.get(path)[0], 200, path)
        self.stack.app.kill()
        for path in ("/app-health/api/liveness", "/app-health/api/startup"):
            status, why = sidecar.get(path)
            self.assertEqual(status, 503)
            self.assertIn("does not take connections", why)

    def test_it_starts_and_waits_whatever_is_away(self):
        """Started means listening; ready means that the policy is known."""
        self.stack.redis.kill()
        sidecar = self.start_injected("plain")
        status, text = sidecar.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn(POLICY, text)
        self.assertEqual(sidecar.get("/health")[0], 200, "nothing that a restart would mend")
        self.stack.redis.start()
        self.start(tenants={"acme": 3})
        sidecar.wait_ready()
        self.assertEqual(self.ask(sidecar, "acme").status, 200)

    def test_what_injection_writes_is_known_to_the_program(self):
        for path in sorted(GOLDEN.glob("*.json")):
            if json.loads(path.read_text())["result"]["outcome"] != "injected":
                continue
            with self.subTest(path.stem):
                container = injected(path.stem)
                flags = {arg.partition("=")[0] for arg in container["args"][1:]}
                self.assertLessEqual(flags, self.known_flags())

    def known_flags(self):
        text = subprocess.run([binary("tallygate-sidecar"), "run", "--help"], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"^ +(--[a-z-]+)", text, re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
