"""The objects of one Stripe test account that are plain records: customers, products, prices; and how all records are
kept, found, listed and paged. The metering half is stripe_meters.py; stripe_account.py puts both behind the URLs.

Thread-safe under the one lock; callers of the methods with an underscore hold it.
"""

import secrets
import threading
from collections import Counter

from tests.support.stripe_wire import StripeError, integer, invalid, no_such, only, require_text

DAY_S = 86400

DEFAULT_SETTINGS = {
    "summary_delay_s": 0.5,        # how long a summary lags behind: Stripe's are eventually consistent
    "processing_ms": 2.0,          # how long a meter event holds its (customer, meter) slot
    "rate_limit_per_s": 1000,      # of the whole account
    "identifier_window_s": DAY_S,  # "at least 24 hours": here exactly that, so that a later duplicate shows
    "timestamp_errors": "sync",    # or "async": both are seen, by API generation
}


def new_id(prefix):
    return f"{prefix}_{secrets.token_hex(12)}"


class Store:
    kinds = ("customer", "product", "price", "meter", "event", "adjustment", "report")

    def __init__(self, clock, journal=None, settings=None):
        self.clock = clock
        self.settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self.counters = Counter()
        self._lock = threading.RLock()
        self._busy = Counter()
        self._journal = journal
        self.objects = {kind: {} for kind in self.kinds}
        self._identifiers = {}  # of meter events → when received
        self._series = {}       # (event_name, customer) → accepted events in order of receipt
        if journal is not None:
            for kind, record in journal.load():
                if kind in self.objects:
                    self._index(kind, record)

    def _keep(self, kind, record):
        if self._journal is not None:
            self._journal.append(kind, record)
        self._index(kind, record)
        return record

    def _index(self, kind, record):
        known = record["id"] in self.objects[kind]
        self.objects[kind][record["id"]] = record
        if kind != "event":
            return
        self._identifiers[record["identifier"]] = max(record["created"], self._identifiers.get(record["identifier"], 0))
        if record["status"] != "accepted":
            return
        series = self._series.setdefault((record["event_name"], record["customer"]), [])
        if known:
            series[:] = [record if event["id"] == record["id"] else event for event in series]
        else:
            series.append(record)

    def _find(self, kind, id_, param="id", status=404):
        record = self.objects[kind].get(id_)
        if record is None:
            raise no_such({"meter": "billing meter", "report": "event"}.get(kind, kind), id_, param, status)
        return record

    def _retrieve(self, kind, id_, params):
        only(params, ())
        record = self._find(kind, id_)
        if record.get("deleted"):
            return {"id": id_, "object": kind, "deleted": True}
        return record

    def _list(self, kind, url, params):
        filters = {"customer": ("email",), "product": ("active",), "price": ("active", "product", "lookup_keys"), "meter": ("status",)}[kind]
        only(params, ("limit", "starting_after", "ending_before", "created", *filters))
        rows = [row for row in reversed(self.objects[kind].values()) if not row.get("deleted")]
        for name in filters:
            if name in params:
                rows = [row for row in rows if _matches(row, name, params[name])]
        return page(rows, params, url)

    def _update(self, kind, id_, params):
        record = dict(self._find(kind, id_))
        if record.get("deleted"):
            raise no_such(kind, id_)
        only(params, {"customer": ("name", "email", "description", "metadata", "phone"), "product": ("name", "active", "description", "metadata"),
                      "price": ("active", "nickname", "metadata", "lookup_key")}[kind])
        for name, value in params.items():
            if name == "metadata":
                record[name] = {**record[name], **value}
            elif name != "expand":
                record[name] = value == "true" if name == "active" else value
        return self._keep(kind, record)

    def _create_customer(self, params):
        only(params, ("name", "email", "description", "metadata", "phone", "address", "test_clock", "preferred_locales", "tax_exempt"))
        id_ = new_id("cus")
        return self._keep("customer", {
            "id": id_, "object": "customer", "address": params.get("address"), "balance": 0, "created": int(self.clock()),
            "currency": None, "default_source": None, "delinquent": False, "description": params.get("description"), "discount": None,
            "email": params.get("email"), "invoice_prefix": id_[-8:].upper(),
            "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
            "livemode": False, "metadata": params.get("metadata", {}), "name": params.get("name"), "next_invoice_sequence": 1,
            "phone": params.get("phone"), "preferred_locales": [], "shipping": None, "tax_exempt": params.get("tax_exempt", "none"),
            "test_clock": params.get("test_clock")})

    def _delete_customer(self, id_, params):
        record = self._find("customer", id_)
        self._keep("customer", {**record, "deleted": True})
        return {"id": id_, "object": "customer", "deleted": True}

    def _create_product(self, params):
        only(params, ("id", "name", "active", "description", "metadata", "unit_label", "default_price_data", "images", "tax_code", "url"))
        name = require_text(params, "name")
        id_ = params.get("id") or new_id("prod")
        if id_ in self.objects["product"]:
            raise StripeError(400, "Product already exists.", code="resource_already_exists", param="id")
        now = int(self.clock())
        return self._keep("product", {
            "id": id_, "object": "product", "active": params.get("active", "true") == "true", "created": now, "default_price": None,
            "description": params.get("description"), "images": [], "livemode": False, "marketing_features": [],
            "metadata": params.get("metadata", {}), "name": name, "package_dimensions": None, "shippable": None,
            "statement_descriptor": None, "tax_code": params.get("tax_code"), "unit_label": params.get("unit_label"), "updated": now,
            "url": params.get("url")})

    def _create_price(self, params):
        only(params, ("currency", "product", "unit_amount", "unit_amount_decimal", "active", "nickname", "lookup_key", "metadata", "recurring",
                      "billing_scheme", "tiers", "tiers_mode", "transform_quantity", "tax_behavior"))
        currency = require_text(params, "currency")
        product = self._find("product", require_text(params, "product"), "product", 400)
        recurring = params.get("recurring")
        if recurring is not None:
            recurring = {"interval": require_text(recurring, "interval"), "interval_count": integer(recurring, "interval_count", 1),
                         "meter": recurring.get("meter"), "usage_type": recurring.get("usage_type", "licensed")}
            if recurring["usage_type"] == "metered" and not recurring["meter"]:
                raise invalid("recurring[meter]", "Metered prices must be backed by a meter: pass recurring[meter].")
            if recurring["meter"]:
                self._find("meter", recurring["meter"], "recurring[meter]", 400)
        if params.get("lookup_key") and any(row["lookup_key"] == params["lookup_key"] for row in self.objects["price"].values()):
            raise StripeError(400, f"A price (`{params['lookup_key']}`) already uses that lookup key.",
                              code="resource_already_exists", param="lookup_key")
        amount = integer(params, "unit_amount")
        return self._keep("price", {
            "id": new_id("price"), "object": "price", "active": params.get("active", "true") == "true",
            "billing_scheme": params.get("billing_scheme", "per_unit"), "created": int(self.clock()), "currency": currency,
            "custom_unit_amount": None, "livemode": False, "lookup_key": params.get("lookup_key"), "metadata": params.get("metadata", {}),
            "nickname": params.get("nickname"), "product": product["id"], "recurring": recurring,
            "tax_behavior": params.get("tax_behavior", "unspecified"), "tiers_mode": params.get("tiers_mode"),
            "transform_quantity": params.get("transform_quantity"), "type": "recurring" if recurring else "one_time", "unit_amount": amount,
            "unit_amount_decimal": params.get("unit_amount_decimal", None if amount is None else str(amount))})


def _matches(row, name, wanted):
    if name == "lookup_keys":
        return row["lookup_key"] in (wanted if isinstance(wanted, list) else [wanted])
    value = row[name]
    return value == (wanted == "true" if isinstance(value, bool) else wanted)


def page(rows, params, url):
    limit = integer(params, "limit", 10)
    if not 1 <= limit <= 100:
        raise invalid("limit", "This value must be between 1 and 100 (inclusive).")
    ids = [row["id"] for row in rows]
    if "starting_after" in params:
        if params["starting_after"] not in ids:
            raise no_such("object", params["starting_after"], "starting_after", 400)
        rows = rows[ids.index(params["starting_after"]) + 1:]
    elif "ending_before" in params:
        if params["ending_before"] not in ids:
            raise no_such("object", params["ending_before"], "ending_before", 400)
        rows = rows[:ids.index(params["ending_before"])][-limit:]
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": url}
