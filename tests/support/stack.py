"""A whole Tallygate on loopback: redis-server, PostgreSQL, the Stripe emulator, the example app, the operator and sidecars, each a
real process with a private folder and a free port. Many stacks run side by side.

    with Stack() as stack:
        stack.start_servers()
        customer = stack.stripe.client().post("/v1/customers", {"name": "Acme"})["id"]
        stack.write_manifests(text)
        stack.start_operator()
        sidecar = stack.start_sidecar("a", "shop/api")
"""

import http.client
import json
import os
import pathlib
import shutil
import sys
import tempfile
import urllib.error
import urllib.request

from tests.support.process import Process, ProcessError, wait_until
from tests.support.servers import Postgres, RedisServer
from tests.support.stripe_client import StripeClient

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST_KEY = "sk_test_emulator"
WEBHOOK_SECRET = "whsec_emulator_0123456789"
START_TIMEOUT_S = 30


def binary(name):
    folder = pathlib.Path(os.environ.get("TALLYGATE_BIN") or ROOT / "build" / "release" / "bin")
    path = folder / name
    if not os.access(path, os.X_OK):
        raise ProcessError(f"{path} is not built: run `make build`, or say in TALLYGATE_BIN where it is")
    return str(path)


def http_get(address, path, timeout_s=5):
    """→ (status, text)."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class ScriptServer:
    """A helper of ours in Python that prints `listening on ADDRESS`."""

    def __init__(self, name, script, folder, args=(), port=None):
        self.name = name
        self._script = ROOT / "tests" / "support" / script
        self.folder = pathlib.Path(folder)
        self._args = list(args)
        self._port = port or 0
        self.process = None
        self.address = None

    def start(self):
        self.process = Process(self.name, [sys.executable, "-u", self._script, "--port", self._port, *self._args], self.folder).spawn()
        line = self.process.wait_ready(lambda: next((text for text in self.process.out_text().splitlines() if text.startswith("listening on ")),
                                                    None), START_TIMEOUT_S, "listens")
        self.address = line.removeprefix("listening on ")
        self._port = int(self.address.rpartition(":")[2])  # a restart comes back on the same port
        return self

    def stop(self):
        if self.process:
            self.process.term()

    def kill(self):
        if self.process:
            self.process.kill9()


class StripeEmulator(ScriptServer):
    def __init__(self, folder, port=None, summary_delay_s=0.5):
        super().__init__("stripe-emulator", "stripe_emulator.py", folder,
                         ["--data-file", pathlib.Path(folder) / "stripe.jsonl", "--summary-delay", summary_delay_s], port)

    @property
    def url(self):
        return f"http://{self.address}"

    def client(self, key=TEST_KEY):
        return StripeClient(self.url, key)

    def admin(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from error

    def fault(self, kind, **params):
        return self.admin("POST", "faults", {"kind": kind, **params})

    def clear_faults(self):
        self.admin("DELETE", "faults")

    def state(self, events=False):
        return self.admin("GET", "state" + ("?events=1" if events else ""))

    def total(self, event_name, customer):
        return self.state()["totals"].get(event_name, {}).get(customer, 0)


class ExampleApp(ScriptServer):
    def __init__(self, folder, port=None, keys=None):
        super().__init__("app", "example_app.py", folder, [part for key, tenant in (keys or {}).items() for part in ("--key", f"{key}={tenant}")], port)

    def counts(self):
        return json.loads(http_get(self.address, "/_count")[1])

    def tenant(self, name):
        return self.counts()["tenants"].get(name, 0)

    def reset(self):
        http_get(self.address, "/_reset")


class Binary:
    """One of our binaries under `run`: JSON lines on standard error, the first with its addresses, an admin port."""

    def __init__(self, name, argv, folder, env):
        self.name = name
        self.argv = argv
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = env
        self.process = None
        self.address = self.admin_address = None

    def start(self, wait_ready=True, timeout_s=START_TIMEOUT_S, env=None):
        self.process = Process(self.name, self.argv, self.folder, {**self.env, **(env or {})}).spawn()
        line = self.process.wait_ready(self._listening, timeout_s, "says that it listens")
        self.address, self.admin_address = line.get("address"), line.get("admin")
        if wait_ready:
            self.wait_ready(timeout_s)
        return self

    def wait_ready(self, timeout_s=START_TIMEOUT_S):
        self.process.wait_ready(self.ready, timeout_s, "is ready")
        return self

    def _listening(self):
        return next((line for line in self.log_lines() if line.get("msg") == "listening"), None)

    def log_lines(self, all_runs=False):
        lines = []
        for text in self.process.log_text(all_runs).splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
        return lines

    def get(self, path):
        return http_get(self.admin_address, path)

    def ready(self):
        return self.get("/readyz")[0] == 200

    def metric(self, name, **labels):
        """The sum of the metric's samples that have these labels."""
        total = 0.0
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(label in head for label in wanted):
                total += float(value)
        return total

    @property
    def alive(self):
        return self.process is not None and self.process.alive

    def kill9(self):
        if self.process:
            self.process.kill9()

    def term(self, timeout_s=40):
        return self.process.term(timeout_s) if self.process else None


