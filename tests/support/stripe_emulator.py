#!/usr/bin/env python3
"""An emulator of Stripe's billing meters and payments for tests and the demo, as a process of its own or imported.

    python3 tests/support/stripe_emulator.py --port 0 [--data-file FILE]
    listening on 127.0.0.1:41234

Stateful; with --data-file it survives a restart and kill -9. Its admin surface, which needs no key:
    POST   /_emulator/faults    {"kind": "500_after", "count": 2, "probability": 1, "path": "meter_events", "seconds": 1}
    GET    /_emulator/faults    DELETE /_emulator/faults
    GET    /_emulator/state     [?events=1]
    POST   /_emulator/clock     {"advance_s": 3600} or {"offset_s": 0}
    POST   /_emulator/settings  {"summary_delay_s": 2, …}  (stripe_objects.DEFAULT_SETTINGS)
    GET    /_emulator/calls     [?since=N&path=SUBSTRING]
    POST   /_emulator/reset     an empty account with the settings that it began with
    POST   /_emulator/act       what customers and banks do: stripe_payments.Payments.act
"""

import argparse
import base64
import binascii
import hashlib
import http.server
import json
import pathlib
import re
import secrets
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections import Counter, deque

if __package__ in (None, ""):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.support.stripe_account import Account
from tests.support.stripe_faults import FaultPlan
from tests.support.stripe_guards import Idempotency, Journal, RateLimit
from tests.support.stripe_wire import MAX_BODY_BYTES, StripeError, decode_form, to_json

API_VERSION = "2025-06-30.basil"
KEY_PATTERN = re.compile(r"[sr]k_test_[A-Za-z0-9_]{1,200}")
VERSION_PATTERN = re.compile(r"20\d\d-\d\d-\d\d(\.[a-z]+)?")
CALLS_KEPT = 20000


class Emulator:
    """All of the emulator but the sockets. `now()` is wall time plus the offset set by tests."""

    def __init__(self, data_file=None, settings=None):
        self.offset_s = 0.0
        journal = Journal(data_file) if data_file else None
        self.account = Account(self.now, journal, settings)
        self.idempotency = Idempotency(self.now, journal)
        self.faults = FaultPlan()
        self.rate = RateLimit()
        self.stopping = threading.Event()
        self._calls = deque(maxlen=CALLS_KEPT)
        self._call_totals = Counter()
        self._calls_lock = threading.Lock()
        self._next_call = 0

    def now(self):
        return time.time() + self.offset_s

    def record(self, call):
        with self._calls_lock:
            call["n"] = self._next_call
            self._next_call += 1
            self._calls.append(call)
            self._call_totals[f"{call['method']} {call['path']} {call['status']}"] += 1

    def calls(self, since, path):
        with self._calls_lock:
            return {"next": self._next_call, "totals": dict(self._call_totals),
                    "calls": [call for call in self._calls if call["n"] >= since and path in call["path"]]}

    def admin(self, method, path, query, body):
        """→ (status, body)."""
        route = (method, path.removeprefix("/_emulator/"))
        if route == ("GET", "state"):
            return 200, {**self.account.snapshot("events" in query), "faults": self.faults.listing()}
        if route == ("GET", "calls"):
            return 200, self.calls(int(query.get("since", "0")), query.get("path", ""))
        if route == ("GET", "faults"):
            return 200, {"faults": self.faults.listing()}
        if route == ("DELETE", "faults"):
            self.faults.clear()
            return 200, {"faults": []}
        if method != "POST":
            return 404, {"error": f"no such admin route: {method} {path}"}
        spec = json.loads(body or b"{}")
        if not isinstance(spec, dict):
            raise ValueError("the body must be a JSON object")
        if route[1] == "faults":
            return 200, self.faults.add(spec)
        if route[1] == "reset":
            self.account.reset()
            self.faults.clear()
            return 200, {}
        if route[1] == "act":
            return 200, self.account.act(spec)
        if route[1] == "clock":
            self.offset_s = float(spec.get("offset_s", self.offset_s)) + float(spec.get("advance_s", 0))
            return 200, {"time": self.now(), "offset_s": self.offset_s}
        if route[1] == "settings":
            unknown = set(spec) - set(self.account.settings)
            if unknown:
                raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
            self.account.settings.update(spec)
            return 200, self.account.settings
        return 404, {"error": f"no such admin route: {method} {path}"}


