"""Faults on demand, the clock, the log of calls, and survival of a restart."""

import http.client
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error

from tests.support.stripe_client import StripeClient
from tests.unit.stripe_emulator.base import KEY, EmulatorTest

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Faults(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.meter()
        self.acme = self.customer()

    def fault(self, kind, **params):
        self.admin("POST", "faults", {"kind": kind, "path": "meter_events", **params})

    def test_each_kind_with_and_without_the_effect(self):
        cases = {"429": (429, 0), "409": (409, 0), "500_before": (500, 0), "500_after": (500, 1), "slow": (200, 1)}
        for kind, (status, counted) in cases.items():
            with self.subTest(kind):
                before = self.total(self.acme)
                self.fault(kind, seconds=0.05)
                self.assertEqual(self.send(self.acme).status, status)
                self.assertEqual(self.total(self.acme) - before, counted)

    def test_connections_that_end_without_an_answer(self):
        for kind, counted in (("timeout_before", 0), ("timeout_after", 1), ("reset_before", 0), ("reset_after", 1)):
            with self.subTest(kind):
                before = self.total(self.acme)
                self.fault(kind, seconds=0.05)
                with self.assertRaises((OSError, http.client.HTTPException)) as caught:
                    self.send(self.acme)
                if kind.startswith("reset"):
                    self.assertIsInstance(caught.exception, ConnectionResetError)
                self.assertEqual(self.total(self.acme) - before, counted)

    def test_a_timeout_outlasts_the_clients_patience(self):
        self.fault("timeout_after", seconds=5)
        began = time.monotonic()
        with self.assertRaises(TimeoutError):
            self.api.request("POST", "/v1/billing/meter_events", {"event_name": "api_calls", "payload": {
                "stripe_customer_id": self.acme, "value": "1"}}, timeout_s=0.3)
        self.assertLess(time.monotonic() - began, 2)
        self.assertEqual(self.total(self.acme), 1)

    def test_a_retry_after_an_unknown_outcome_counts_once_by_its_identifier(self):
        for kind in ("500_after", "timeout_after", "reset_after"):
            with self.subTest(kind):
                before = self.total(self.acme)
                self.fault(kind, seconds=0.05)
                try:
                    self.send(self.acme, identifier="id-" + kind)
                except (OSError, http.client.HTTPException):
                    pass
                self.assertEqual(self.send(self.acme, identifier="id-" + kind).status, 400)
                self.assertEqual(self.total(self.acme) - before, 1)

    def test_count_path_probability_and_clearing(self):
        self.fault("500_before", count=2)
        self.assertEqual(self.api.request("GET", "/v1/customers").status, 200)
        self.assertEqual([self.send(self.acme).status for _ in range(3)], [500, 500, 200])
        self.fault("500_before", count=None, probability=0.5)
        statuses = [self.send(self.acme).status for _ in range(60)]
        self.assertTrue(10 < statuses.count(500) < 50, statuses)
        self.admin("DELETE", "faults")
        self.assertEqual(self.send(self.acme).status, 200)

    def test_malformed_faults_are_refused(self):
        for spec in ({}, {"kind": "explode"}, {"kind": "429", "count": 0}, {"kind": "429", "probability": 2}, {"kind": "slow", "seconds": -1}, [1]):
            with self.subTest(spec), self.assertRaises(urllib.error.HTTPError):
                self.admin("POST", "faults", spec)

    def test_calls_are_logged(self):
        self.send(self.acme, 3, identifier="id-1")
        call = self.admin("GET", "calls?path=meter_events")["calls"][-1]
        self.assertEqual((call["method"], call["status"]), ("POST", 200))
        self.assertIn("identifier=id-1", call["body"])
        self.assertNotIn(KEY, str(call))


class Restart(unittest.TestCase):
    def start(self, data_file, port=0):
        process = subprocess.Popen([sys.executable, str(ROOT / "tests/support/stripe_emulator.py"), "--port", str(port), "--data-file", data_file],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        address = process.stdout.readline().removeprefix("listening on ").strip()
        api = StripeClient(f"http://{address}", KEY)
        self.addCleanup(api.close)
        return process, api

    def test_kill_9_and_a_torn_last_line_lose_nothing_that_was_answered(self):
        with tempfile.TemporaryDirectory() as folder:
            data_file = os.path.join(folder, "stripe.jsonl")
            process, api = self.start(data_file)
            meter = api.ensure_meter("api_calls")
            customer = api.post("/v1/customers", {"name": "Acme"}, {"Idempotency-Key": "k1"})["id"]
            event = {"event_name": "api_calls", "payload": {"stripe_customer_id": customer, "value": "5"}, "identifier": "id-1"}
            api.post("/v1/billing/meter_events", event)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with open(data_file, "ab") as file:
                file.write(b'["event",{"id":"torn')
            _, api = self.start(data_file)
            self.assertEqual(api.ensure_meter("api_calls")["id"], meter["id"])
            self.assertEqual(api.post("/v1/customers", {"name": "Acme"}, {"Idempotency-Key": "k1"})["id"], customer)
            self.assertEqual(api.request("POST", "/v1/billing/meter_events", event).status, 400)
            now = int(time.time()) // 60 * 60
            deadline = time.monotonic() + 5
            while api.summed(meter["id"], customer, now - 3600, now + 60) != 5 and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(api.summed(meter["id"], customer, now - 3600, now + 60), 5)


class Throughput(EmulatorTest):
    settings = {"summary_delay_s": 0, "processing_ms": 0, "rate_limit_per_s": 100000}

    def test_several_hundred_requests_a_second(self):
        self.meter()
        acme = self.customer()
        began = time.monotonic()
        for _ in range(300):
            self.assertEqual(self.send(acme).status, 200)
        rate = 300 / (time.monotonic() - began)
        print(f"\nemulator: {rate:.0f} meter events/s on one connection", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