class Operator(Binary):
    pass


class Sidecar(Binary):
    pass


class Stack:
    """Context manager. `folder`: kept if given, else a private one that is removed unless the tests failed within it."""

    def __init__(self, folder=None, stripe_key=TEST_KEY, stripe_base=None, ports=None, app_keys=None):
        self._own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="tallygate-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)  # PostgreSQL may run as another user
        ports = ports or {}
        self._ports = ports
        self.stripe_key = stripe_key
        self.manifests = self.folder / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.redis = RedisServer(self.folder, ports.get("redis"))
        self.postgres = Postgres(self.folder, ports.get("postgres"))
        self.stripe = None if stripe_base else StripeEmulator(self.folder, ports.get("stripe"))
        self._stripe_base = stripe_base
        self.app = ExampleApp(self.folder, ports.get("app"), app_keys)
        self.operator = None
        self.standbys = []
        self.sidecars = {}

    @property
    def stripe_base(self):
        return self._stripe_base or self.stripe.url

    def stripe_client(self):
        return StripeClient(self.stripe_base, self.stripe_key)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if self._own_folder and kind is None and not os.environ.get("TALLYGATE_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_servers(self):
        self.redis.start()
        self.postgres.start()
        if self.stripe:
            self.stripe.start()
        self.app.start()
        return self

    def write_manifests(self, text, name="resources.yaml"):
        """Replaces a file of the operator's folder at once, as an editor or kubectl's mounts do."""
        partial = self.folder / (name + ".partial")
        partial.write_text(text)
        partial.rename(self.manifests / name)

    def operator_env(self):
        return {"TALLYGATE_REDIS_URL": self.redis.url, "TALLYGATE_DATABASE_URL": self.postgres.url, "STRIPE_API_KEY": self.stripe_key,
                "STRIPE_API_BASE": self.stripe_base, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}

    def migrate(self):
        process = Process("migrate", [binary("tallygate-operator"), "migrate", "--database-url", self.postgres.url], self.folder).spawn()
        status = process.wait_exit(60)
        if status != 0:
            raise ProcessError(f"tallygate-operator migrate ended with status {status}:\n{process.out_text()}{process.log_text()}")

    def start_operator(self, aggregate_interval="1s", submit_interval="2s", flags=(), env=None, migrate=True, wait_ready=True,
                       source=None):
        if migrate:
            self.migrate()
        argv = [binary("tallygate-operator"), "run", f"--source={source or f'dir:{self.manifests}'}", "--redis-url", self.redis.url, "--database-url",
                self.postgres.url, "--stripe-api-base", self.stripe_base, "--admin", f"127.0.0.1:{self._ports.get('operator_admin', 0)}",
                "--aggregate-interval", aggregate_interval, "--submit-interval", submit_interval, *flags]
        self.operator = Operator("operator", argv, self.folder, self.operator_env())
        return self.operator.start(wait_ready=wait_ready, env=env)

    def start_standby(self, env=None):
        """One more operator, with the settings of the first."""
        standby = Operator(f"standby-{len(self.standbys) + 1}", self.operator.argv, self.folder, self.operator_env())
        self.standbys.append(standby)
        return standby.start(env=env)

    def restart_operator(self, env=None):
        return self.operator.start(env=env)

    def start_sidecar(self, name, policy, flags=(), wait_ready=True, listen=None, upstream=None, env=None):
        sidecar = self.sidecars.get(name)
        if sidecar is None:
            folder = self.folder / f"sidecar-{name}"
            argv = [binary("tallygate-sidecar"), "run", "--listen", listen or f"127.0.0.1:{self._ports.get('sidecar', 0)}",
                    "--upstream", upstream or self.app.address,
                    "--admin", f"127.0.0.1:{self._ports.get('sidecar_admin', 0)}", "--policy", policy,
                    *(() if "--redis-url-file" in flags else ("--redis-url", self.redis.url)), "--data-dir", folder / "data", *flags]
            (folder / "data").mkdir(parents=True, exist_ok=True)
            sidecar = self.sidecars[name] = Sidecar(f"sidecar-{name}", argv, folder, {})
        return sidecar.start(wait_ready=wait_ready, env=env)

    def restart_sidecar(self, name, same_port=True, wait_ready=True):
        """On its data folder, and on the port it had, so that clients find it again."""
        sidecar = self.sidecars[name]
        if same_port and sidecar.address:
            for flag, address in (("--listen", sidecar.address), ("--admin", sidecar.admin_address)):
                sidecar.argv[sidecar.argv.index(flag) + 1] = address
        return sidecar.start(wait_ready=wait_ready)

    def stop(self):
        """Everything, whatever state it is in. Never raises."""
        parts = [*self.sidecars.values(), *self.standbys, *([self.operator] if self.operator else [])]
        for part in parts:
            try:
                if part.process:
                    part.process.resume()
                part.kill9()
            except (ProcessError, OSError):
                pass
        for end in (self.app.kill, self.stripe.kill if self.stripe else lambda: None, self.redis.kill, self.postgres.remove):
            try:
                end()
            except (ProcessError, OSError):
                pass

    # ---- what the ledger says

    def booked(self, tenant, meter):
        return self.postgres.value(f"SELECT coalesce(sum(units), 0)::bigint FROM usage_records WHERE tenant = '{tenant}' AND meter = '{meter}'")

    def aggregated(self, tenant, meter):
        return self.postgres.value(f"SELECT coalesce(sum(units), 0)::bigint FROM usage_aggregates WHERE tenant = '{tenant}' AND meter = '{meter}'")

    def delivered(self, tenant, meter):
        return self.postgres.value("SELECT coalesce(sum(value), 0)::bigint FROM meter_submissions"
                                   f" WHERE tenant = '{tenant}' AND meter = '{meter}' AND state = 'delivered'")

    def postings_sum(self):
        return self.postgres.value("SELECT coalesce(max(abs(total)), 0)::bigint FROM (SELECT sum(p.amount) AS total FROM ledger_postings p"
                                   " JOIN ledger_accounts a ON a.id = p.account GROUP BY a.commodity) sums")

    def balance(self, tenant, kind, meter):
        """Of a unit account of the double-entry ledger: -consumed = unbilled + billed."""
        return self.postgres.value("SELECT coalesce(sum(p.amount), 0)::bigint FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account"
                                   f" WHERE a.tenant = '{tenant}' AND a.kind = '{kind}' AND a.commodity = 'unit:{meter}'")

    def wait_until(self, condition, timeout_s, what):
        return wait_until(condition, timeout_s, what, 0.1)
