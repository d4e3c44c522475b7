"""Faults on demand: which request of the emulator fails, and how.

The kinds:
  429            refused by the rate limit, before the effect
  409            a conflict, before the effect
  500_before     500 without the effect; 500_after: the effect happened, the answer is still 500
  timeout_before held for `seconds` without the effect, then closed without an answer; timeout_after: with the effect
  reset_before   the connection is reset without the effect; reset_after: with the effect
  slow           answered rightly after `seconds`
"""

import random
import threading

KINDS = ("429", "409", "500_before", "500_after", "timeout_before", "timeout_after", "reset_before", "reset_after", "slow")
DEFAULT_SECONDS = {"slow": 1.0, "timeout_before": 30.0, "timeout_after": 30.0}


class FaultPlan:
    """Thread-safe. Faults are tried in the order in which they came; the first that matches and hits is used up by one."""

    def __init__(self, seed=1):
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults = []

    def add(self, spec):
        """Takes {kind, count=1 (null: for ever), probability=1, path="" (a substring of "METHOD /path"), seconds}."""
        kind = str(spec.get("kind", ""))
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        count = spec.get("count", 1)
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError("count must be a positive integer, or null for no end")
        probability = spec.get("probability", 1.0)
        if not isinstance(probability, (int, float)) or not 0 < probability <= 1:
            raise ValueError("probability must be above 0 and at most 1")
        seconds = spec.get("seconds", DEFAULT_SECONDS.get(kind, 0.0))
        if not isinstance(seconds, (int, float)) or seconds < 0:
            raise ValueError("seconds must not be negative")
        fault = {"kind": kind, "count": count, "probability": probability, "path": str(spec.get("path", "")),
                 "seconds": seconds, "hits": 0}
        with self._lock:
            self._faults.append(fault)
        return dict(fault)

    def clear(self):
        with self._lock:
            self._faults.clear()

    def listing(self):
        with self._lock:
            return [dict(fault) for fault in self._faults]

    def pick(self, method, path):
        """(kind, seconds) for this request, or (None, 0)."""
        target = f"{method} {path}"
        with self._lock:
            for fault in self._faults:
                if fault["path"] not in target:
                    continue
                if fault["count"] is not None and fault["hits"] >= fault["count"]:
                    continue
                if fault["probability"] < 1 and self._random.random() >= fault["probability"]:
                    continue
                fault["hits"] += 1
                return fault["kind"], fault["seconds"]
        return None, 0.0
