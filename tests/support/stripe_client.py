"""A small client of Stripe's API v1, for tests and the demo: the same code talks to the emulator and to Stripe."""

import base64
import http.client
import json
import threading
import urllib.parse

from tests.support.stripe_wire import encode_form

STRIPE_API_BASE = "https://api.stripe.com"
TIMEOUT_S = 30


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def error(self):
        return self.body.get("error", {}) if isinstance(self.body, dict) else {}


class ApiError(Exception):
    def __init__(self, method, path, answer):
        super().__init__(f"{method} {path}: {answer.status} {answer.error.get('message', answer.body)}")
        self.answer = answer


class StripeClient:
    """Keeps one connection per thread. No retries: tests want to see each answer."""

    def __init__(self, base, key, version=None):
        self._split = urllib.parse.urlsplit(base)
        self._key = key
        self._version = version
        self._local = threading.local()
        self._connections = []

    def close(self):
        for connection in self._connections:
            connection.close()

    def request(self, method, path, params=None, headers=None, timeout_s=TIMEOUT_S):
        """→ Answer. Raises OSError or http.client.HTTPException when no answer comes."""
        encoded = encode_form(params or {})
        all_headers = {"Authorization": "Basic " + base64.b64encode(f"{self._key}:".encode()).decode()}
        if self._version:
            all_headers["Stripe-Version"] = self._version
        if method == "POST":
            all_headers["Content-Type"] = "application/x-www-form-urlencoded"
        all_headers.update(headers or {})
        target = path + ("?" + encoded if encoded and method != "POST" else "")
        connection = self._connection(timeout_s)
        try:
            connection.request(method, target, encoded if method == "POST" else None, all_headers)
            response = connection.getresponse()
            text = response.read()
        except BaseException:
            connection.close()
            self._connections.remove(connection)
            self._local.connection = None
            raise
        return Answer(response.status, response.headers, json.loads(text or b"null"))

    def call(self, method, path, params=None, headers=None):
        """→ the body of a 2xx answer. Raises ApiError."""
        answer = self.request(method, path, params, headers)
        if not 200 <= answer.status < 300:
            raise ApiError(method, path, answer)
        return answer.body

    def get(self, path, params=None):
        return self.call("GET", path, params)

    def post(self, path, params=None, headers=None):
        return self.call("POST", path, params, headers)

    def _connection(self, timeout_s):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._split.scheme == "https" else http.client.HTTPConnection
            connection = self._local.connection = kind(self._split.hostname, self._split.port, timeout=timeout_s)
            self._connections.append(connection)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection

    # ---- what the demo and the tests set up

    def ensure_meter(self, event_name, display_name=None):
        """The active meter of that event name, made when there is none."""
        params = {"status": "active", "limit": 100}
        while True:
            listing = self.get("/v1/billing/meters", params)
            for meter in listing["data"]:
                if meter["event_name"] == event_name:
                    return meter
            if not listing["has_more"]:
                break
            params["starting_after"] = listing["data"][-1]["id"]
        return self.post("/v1/billing/meters", {
            "display_name": display_name or event_name, "event_name": event_name, "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"}, "value_settings": {"event_payload_key": "value"}})

    def summed(self, meter_id, customer, start_time, end_time):
        """What Stripe's own summaries say for [start_time, end_time), both aligned to minutes."""
        listing = self.get(f"/v1/billing/meters/{meter_id}/event_summaries",
                           {"customer": customer, "start_time": start_time, "end_time": end_time, "limit": 100})
        return sum(row["aggregated_value"] for row in listing["data"])
