#!/usr/bin/env python3
"""The whole of Tallygate on this machine, and its story told with real requests. Called by `make demo`.

Starts a private redis-server, PostgreSQL, the Stripe emulator, the operator, an example app and a sidecar, all on loopback; tells the
story; stays up until Ctrl-C. With a Stripe test key in STRIPE_API_KEY it talks to Stripe in place of the emulator.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from demo import stripe
from demo.paper import Paper, curl
from demo.story import CALL, METERS, RUN, Story
from tests.support.process import ProcessError
from tests.support.stack import TEST_KEY, Stack
from tests.support.stripe_client import STRIPE_API_BASE, ApiError

PORTS = ("sidecar", "sidecar_admin", "operator_admin", "app", "redis", "postgres", "stripe")
POLICY = "shop/api"


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Each port may also come from the environment: "
                                     "DEMO_SIDECAR_PORT and the like. Without one a free port is taken, so that demos run side by side.")
    parser.add_argument("--once", action="store_true", default=os.environ.get("ONCE", "") not in ("", "0"),
                        help="end after the story, with a status of 1 if a step was not as told (also ONCE=1)")
    parser.add_argument("--keep", action="store_true", help="leave the data folder behind")
    parser.add_argument("--data-dir", help="folder for data and logs (default: demo-… under $XDG_STATE_HOME/tallygate, or under build)")
    for name in PORTS:
        parser.add_argument(f"--{name.replace('_', '-')}-port", type=int, default=os.environ.get(f"DEMO_{name.upper()}_PORT") or None)
    parser.add_argument("--aggregate-interval", default="2s")
    parser.add_argument("--submit-interval", default="4s")
    return parser.parse_args(argv)


def data_folder(args):
    if args.data_dir:
        return pathlib.Path(args.data_dir).absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (pathlib.Path(state) / "tallygate" if state else ROOT / "build") / f"demo-{os.getpid()}"


def stripe_account():
    """→ (key, base of the real API or None for the emulator)."""
    key = os.environ.get("STRIPE_API_KEY", "")
    if not key:
        return TEST_KEY, None
    if not key.startswith(("sk_test_", "rk_test_")):
        raise ProcessError("STRIPE_API_KEY is not a test key (sk_test_…): the demo never touches a live account")
    return key, os.environ.get("STRIPE_API_BASE") or STRIPE_API_BASE


def set_up_manifests(stack, customers):
    for name in ("plans.yaml", "tenants.yaml", "policy.yaml"):
        text = (ROOT / "examples" / name).read_text()
        for tenant, customer in customers.items():
            text = text.replace(f"customerID: cus_{tenant}}}", f"customerID: {customer}}}")
        stack.write_manifests(text, name)


def start(stack, paper, args, real):
    began = time.monotonic()
    stack.start_servers()
    customers, meters = stripe.set_up(stack.stripe_base, stack.stripe_key, METERS, ("acme", "globex", "initech"))
    set_up_manifests(stack, customers)
    operator = stack.start_operator(args.aggregate_interval, args.submit_interval)
    sidecar = stack.start_sidecar("demo", POLICY)
    paper.line(paper.paint("1", "Tallygate demo") + f"   up in {time.monotonic() - began:.1f} s")
    paper.line()
    paper.line("   client ──▶ sidecar ──▶ app           manifests ──▶ operator ──▶ Redis ──▶ sidecar")
    paper.line("                 └── usage ──▶ log ──▶ Redis ──▶ PostgreSQL ledger ──▶ Stripe")
    paper.line()
    for name, value in (("sidecar", f"http://{sidecar.address}"), ("  its admin", f"http://{sidecar.admin_address}/metrics"),
                        ("operator", f"http://{operator.admin_address}/health"), ("app", f"http://{stack.app.address}/_count"),
                        ("Stripe", "the real one, test mode" if real else f"{stack.stripe_base}/_emulator/state  (emulator)"),
                        ("Redis", stack.redis.url), ("PostgreSQL", stack.postgres.url), ("manifests", stack.manifests),
                        ("logs", f"{stack.folder}/*.log")):
        paper.line(f"   {name:<12}{value}")
    return Story(stack, paper, customers, meters, real)


def cheat_sheet(stack, paper):
    sidecar, operator = stack.sidecars["demo"], stack.operator
    paper.to_try((
        ("a call", curl(sidecar.address, CALL, {"X-Tenant-Id": "globex"})),
        ("by API key", curl(sidecar.address, CALL, {"X-Api-Key": "demo-key-globex"})),
        ("an agent run", curl(sidecar.address, RUN, {"X-Tenant-Id": "globex"}, "POST")),
        ("edit a quota", f"${{EDITOR:-vi}} {stack.manifests}/tenants.yaml"),
        ("ledger", f"psql {stack.postgres.url} -c 'select tenant, meter, minute, units from usage_aggregates order by id desc limit 5'"),
        ("health", f"curl -s http://{operator.admin_address}/health"),
        ("metrics", f"curl -s http://{sidecar.admin_address}/metrics | grep tallygate_")))


def run(args, paper):
    key, base = stripe_account()
    folder = data_folder(args)
    ports = {name: getattr(args, f"{name}_port") for name in PORTS if getattr(args, f"{name}_port")}
    with Stack(folder, key, base, ports) as stack:
        story = start(stack, paper, args, base is not None)
        story.tell()
        paper.verdict(folder)
        if not args.once:
            cheat_sheet(stack, paper)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            paper.line("\nended")
    if not paper.failures and not args.keep and not args.data_dir:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if paper.failures else 0


def main(argv=None):
    args = parse(argv)
    paper = Paper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(args, paper)
    except KeyboardInterrupt:
        paper.line("\nended before the story was told")
        return 130
    except (ProcessError, ApiError, OSError, TimeoutError) as error:
        print(f"demo: {error}\nlogs, if any part started: {data_folder(args)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
