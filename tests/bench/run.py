#!/usr/bin/env python3
"""All benchmarks, figures and ratios only; nothing here passes or fails by a time. Called by `make bench`.

    python3 tests/bench/run.py            proxy, user, pump, kube
    python3 tests/bench/run.py proxy      only the sidecar beside nginx
"""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.e2e.base import METER, PLAN, POLICY_TEXT, tenant_text
from tests.support.stack import Stack, binary

POLICY = "shop/api"
QUOTA = 10**12
USER_SPACE = ("bench_proxy_nulltransport", "bench_admission", "bench_usage_log")


def title(text):
    print(f"\n== {text}", flush=True)


def run(argv):
    return subprocess.run([str(a) for a in argv], cwd=ROOT, stdin=subprocess.DEVNULL).returncode


def proxy():
    """The real sidecar, everything on: identity, a leased hard quota, log, export; beside nginx's plain proxy_pass."""
    title("CPU per request: sidecar beside nginx proxy_pass, same machine, same run, one worker each")
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder, Stack(folder) as stack:
        stack.start_servers()
        customer = stack.stripe_client()
        name = customer.post("/v1/customers", {"name": "bench"})["id"]
        customer.ensure_meter(METER)
        customer.close()
        stack.write_manifests(PLAN + tenant_text("bench", name, QUOTA) + POLICY_TEXT)
        stack.start_operator(aggregate_interval="60s", submit_interval="60s", flags=["--float-units", "1000000"])
        command = (f"{binary('tallygate-sidecar')} run --listen 127.0.0.1:{{port}} --upstream 127.0.0.1:{{backend}} --admin 127.0.0.1:0 "
                   f"--policy {POLICY} --redis-url {stack.redis.url} --data-dir {folder}/data --log-level error")
        return run([sys.executable, "tests/bench/compare_nginx.py", "--gateway-cmd", command, "--header", "X-Tenant-Id: bench",
                    "--rounds", os.environ.get("ROUNDS", "5"), "--ready-s", "2"])


def user_space():
    title("User space per request, in ns")
    return max(run([binary(name)]) for name in USER_SPACE)


def pump():
    title("Usage pump: records per second into PostgreSQL")
    return run([binary("bench_pump"), "200000"])


def kube():
    title("Following an API server: CPU per object listed and per change, memory")
    return run([binary("bench_kube")])


BENCHES = {"proxy": proxy, "user": user_space, "pump": pump, "kube": kube}


def main():
    chosen = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in chosen if name not in BENCHES]:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 64
    with open("/proc/loadavg") as f:
        print(f"load before: {f.read().split()[0]} on {os.cpu_count()} cores")
    return 1 if any([BENCHES[name]() for name in chosen]) else 0


if __name__ == "__main__":
    sys.exit(main())
