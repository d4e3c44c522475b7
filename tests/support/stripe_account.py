"""One Stripe test account behind its URLs: requests in, bodies out, no sockets. See stripe_objects.py and stripe_meters.py."""

import time

from tests.support.stripe_meters import Metering
from tests.support.stripe_payments import KINDS, PAYMENT_SETTINGS, Payments, Post
from tests.support.stripe_wire import StripeError


class Account(Metering, Payments):
    kinds = (*Metering.kinds, *KINDS)

    def __init__(self, clock, journal=None, settings=None):
        super().__init__(clock, journal, {**PAYMENT_SETTINGS, **(settings or {})})
        self._began_with = dict(self.settings)
        self.post = Post(self.settings, clock)

    def reset(self):
        with self._lock:
            for records in (*self.objects.values(), self._identifiers, self._series, self.counters):
                records.clear()
            self.settings.update(self._began_with)
            self.post.forget()

    def execute(self, method, path, params, *, version="", hold_s=0.0):
        """→ the body of a 200 answer. Raises StripeError."""
        parts = [part for part in path.split("/") if part]
        route = self._route(method, parts)
        if route is None:
            raise StripeError(404, f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing"
                                   " slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier.")
        handler, *args = route
        if handler == self._create_meter_event:
            return handler(params, version, hold_s)
        if hold_s:
            time.sleep(hold_s)
        with self._lock:
            return handler(*args, params)

    def _route(self, method, parts):
        if parts[:2] == ["v1", "billing"]:
            return self._route_billing(method, parts[2:])
        if len(parts) >= 2 and parts[0] == "v1" and parts[1] in ("billing_portal", "checkout", "payment_intents", "refunds", "disputes", "events"):
            return self._route_payments(method, parts[1:])
        if parts[:3] == ["v2", "core", "events"] and method == "GET":
            return (self._list_reports,) if len(parts) == 3 else (self._retrieve, "report", parts[3])
        if len(parts) >= 2 and parts[0] == "v1" and parts[1] in ("customers", "products", "prices"):
            kind = parts[1][:-1]
            if len(parts) == 2:
                return {"POST": (getattr(self, f"_create_{kind}"),), "GET": (self._list, kind, "/v1/" + parts[1])}.get(method)
            if len(parts) == 3:
                routes = {"GET": (self._retrieve, kind, parts[2]), "POST": (self._update, kind, parts[2])}
                if kind == "customer":
                    routes["DELETE"] = (self._delete_customer, parts[2])
                return routes.get(method)
        return None

    def _route_billing(self, method, parts):
        if parts == ["meter_events"] and method == "POST":
            return (self._create_meter_event,)
        if parts == ["meter_event_adjustments"] and method == "POST":
            return (self._create_adjustment,)
        if parts == ["meters"]:
            return {"POST": (self._create_meter,), "GET": (self._list, "meter", "/v1/billing/meters")}.get(method)
        if len(parts) == 2 and parts[0] == "meters":
            return {"GET": (self._retrieve, "meter", parts[1]), "POST": (self._update_meter, parts[1])}.get(method)
        if len(parts) == 3 and parts[0] == "meters":
            return {("GET", "event_summaries"): (self._summaries, parts[1]),
                    ("POST", "deactivate"): (self._set_meter_status, parts[1], "inactive"),
                    ("POST", "reactivate"): (self._set_meter_status, parts[1], "active")}.get((method, parts[2]))
        return None

    def snapshot(self, with_events=False):
        with self._lock:
            state = {"time": self.clock(), "settings": dict(self.settings), "counters": dict(self.counters), "totals": self.totals(),
                     "customers": list(self.objects["customer"].values()), "meters": list(self.objects["meter"].values()),
                     "products": len(self.objects["product"]), "prices": len(self.objects["price"]),
                     "meter_events": len(self.objects["event"]), "adjustments": len(self.objects["adjustment"]),
                     "reports": list(self.objects["report"].values()), "sessions": list(self.objects["session"].values()),
                     "payment_intents": list(self.objects["payment_intent"].values()),
                     "refunds": list(self.objects["refund"].values()), "disputes": list(self.objects["dispute"].values()),
                     "notices": list(self.objects["notice"].values()), "deliveries": list(self.post.deliveries),
                     "post_waiting": self.post.waiting()}
            if with_events:
                state["events"] = list(self.objects["event"].values())
            return state
