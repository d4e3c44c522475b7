"""The money half of the Stripe emulator: Checkout sessions, PaymentIntents with the outcomes of test cards, refunds, disputes, and the
events that all of them give: kept in a list, and delivered to a webhook, late, doubled, out of order or not at all as tests want.

What a customer does on a page, or a bank behind it, is told by POST /_emulator/act: see act().
"""

import hashlib
import hmac
import json
import random
import threading
import urllib.error
import urllib.request

from tests.support.stripe_objects import new_id, page
from tests.support.stripe_wire import StripeError, integer, invalid, missing, no_such, only, require_text

KINDS = ("session", "payment_intent", "refund", "dispute", "notice")
EVENTS_KEPT_S = 30 * 86400
SESSION_LEAST_S, SESSION_MOST_S = 1800, 86400
PAYMENT_SETTINGS = {
    "webhook_url": "",
    "webhook_secret": "whsec_emulator_0123456789",
    "webhook_version": "2026-08-26.dahlia",  # that events are rendered in
    "webhook_lose": 0.0,                     # the part that never comes
    "webhook_double": 0.0,                   # the part that comes twice
    "webhook_shuffle": 0,                    # how many are held back, to come out of order; POST act {"flush": true} sends the rest
    "webhook_seed": 1,
}
# Payment methods of Stripe's test cards → (status, decline code).
CARDS = {
    "pm_card_visa": ("succeeded", None),
    "pm_card_chargeDeclined": ("requires_payment_method", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": ("requires_payment_method", "insufficient_funds"),
    "pm_card_chargeDeclinedLostCard": ("requires_payment_method", "lost_card"),
    "pm_card_chargeDeclinedStolenCard": ("requires_payment_method", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": ("requires_payment_method", "expired_card"),
    "pm_card_authenticationRequired": ("requires_action", "authentication_required"),
    "pm_usBankAccount_processing": ("processing", None),
}
MINIMUMS = {"usd": 50, "gbp": 30, "eur": 50, "jpy": 50}
MOST = 99999999


class Payments:
    """A part of an account (stripe_account.py); methods with an underscore hold its lock."""

    # ---- Checkout

    def _create_session(self, params):
        only(params, ("mode", "client_reference_id", "customer", "line_items", "metadata", "payment_intent_data", "adaptive_pricing",
                      "expires_at", "success_url", "cancel_url", "automatic_tax", "saved_payment_method_options"))
        if require_text(params, "mode") != "payment":
            raise invalid("mode", "The emulator knows payments only.")
        customer = self._find("customer", require_text(params, "customer"), "customer", 400)
        if customer.get("deleted"):
            raise no_such("customer", customer["id"], "customer", 400)
        items = params.get("line_items")
        if not isinstance(items, list) or len(items) != 1:
            raise missing("line_items")
        price = items[0].get("price_data") or {}
        amount, currency = integer(price, "unit_amount"), require_text(price, "currency")
        if currency != currency.lower() or len(currency) != 3:
            raise StripeError(400, f"Invalid currency: {currency}.", param="line_items[0][price_data][currency]")
        if amount is None or amount < MINIMUMS.get(currency, 1):
            raise StripeError(400, "The Checkout Session's total amount due must add up to at least the minimum.", code="amount_too_small")
        if amount > MOST:
            raise StripeError(400, "The Checkout Session's total amount is too large.", code="amount_too_large")
        now = int(self.clock())
        expires = integer(params, "expires_at", now + SESSION_MOST_S)
        if not now + SESSION_LEAST_S <= expires <= now + SESSION_MOST_S:
            raise invalid("expires_at", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
        id_ = "cs_test_" + new_id("x")[2:]
        return self._keep("session", {
            "id": id_, "object": "checkout.session", "amount_subtotal": amount, "amount_total": amount, "cancel_url": params.get("cancel_url"),
            "client_reference_id": params.get("client_reference_id"), "created": now, "currency": currency, "customer": customer["id"],
            "expires_at": expires, "livemode": False, "metadata": params.get("metadata", {}), "mode": "payment", "payment_intent": None,
            "payment_status": "unpaid", "status": "open", "success_url": require_text(params, "success_url"),
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
            "url": f"https://checkout.stripe.com/c/pay/{id_}", "_intent_metadata": (params.get("payment_intent_data") or {}).get("metadata", {})})

    def _expire_session(self, id_, params):
        only(params, ())
        session = self._find("session", id_)
        if session["status"] != "open":
            raise StripeError(400, f"Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of "
                                   f"{session['status']}.")
        return self._close_session(session)

    def _close_session(self, session):
        session = self._keep("session", {**session, "status": "expired", "url": None})
        self._give("checkout.session.expired", session)
        return session

    def _create_portal(self, params):
        only(params, ("customer", "return_url", "configuration", "locale"))
        customer = self._find("customer", require_text(params, "customer"), "customer", 400)
        id_ = new_id("bps")
        return {"id": id_, "object": "billing_portal.session", "created": int(self.clock()), "customer": customer["id"], "livemode": False,
                "return_url": params.get("return_url"), "url": f"https://billing.stripe.com/session/{id_}"}

    # ---- PaymentIntents

    def _create_intent(self, params):
        only(params, ("amount", "currency", "customer", "payment_method", "metadata", "off_session", "confirm", "description"))
        intent = self._keep_intent(integer(params, "amount"), require_text(params, "currency"), params.get("customer"), params.get("metadata", {}),
                                   "requires_confirmation" if params.get("payment_method") else "requires_payment_method",
                                   params.get("payment_method"))
        self._give("payment_intent.created", intent)
        return self._confirm_intent(intent["id"], {}) if params.get("confirm") == "true" else intent

    def _keep_intent(self, amount, currency, customer, metadata, status, method):
        return self._keep("payment_intent", {
            "id": new_id("pi"), "object": "payment_intent", "amount": amount, "amount_received": amount if status == "succeeded" else 0,
            "created": int(self.clock()), "currency": currency, "customer": customer, "last_payment_error": None, "latest_charge": None,
            "livemode": False, "metadata": metadata, "payment_method": method, "status": status})

    def _confirm_intent(self, id_, params):
        only(params, ("payment_method", "off_session"))
        intent = self._find("payment_intent", id_)
        method = params.get("payment_method") or intent["payment_method"]
        status, decline = CARDS.get(method, CARDS["pm_card_visa"])
        error = decline and {"type": "card_error", "code": decline if decline == "authentication_required" else "card_declined",
                             "decline_code": decline, "message": "Your card was declined."}
        intent = self._keep("payment_intent", {**intent, "payment_method": method, "status": status, "last_payment_error": error,
                                               "latest_charge": new_id("ch"), "amount_received": intent["amount"] if status == "succeeded" else 0})
        if error:
            self._give("payment_intent.payment_failed", intent)
            raise StripeError(402, error["message"], type_="card_error", code=error["code"], executed=True)
        self._give("payment_intent." + status, intent)
        return intent

    # ---- What is taken back

    def _create_refund(self, params):
        only(params, ("payment_intent", "amount", "reason", "metadata"))
        intent = self._find("payment_intent", require_text(params, "payment_intent"), "payment_intent", 400)
        taken = sum(row["amount"] for row in self.objects["refund"].values()
                    if row["payment_intent"] == intent["id"] and row["status"] not in ("failed", "canceled"))
        amount = integer(params, "amount", intent["amount_received"] - taken)
        if amount <= 0 or amount > intent["amount_received"] - taken:
            raise StripeError(400, "Refund amount is greater than unrefunded amount on charge.", param="amount")
        refund = self._keep("refund", {
            "id": new_id("re"), "object": "refund", "amount": amount, "charge": intent["latest_charge"], "created": int(self.clock()),
            "currency": intent["currency"], "metadata": params.get("metadata", {}), "payment_intent": intent["id"], "status": "succeeded"})
        self._give("refund.created", refund)
        return refund

    # ---- Events

    def _give(self, type_, record):
        shown = {key: value for key, value in record.items() if not key.startswith("_")}
        event = self._keep("notice", {
            "id": new_id("evt"), "object": "event", "api_version": self.settings["webhook_version"], "created": int(self.clock()),
            "data": {"object": shown}, "livemode": False, "pending_webhooks": 1, "request": {"id": None, "idempotency_key": None}, "type": type_})
        self.post.take(event)

    def _list_events(self, params):
        only(params, ("limit", "starting_after", "ending_before", "created", "type", "types"))
        since = self.clock() - EVENTS_KEPT_S
        created = params.get("created") or {}
        least = max(int(created.get("gte", 0)), int(created.get("gt", -1)) + 1)
        most = int(created.get("lte", 2 ** 62))
        types = params.get("types") or ([params["type"]] if "type" in params else None)
        rows = [row for row in reversed(self.objects["notice"].values())
                if row["created"] >= max(least, since) and row["created"] <= most and (types is None or row["type"] in types)]
        rows.sort(key=lambda row: row["created"], reverse=True)
        return page(rows, params, "/v1/events")

    def _show(self, kind, id_, params):
        return {key: value for key, value in self._retrieve(kind, id_, params).items() if not key.startswith("_")}

    def _route_payments(self, method, parts):
        if parts[:2] == ["checkout", "sessions"]:
            if len(parts) == 2 and method == "POST":
                return (self._shown(self._create_session),)
            if len(parts) == 3 and method == "GET":
                return (self._show, "session", parts[2])
            if len(parts) == 4 and method == "POST" and parts[3] == "expire":
                return (self._shown(self._expire_session), parts[2])
            return None
        if parts == ["billing_portal", "sessions"] and method == "POST":
            return (self._create_portal,)
        if parts == ["events"] and method == "GET":
            return (self._list_events,)
        if len(parts) == 2 and parts[0] == "events" and method == "GET":
            return (self._retrieve, "notice", parts[1])
        kinds = {"payment_intents": "payment_intent", "refunds": "refund", "disputes": "dispute"}
        if len(parts) == 2 and parts[0] in kinds and method == "GET":
            return (self._retrieve, kinds[parts[0]], parts[1])
        if len(parts) == 3 and parts[0] == "payment_intents" and parts[2] == "confirm" and method == "POST":
            return (self._confirm_intent, parts[1])
        return {("POST", ("payment_intents",)): (self._create_intent,), ("POST", ("refunds",)): (self._create_refund,)}.get((method, tuple(parts)))

    @staticmethod
    def _shown(handler):
        return lambda *args: {key: value for key, value in handler(*args).items() if not key.startswith("_")}

    # ---- What people and banks do

    def act(self, spec):
        """{"session": id, "does": "pay" | "pay_later" | "succeed" | "fail" | "expire", "tax": 0, "discount": 0}
        {"refund": id, "does": "fail" | "cancel"}
        {"payment_intent": id, "does": "dispute" | "inquiry", "amount": N}
        {"dispute": id, "does": "withdraw" | "reinstate" | "win" | "lose"}
        {"flush": true}    {"deliver": [event ids]}
        → the object."""
        with self._lock:
            if "session" in spec:
                return self._act_on_session(self._find("session", spec["session"]), spec)
            if "refund" in spec:
                refund = self._find("refund", spec["refund"])
                status = {"fail": "failed", "cancel": "canceled"}[spec["does"]]
                refund = self._keep("refund", {**refund, "status": status})
                self._give("refund.failed" if status == "failed" else "refund.updated", refund)
                return refund
            if "payment_intent" in spec:
                return self._begin_dispute(self._find("payment_intent", spec["payment_intent"]), spec)
            if "dispute" in spec:
                return self._act_on_dispute(self._find("dispute", spec["dispute"]), spec["does"])
            if "deliver" in spec:
                for id_ in spec["deliver"]:
                    self.post.send_now(self._find("notice", id_))
                return {"sent": len(spec["deliver"])}
            return {"sent": self.post.flush()}

    def _act_on_session(self, session, spec):
        does = spec["does"]
        if does == "expire":
            return self._close_session(session)
        if does in ("pay", "pay_later"):
            if session["status"] != "open":
                raise ValueError(f"the session is {session['status']}")
            tax, discount = spec.get("tax", 0), spec.get("discount", 0)
            total = session["amount_subtotal"] + tax - discount
            intent = self._keep_intent(total, session["currency"], session["customer"], session["_intent_metadata"],
                                       "succeeded" if does == "pay" else "processing", "pm_card_visa")
            intent = self._keep("payment_intent", {**intent, "latest_charge": new_id("ch")})
            session = self._keep("session", {
                **session, "status": "complete", "url": None, "payment_intent": intent["id"], "amount_total": total,
                "payment_status": "paid" if does == "pay" else "unpaid",
                "total_details": {"amount_discount": discount, "amount_shipping": 0, "amount_tax": tax}})
            self._give("payment_intent." + intent["status"], intent)
            self._give("checkout.session.completed", session)
            return session
        intent = self._find("payment_intent", session["payment_intent"])
        good = does == "succeed"
        intent = self._keep("payment_intent", {**intent, "status": "succeeded" if good else "requires_payment_method",
                                               "amount_received": intent["amount"] if good else 0})
        session = self._keep("session", {**session, "payment_status": "paid" if good else "unpaid"})
        self._give("checkout.session.async_payment_" + ("succeeded" if good else "failed"), session)
        return session

    def _begin_dispute(self, intent, spec):
        inquiry = spec["does"] == "inquiry"
        dispute = self._keep("dispute", {
            "id": new_id("du"), "object": "dispute", "amount": spec.get("amount", intent["amount"]), "charge": intent["latest_charge"],
            "created": int(self.clock()), "currency": intent["currency"], "livemode": False, "payment_intent": intent["id"],
            "reason": "fraudulent", "status": "warning_needs_response" if inquiry else "needs_response"})
        self._give("charge.dispute.created", dispute)
        if not inquiry:
            self._give("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def _act_on_dispute(self, dispute, does):
        if does in ("withdraw", "reinstate"):
            self._give("charge.dispute.funds_" + {"withdraw": "withdrawn", "reinstate": "reinstated"}[does], dispute)
            return dispute
        status = {"win": "won", "lose": "lost"}[does]
        dispute = self._keep("dispute", {**dispute, "status": status})
        if does == "win":
            self._give("charge.dispute.funds_reinstated", dispute)
        self._give("charge.dispute.closed", dispute)
        return dispute


class Post:
    """Delivers events to the webhook, on a thread of its own; what a test wants lost, doubled or held back is chosen by a seed."""

    def __init__(self, settings, clock):
        self.settings = settings
        self.clock = clock
        self.deliveries = []  # (event id, status or None)
        self._held = []
        self._random = random.Random(settings["webhook_seed"])
        self._queue = []
        self._taken = 0
        self._life = 0  # how often it was forgotten
        self._ready = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def take(self, event):
        if not self.settings["webhook_url"]:
            return
        if self._random.random() < self.settings["webhook_lose"]:
            return
        copies = 2 if self._random.random() < self.settings["webhook_double"] else 1
        self._held += [event] * copies
        self._random.shuffle(self._held)
        while len(self._held) > self.settings["webhook_shuffle"]:
            self.send_now(self._held.pop())

    def flush(self):
        held, self._held = self._held, []
        for event in held:
            self.send_now(event)
        return len(held)

    def forget(self):
        """What was sent counts no more, what is under way comes to nothing that anybody looks at."""
        with self._ready:
            self._queue.clear()
            self._held.clear()
            self.deliveries.clear()
            self._taken = 0
            self._life += 1
            self._random = random.Random(self.settings["webhook_seed"])

    def waiting(self):
        with self._ready:
            return self._taken - len(self.deliveries)

    def send_now(self, event):
        with self._ready:
            self._taken += 1
            self._queue.append(event)
            self._ready.notify()

    def _run(self):
        while True:
            with self._ready:
                while not self._queue:
                    self._ready.wait()
                event, life = self._queue.pop(0), self._life
            status = self._deliver(event)
            with self._ready:
                if life == self._life:
                    self.deliveries.append((event["id"], status))

    def _deliver(self, event):
        body = json.dumps(event, indent=2).encode()
        moment = int(self.clock())
        mac = hmac.new(self.settings["webhook_secret"].encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(self.settings["webhook_url"], data=body, method="POST", headers={
            "Content-Type": "application/json; charset=utf-8", "Stripe-Signature": f"t={moment},v1={mac}", "User-Agent": "Stripe/1.0"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None
