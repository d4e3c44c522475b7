"""A real Kubernetes control plane on loopback: etcd and kube-apiserver, each with a free port and a private folder; with
controllers=True also kube-controller-manager and kube-scheduler. No node: pods are objects that nothing runs.

    with ControlPlane(folder) as kube:
        kube.apply(ROOT / "crds")
        kube.kubectl("get", "btenant", "-A")
        kube.get("/apis/billing.tallygate.dev/v1alpha1/billingplans")

For a person, and for tests in other languages, until Ctrl-C or the end of its standard input:

    python3 -m tests.support.kube up --folder F [--controllers] [--crds]

prints `KUBECONFIG=…` when it answers. The binaries come from scripts/kubernetes.sh; where they cannot be had the calling test is
skipped, loudly.
"""

import argparse
import functools
import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

from tests.support.process import Process, ProcessError, free_port, wait_until
from tests.support.tools import skip_loudly

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "kubernetes.sh"
READY_TIMEOUT_S = 120
PORT_ATTEMPTS = 5
# Who may call the API server, by the name of the certificate: its subject, and what it is for.
IDENTITIES = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "front-proxy": "/CN=front-proxy",
}


@functools.cache
def binary(name):
    """The path of one of the parts, built where it is missing. Skips the calling test where it cannot be had."""
    built = subprocess.run([SCRIPT], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        skip_loudly(f"no Kubernetes control plane: {built.stderr.strip().splitlines()[-1]}")
    folder = subprocess.run([SCRIPT, "path"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    path = pathlib.Path(folder) / name
    if not os.access(path, os.X_OK):
        skip_loudly(f"no {name} in {folder}")
    return str(path)


@functools.cache
def tool(name):
    """The path of helm, kubeconform, promtool, prometheus or kwok, built where it is missing."""
    built = subprocess.run([SCRIPT, "tools", name], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        skip_loudly(f"no {name}: {built.stderr.strip().splitlines()[-1]}")
    return subprocess.run([SCRIPT, "path", name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class KubectlError(ProcessError):
    """kubectl said no; str() is what it said, `status` its exit status."""

    def __init__(self, command, status, output):
        super().__init__(f"kubectl {' '.join(command)}: {output.strip()}")
        self.status = status
        self.output = output


class ControlPlane:
    """Ports, folder and certificates stay over stop() and start(): clients come back to the same cluster."""

    def __init__(self, folder=None, controllers=False, apiserver_options=()):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="tallygate-kube-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own_folder = folder is None
        self._controllers = controllers
        self._options = list(apiserver_options)
        self._pki = self.folder / "pki"
        self.etcd = self.apiserver = self.controller_manager = self.scheduler = None
        self.etcd_port = self.port = None
        self.kubeconfig = self.folder / "kubeconfig"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self):
        return self._pki / "ca.crt"

    # ---- life

    def start(self):
        if not self._pki.exists():
            self._make_certificates()
        try:
            self.start_etcd()
            self.start_apiserver()
            if self._controllers:
                self._start_controllers()
        except BaseException:
            self.stop()
            raise
        return self

    def start_etcd(self):
        program = binary("etcd")

        def make(port):
            peer = f"http://127.0.0.1:{free_port()}"
            client = f"http://127.0.0.1:{port}"
            return [program, "--name", "t", "--data-dir", self.folder / "etcd", "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}", "--unsafe-no-fsync",
                    "--log-level", "warn"]

        self.etcd, self.etcd_port = self._start("etcd", self.etcd_port, make, lambda port: _http_ok(port, "/health"))

    def start_apiserver(self):
        program = binary("kube-apiserver")
        pki = self._pki
        # Without a controller-manager no namespace gets its ServiceAccount, and pods would be refused.
        without = [] if self._controllers else ["--disable-admission-plugins=ServiceAccount"]

        def make(port):
            return [program, f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", "--bind-address=127.0.0.1", f"--secure-port={port}",
                    "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
                    f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key", f"--client-ca-file={pki}/ca.crt",
                    f"--cert-dir={self.folder}/certs", "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
                    "--authorization-mode=Node,RBAC", f"--requestheader-client-ca-file={pki}/ca.crt", "--requestheader-allowed-names=front-proxy",
                    "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
                    "--requestheader-extra-headers-prefix=X-Remote-Extra-", f"--proxy-client-cert-file={pki}/front-proxy.crt",
                    f"--proxy-client-key-file={pki}/front-proxy.key", "--enable-aggregator-routing=true", "--allow-privileged=true",
                    "--profiling=false", *without, *self._options]

        def ready(port):
            self.port = port
            return self.request("GET", "/readyz")[0] == 200

        self.apiserver, self.port = self._start("apiserver", self.port, make, ready)
        self._write_kubeconfig(self.kubeconfig, "admin")

    def _start(self, name, fixed, make, ready):
        for attempt in range(PORT_ATTEMPTS):
            port = fixed or free_port()
            process = Process(name, make(port), self.folder).spawn()
            try:
                process.wait_ready(lambda: ready(port), READY_TIMEOUT_S, "is ready")
                return process, port
            except ProcessError:
                process.kill9()
                if fixed or attempt == PORT_ATTEMPTS - 1 or "address already in use" not in process.log_text():
                    raise
        raise AssertionError("unreachable")

    def _start_controllers(self):
        pki = self._pki
        for identity in ("controller-manager", "scheduler"):
            self._write_kubeconfig(self.folder / f"{identity}.conf", identity)
        conf, port = self.folder / "controller-manager.conf", free_port()
        self.controller_manager = Process(
            "controller-manager",
            [binary("kube-controller-manager"), f"--kubeconfig={conf}", f"--authentication-kubeconfig={conf}", f"--authorization-kubeconfig={conf}",
             "--bind-address=127.0.0.1", f"--secure-port={port}", f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt",
             "--use-service-account-credentials=true", "--leader-elect=false", f"--cluster-signing-cert-file={pki}/ca.crt",
             f"--cluster-signing-key-file={pki}/ca.key", "--allocate-node-cidrs=false", f"--cert-dir={self.folder}/certs"], self.folder).spawn()
        conf, port = self.folder / "scheduler.conf", free_port()
        self.scheduler = Process(
            "scheduler", [binary("kube-scheduler"), f"--kubeconfig={conf}", f"--authentication-kubeconfig={conf}", f"--authorization-kubeconfig={conf}",
                          "--bind-address=127.0.0.1", f"--secure-port={port}", "--leader-elect=false", f"--cert-dir={self.folder}/certs"],
            self.folder).spawn()
        self.controller_manager.wait_ready(lambda: self.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200,
                                           READY_TIMEOUT_S, "has made the default ServiceAccount")

    def stop(self):
        for process in (self.scheduler, self.controller_manager, self.apiserver, self.etcd):
            if process is not None and process.alive:
                process.kill9()  # what is written is in etcd, and etcd's own restart is not what is tested

    def restart_apiserver(self, kill=True):
        """On the same port. Watches break; what was stored stays."""
        if kill:
            self.apiserver.kill9()
        else:
            self.apiserver.term(READY_TIMEOUT_S)
        self.start_apiserver()

    def remove(self):
        self.stop()
        if self._own_folder and not os.environ.get("TALLYGATE_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- as kubectl

    def kubectl(self, *args, stdin=None, check=True, timeout_s=60):
        """→ standard output; with check=False → (status, output and errors together)."""
        args = [str(arg) for arg in args]
        done = subprocess.run([binary("kubectl"), "--kubeconfig", str(self.kubeconfig), *args], input=stdin, text=True, timeout=timeout_s, check=False,
                              capture_output=True, env={**os.environ, "HOME": str(self.folder)})  # its caches stay here
        if not check:
            return done.returncode, done.stdout + done.stderr
        if done.returncode:
            raise KubectlError(args, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def apply(self, what, *args):
        """`what`: a path, or the text of manifests."""
        if isinstance(what, pathlib.Path):
            return self.kubectl("apply", *args, "-f", what)
        return self.kubectl("apply", *args, "-f", "-", stdin=what)

    def install_crds(self):
        """Applies crds/ and waits until they are served."""
        self.apply(ROOT / "crds", "--server-side")
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/billingplans.billing.tallygate.dev",
                     "crd/billingtenants.billing.tallygate.dev", "crd/billingpolicies.billing.tallygate.dev")
        shutil.rmtree(self.folder / ".kube", ignore_errors=True)  # what kubectl knew of the API before

    def make_namespace(self, name):
        status, answer = self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        if status not in (201, 409):
            raise ProcessError(f"namespace {name}: {status}: {answer}")

    # ---- as a client

    def request(self, method, path, body=None, content_type="application/json", timeout_s=30):
        """As admin: → (status, JSON or text)."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=context)
        try:
            data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": content_type, "Accept": "application/json"} if data is not None else {})
            response = connection.getresponse()
            text = response.read().decode()
            if response.headers.get_content_type() == "application/json":
                return response.status, json.loads(text)
            return response.status, text
        finally:
            connection.close()

    def get(self, path):
        """The object or list at that path; None where there is none."""
        status, answer = self.request("GET", path)
        if status == 404:
            return None
        if status != 200:
            raise ProcessError(f"GET {path}: {status}: {answer}")
        return answer

    def wait_for(self, path, condition, timeout_s=30, what=None):
        """Polls until condition(object or None) is true: → the object."""
        def check():
            value = self.get(path)
            return (value,) if condition(value) else None
        return wait_until(check, timeout_s, what or f"{path} is as expected")[0]

    def compact(self):
        """Makes etcd forget everything older than now, as it does by itself every few minutes. After restart_apiserver(), whose cache remembers
        longer, watches from before answer 410."""
        revision = int(self.get("/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"])
        body = json.dumps({"revision": str(revision), "physical": True})
        connection = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=10)
        try:
            connection.request("POST", "/v3/kv/compaction", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise ProcessError(f"compaction: {response.status}: {response.read().decode()}")
        finally:
            connection.close()

    # ---- certificates

    def _make_certificates(self):
        self._pki.mkdir()
        self._key("ca")
        self._openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=tallygate-test", "-days", "3650", "-out", "ca.crt")
        self.make_serving_certificate()
        for name, subject in IDENTITIES.items():
            self.sign(name, subject, "extendedKeyUsage=clientAuth")
        self._key("sa")
        self._openssl("pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def make_serving_certificate(self):
        """A new one of the API server's, which it reads again by itself (or at restart_apiserver())."""
        self.sign("apiserver", "/CN=kube-apiserver",
                  "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc\n"
                  "extendedKeyUsage=serverAuth")

    def sign(self, name, subject, extensions):
        """pki/NAME.key and pki/NAME.crt, of the cluster's authority: → their paths."""
        self._key(name)
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        (self._pki / f"{name}.ext").write_text(extensions + "\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650", "-extfile", f"{name}.ext",
                      "-out", f"{name}.crt")
        return self._pki / f"{name}.key", self._pki / f"{name}.crt"

    def _key(self, name):
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")

    def _openssl(self, *args):
        done = subprocess.run(["openssl", *args], cwd=self._pki, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProcessError(f"openssl {args[0]}: {done.stderr.strip()}")

    def _write_kubeconfig(self, path, identity):
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": "u", "user": {"client-certificate": str(self._pki / f"{identity}.crt"), "client-key": str(self._pki / f"{identity}.key")}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "u"}}]}, indent=1) + "\n")


def _http_ok(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser(prog="python3 -m tests.support.kube", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="starts one, and ends it with its standard input or Ctrl-C")
    up.add_argument("--folder", required=True, help="where its files are; those of an earlier run go on")
    up.add_argument("--controllers", action="store_true", help="kube-controller-manager and kube-scheduler too")
    up.add_argument("--crds", action="store_true", help="applies crds/")
    args = parser.parse_args()
    began = time.monotonic()
    plane = ControlPlane(pathlib.Path(args.folder).resolve(), controllers=args.controllers)
    try:
        plane.start()
        if args.crds:
            plane.install_crds()
        print(f"up after {time.monotonic() - began:.1f} s; kubectl is {binary('kubectl')}", file=sys.stderr, flush=True)
        print(f"KUBECONFIG={plane.kubeconfig}", flush=True)
        if sys.stdin.isatty():
            while plane.apiserver.alive:
                time.sleep(1)
        else:
            sys.stdin.read()
    except unittest.SkipTest:
        return 2  # said already
    except KeyboardInterrupt:
        pass
    finally:
        plane.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
