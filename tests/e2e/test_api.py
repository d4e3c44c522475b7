"""The API as a role of the real operator: started by its flags, credited from the command line, and every operation of its document
called by schemathesis with what fits the document and what does not: no 5xx, nothing that the document does not say."""

import os
import subprocess
import sys
import tempfile
import unittest
import venv

from tests.e2e.api_base import TOKEN, ApiStackTest
from tests.support.stack import ROOT, binary
from tests.support.tools import cache_dir, skip_loudly

SCHEMATHESIS = "schemathesis==4.32.5"
USAGE = 64


def schemathesis():
    """The program, installed on first use; skips the calling test where it cannot be had."""
    folder = cache_dir() / "tools" / SCHEMATHESIS.replace("==", "-")
    program = folder / "bin" / "schemathesis"
    if not program.exists():
        print(f"\ninstalling {SCHEMATHESIS} once, into {folder}", file=sys.stderr, flush=True)
        try:
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", SCHEMATHESIS], check=True, timeout=300, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
        except (subprocess.SubprocessError, OSError) as error:
            skip_loudly(f"{SCHEMATHESIS} could not be installed: {error}")
    return str(program)


class ApiTest(ApiStackTest):
    def test_the_command_line_credits_once_and_the_api_spends_it(self):
        credit = ["credit", "--amount", "25.00", "--currency", "GBP", "--reason", "missed top-up", "--actor", "ops@example.com",
                  "--idempotency-key", "ticket-7"]
        for again in (False, True):
            done = self.wallet(*credit)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("was done before" in done.stdout, again, done.stdout)
        adjusted = self.wallet("adjust", "--amount=-5", "--reason", "wrong", "--actor", "ops@example.com", "--idempotency-key", "ticket-8")
        self.assertEqual(adjusted.returncode, 0, adjusted.stderr)
        self.assertEqual(self.call("GET", "/v1/wallet")[1]["balance"], "20.00")
        self.assertEqual(self.call("POST", "/v1/deductions", {"amount": "7.50"}, "buy")[0], 201)
        self.assertIn("GBP 12.50", self.wallet("show").stdout)
        quote = self.call("POST", "/v1/quotes", {"from": "USD", "amount": "1.00"}, "quote")[1]
        self.assertEqual((quote["rate"], quote["converted"]), ("0.79", "0.79"))
        paid = self.call("POST", "/v1/deductions", {"amount": "1.00", "quoteId": quote["id"]}, "in-dollars")[1]
        self.assertEqual((paid["amount"], paid["quoted"]["amount"], paid["wallet"]["balance"]), ("0.79", "1.00", "11.71"))
        self.assertEqual(self.call("POST", "/v1/reservations", {"callId": "c-7", "amount": "1.00"}, "hold")[0], 201)
        history = self.wallet("history").stdout
        for text in ("missed top-up", "purchase", "1.00 USD at 0.79", "call c-7", "wrong", "adjustment"):
            self.assertIn(text, history)
        refused = self.wallet("adjust", "--amount=-500", "--reason", "x", "--actor", "y", "--idempotency-key", "ticket-9")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("above the balance and the debt limit together. (DebtLimitExceeded)", refused.stderr)
        self.assertEqual(self.wallet("credit", "--amount", "1").returncode, USAGE)
        status, verdict = self.call("POST", "/v1/gates/agent-run/check", {})
        self.assertEqual((status, verdict["allowed"]), (200, True), verdict)

    def test_credentials_are_not_taken_in_the_clear_off_loopback(self):
        argv = [binary("tallygate-operator"), "run", "--source=dir:/tmp", "--redis-url", "redis://127.0.0.1:9", "--database-url",
                "postgresql://u@127.0.0.1:9/d", "--stripe", "disabled", "--api", "0.0.0.0:0", "--api-jwt-issuer", "i", "--api-jwt-audience", "a"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={**os.environ, "TALLYGATE_API_JWT_SECRET": "x" * 40})
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("plain HTTP", done.stderr)

    def test_schemathesis_finds_no_fault(self):
        program = schemathesis()
        self.wallet("credit", "--amount", "1000", "--currency", "GBP", "--reason", "r", "--actor", "a", "--idempotency-key", "k")
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([program, "run", ROOT / "openapi" / "openapi.yaml", "--url", f"http://{self.address}", "-H",
                                   f"Authorization: Bearer {TOKEN}", "--checks",
                                   "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                                   "--phases", "examples,coverage,fuzzing", "-n", "15", "--seed", "7", "--no-shrink", "--continue-on-failure",
                                   "--request-timeout", "10", "--max-time", "40", "--warnings", "off"], cwd=folder, capture_output=True, text=True,
                                  timeout=300)
        print("\n".join(done.stdout.splitlines()[-12:]))
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])


if __name__ == "__main__":
    unittest.main()