class Drop(Exception):
    """The connection ends here without an answer; `reset` says whether by RST."""

    def __init__(self, reset):
        super().__init__("reset" if reset else "closed")
        self.reset = reset


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stripe-emulator"
    disable_nagle_algorithm = True
    timeout = 120

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self):
        emulator = self.server.emulator
        split = urllib.parse.urlsplit(self.path)
        body = self._read_body()
        if body is None:
            return
        if split.path.startswith("/_emulator/"):
            self._serve_admin(emulator, split, body)
            return
        request_id = "req_" + secrets.token_hex(7)
        call = {"time": emulator.now(), "method": self.command, "path": split.path, "query": split.query, "request_id": request_id,
                "body": body.decode("utf-8", "replace"), "idempotency_key": self.headers.get("Idempotency-Key"), "fault": None, "status": 0}
        headers = {}
        try:
            status, payload, headers = self._api(emulator, split, body, request_id, call)
        except StripeError as error:
            status, payload, headers = error.status, to_json(error.body(request_id)), error.reply_headers()
        except Drop as drop:
            emulator.record(call)
            self._drop(drop.reset)
            return
        call["status"] = status
        emulator.record(call)
        headers.setdefault("Request-Id", request_id)
        headers.setdefault("Stripe-Version", self.headers.get("Stripe-Version") or API_VERSION)
        if call["idempotency_key"]:
            headers["Idempotency-Key"] = call["idempotency_key"]
        self._send(status, payload, headers)

    def _read_body(self):
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(400, to_json({"error": {"message": "Bad request framing.", "type": "invalid_request_error"}}), {})
            return None
        return self.rfile.read(int(length))

    def _serve_admin(self, emulator, split, body):
        try:
            status, answer = emulator.admin(self.command, split.path, dict(urllib.parse.parse_qsl(split.query)), body)
        except (ValueError, TypeError) as error:
            status, answer = 400, {"error": str(error)}
        self._send(status, to_json(answer), {})

    def _api(self, emulator, split, body, request_id, call):
        """→ (status, body, headers). Raises StripeError or Drop."""
        self._authenticate()
        version = self.headers.get("Stripe-Version") or API_VERSION
        if not VERSION_PATTERN.fullmatch(version):
            raise StripeError(400, f"Invalid Stripe API version: {version}.")
        kind, seconds = emulator.faults.pick(self.command, split.path)
        call["fault"] = kind
        if kind == "429" or not emulator.rate.take(emulator.account.settings["rate_limit_per_s"]):
            raise StripeError(429, "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
                              code="rate_limit", headers={"Stripe-Rate-Limited-Reason": "global-rate"})
        if kind == "409":
            raise StripeError(409, "The request conflicted with another one.", retry=True)
        if kind in ("timeout_before", "reset_before"):
            emulator.stopping.wait(seconds)
            raise Drop(kind == "reset_before")
        params = self._parameters(split, body)
        status, payload, headers = self._idempotent(emulator, split, params, body, request_id, version,
                                                    kind, seconds if kind == "slow" else 0.0)
        if kind in ("timeout_after", "reset_after"):
            emulator.stopping.wait(seconds)
            raise Drop(kind == "reset_after")
        return status, payload, headers

    def _authenticate(self):
        scheme, _, credential = (self.headers.get("Authorization") or "").partition(" ")
        key = credential.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                key = ""
        elif scheme.lower() != "bearer":
            raise StripeError(401, "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer"
                                   " auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').", headers={"WWW-Authenticate": 'Basic realm="Stripe"'})
        if not KEY_PATTERN.fullmatch(key):
            shown = key[:8] + "*" * 8 + key[-4:] if len(key) > 20 else "*" * len(key)
            raise StripeError(401, f"Invalid API Key provided: {shown}", headers={"WWW-Authenticate": 'Basic realm="Stripe"'})

    def _parameters(self, split, body):
        text = split.query
        if self.command == "POST":
            type_ = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
            if body and type_ != "application/x-www-form-urlencoded":
                raise StripeError(400, f"Invalid request: the content type must be application/x-www-form-urlencoded, not '{type_}'.")
            try:
                text = body.decode()
            except UnicodeDecodeError as error:
                raise StripeError(400, "Invalid request parameters: not UTF-8") from error
        return decode_form(text)

    def _idempotent(self, emulator, split, params, body, request_id, version, kind, hold_s):
        key = self.headers.get("Idempotency-Key") if self.command == "POST" else None
        if not key:
            status, payload, headers, _ = self._execute(emulator, split, params, request_id, version, kind, hold_s)
            return status, payload, headers
        fingerprint = hashlib.sha256(f"{split.path}\0".encode() + body).hexdigest()
        entry = emulator.idempotency.begin(key, fingerprint)
        if entry:
            return entry["status"], entry["body"].encode(), {"Idempotent-Replayed": "true", "Original-Request": entry["request_id"]}
        executed = False
        try:
            status, payload, headers, executed = self._execute(emulator, split, params, request_id, version, kind, hold_s)
            if executed:
                emulator.idempotency.keep(key, status, payload.decode(), request_id)
        finally:
            if not executed:
                emulator.idempotency.forget(key)
        return status, payload, {**headers, "Original-Request": request_id}

    def _execute(self, emulator, split, params, request_id, version, kind, hold_s):
        """→ (status, body, headers, whether the endpoint began)."""
        failure = StripeError(500, "An unknown error occurred.", type_="api_error", executed=True)
        error = None
        if kind == "500_before":
            error = failure
        else:
            try:
                body = emulator.account.execute(self.command, split.path, params, version=version, hold_s=hold_s)
                if kind == "500_after":
                    error = failure
            except StripeError as raised:
                error = raised
        if error is None:
            return 200, to_json(body), {}, True
        return error.status, to_json(error.body(request_id)), error.reply_headers(), error.executed

    def _send(self, status, payload, headers):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer.append(b"\r\n" + payload)  # one segment, one system call
        self.flush_headers()

    def _drop(self, reset):
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, address, emulator):
        self.emulator = emulator
        super().__init__(address, Handler)

    def shutdown_request(self, request):
        # Without the base class's shutdown(2), which would turn a wanted RST into a FIN.
        self.close_request(request)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def start(port=0, data_file=None, settings=None):
    """In this process, on a thread: → (server, base URL). End it with stop(server)."""
    server = Server(("127.0.0.1", port), Emulator(data_file, settings))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def stop(server):
    server.emulator.stopping.set()
    server.shutdown()
    server.server_close()


def main():
    parser = argparse.ArgumentParser(description="An emulator of Stripe's billing meters.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--data-file", help="keeps the state, so that it survives a restart")
    parser.add_argument("--summary-delay", type=float, help="seconds by which event summaries lag behind")
    args = parser.parse_args()
    settings = {} if args.summary_delay is None else {"summary_delay_s": args.summary_delay}
    server, base = start(args.port, args.data_file, settings)
    print("listening on " + base.removeprefix("http://"), flush=True)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    stop(server)


if __name__ == "__main__":
    main()
