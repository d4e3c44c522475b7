"""What stands around the endpoints of the Stripe emulator: the journal that lets it survive a restart, the account's rate
limit, and the Idempotency-Key store. Each is thread-safe.
"""

import json
import pathlib
import threading
import time
from collections import deque

from tests.support.stripe_wire import StripeError

IDEMPOTENCY_KEEP_S = 86400


class Journal:
    """An append-only file of [kind, record] lines. A line torn by a kill is dropped at the next start."""

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self._lock = threading.Lock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = None

    def load(self):
        if not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield json.loads(line)
        with self._path.open("r+b") as file:
            file.truncate(whole)

    def append(self, kind, record):
        line = json.dumps([kind, record], separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line)


class RateLimit:
    """Calls per second of the account, in a sliding window of one second."""

    def __init__(self):
        self._lock = threading.Lock()
        self._times = deque()

    def take(self, limit):
        now = time.monotonic()
        with self._lock:
            while self._times and now - self._times[0] >= 1:
                self._times.popleft()
            if len(self._times) >= limit:
                return False
            self._times.append(now)
            return True


class Idempotency:
    """Idempotency-Key of API v1: the first status and body come again, 500s too, once the endpoint has begun."""

    def __init__(self, clock, journal):
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()
        self._entries = {}
        for kind, record in journal.load() if journal else ():
            if kind == "idempotency":
                self._entries[record["key"]] = record

    def begin(self, key, fingerprint):
        """→ a kept answer to replay, or None to go on. Raises StripeError."""
        if len(key) > 255:
            raise StripeError(400, "Idempotency-Key must be at most 255 characters.", type_="idempotency_error")
        with self._lock:
            entry = self._entries.get(key)
            if entry and self._clock() - entry["created"] >= IDEMPOTENCY_KEEP_S:
                entry = None
            if entry is None:
                self._entries[key] = {"key": key, "fingerprint": fingerprint, "created": self._clock(), "status": None}
                return None
            if entry["fingerprint"] != fingerprint:
                raise StripeError(400, "Keys for idempotent requests can only be used with the same parameters they were first used with."
                                       f" Try using a key other than '{key}' if you meant to execute a different request.",
                                  type_="idempotency_error")
            if entry["status"] is None:
                raise StripeError(409, f"There is currently another in-progress request using this Idempotency Key: {key}.",
                                  type_="idempotency_error", code="idempotency_key_in_use", retry=True)
            return entry

    def keep(self, key, status, body, request_id):
        with self._lock:
            entry = self._entries[key]
            entry.update(status=status, body=body, request_id=request_id)
            if self._journal:
                self._journal.append("idempotency", entry)

    def forget(self, key):
        with self._lock:
            self._entries.pop(key, None)
