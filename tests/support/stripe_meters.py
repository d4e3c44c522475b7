"""Billing meters, meter events, their adjustments and summaries, and the reports of what was refused asynchronously.

A meter event first takes its (customer, meter) slot, of which Stripe allows one at a time, then the account's lock.
"""

import contextlib
import time
from decimal import Decimal, InvalidOperation

from tests.support.stripe_objects import DAY_S, Store, new_id, page
from tests.support.stripe_wire import StripeError, integer, invalid, missing, only, require_text

PAST_LIMIT_S = 35 * DAY_S
FUTURE_LIMIT_S = 5 * 60
CANCEL_WINDOW_S = DAY_S
MAX_VALUE_DIGITS = 15
DIGITS_CHECKED_SINCE = "2026-04-22"
WINDOW_S = {"hour": 3600, "day": DAY_S}


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


class Metering(Store):
    def _create_meter(self, params):
        only(params, ("display_name", "event_name", "default_aggregation", "customer_mapping", "value_settings", "event_time_window"))
        display_name = require_text(params, "display_name", 250)
        event_name = require_text(params, "event_name", 100)
        formula = choice(params.get("default_aggregation"), "default_aggregation", "formula", ("sum", "count", "last"))
        mapping = params.get("customer_mapping") or {"type": "by_id", "event_payload_key": "stripe_customer_id"}
        choice(mapping, "customer_mapping", "type", ("by_id",))
        if not mapping.get("event_payload_key"):
            raise missing("customer_mapping[event_payload_key]")
        value_key = (params.get("value_settings") or {}).get("event_payload_key", "value")
        window = params.get("event_time_window")
        if window is not None and window not in WINDOW_S:
            raise invalid("event_time_window", "Invalid event_time_window: must be one of day or hour")
        if any(meter["event_name"] == event_name for meter in self.objects["meter"].values()):
            raise StripeError(400, f"A meter with event_name {event_name} already exists.", code="resource_already_exists", param="event_name")
        now = int(self.clock())
        return self._keep("meter", {
            "id": new_id("mtr_test"), "object": "billing.meter", "created": now,
            "customer_mapping": {"event_payload_key": mapping["event_payload_key"], "type": "by_id"},
            "default_aggregation": {"formula": formula}, "display_name": display_name, "event_name": event_name,
            "event_time_window": window, "livemode": False, "status": "active", "status_transitions": {"deactivated_at": None},
            "updated": now, "value_settings": {"event_payload_key": value_key}})

    def _update_meter(self, id_, params):
        only(params, ("display_name",))
        meter = self._find("meter", id_)
        return self._keep("meter", {**meter, "display_name": require_text(params, "display_name", 250), "updated": int(self.clock())})

    def _set_meter_status(self, id_, status, params):
        only(params, ())
        meter = self._find("meter", id_)
        if meter["status"] == status:
            raise StripeError(400, f"This meter is already {status}.", param="id")
        now = int(self.clock())
        return self._keep("meter", {**meter, "status": status, "updated": now,
                                    "status_transitions": {"deactivated_at": now if status == "inactive" else None}})

    # ---- meter events

    def _create_meter_event(self, params, version, hold_s):
        only(params, ("event_name", "payload", "identifier", "timestamp"))
        event_name = require_text(params, "event_name", 100)
        payload = params.get("payload")
        if not isinstance(payload, dict) or not all(isinstance(value, str) for value in payload.values()):
            raise missing("payload") if payload is None else invalid("payload", "payload must be a map of strings.")
        identifier = params.get("identifier")
        if identifier is not None:
            require_text(params, "identifier", 100)
        now = self.clock()
        timestamp = integer(params, "timestamp", int(now))
        time_error = self._timestamp_error(timestamp, now)
        if time_error and self.settings["timestamp_errors"] == "sync":
            raise StripeError(400, time_error[1], code=time_error[0], param="timestamp")
        with self._lock:
            meter = next((row for row in self.objects["meter"].values() if row["event_name"] == event_name), None)
        customer = payload.get(meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id", "")
        with self._slot(customer, event_name):
            time.sleep(self.settings["processing_ms"] / 1000 + hold_s)
            with self._lock:
                return self._accept(event_name, payload, identifier, timestamp, meter, customer, version, time_error)

    def _timestamp_error(self, timestamp, now):
        if timestamp < now - PAST_LIMIT_S:
            return "timestamp_too_far_in_past", "The timestamp must be within the past 35 calendar days."
        if timestamp > now + FUTURE_LIMIT_S:
            return "timestamp_in_future", "The timestamp must be at most 5 minutes in the future."
        return None

    @contextlib.contextmanager
    def _slot(self, customer, event_name):
        key = (customer, event_name)
        with self._lock:
            if self._busy[key] >= 1:
                self.counters["lock_timeouts"] += 1
                raise StripeError(
                    429, "This object cannot be accessed right now because another API request or Stripe process is currently accessing it."
                         " Only one concurrent call per customer per meter is allowed.", code="lock_timeout", retry=True,
                    headers={"Stripe-Rate-Limited-Reason": "resource-specific"})
            self._busy[key] += 1
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]

    def _accept(self, event_name, payload, identifier, timestamp, meter, customer, version, time_error):
        now = self.clock()
        if identifier is None:
            identifier = new_id("idmp")
        seen = self._identifiers.get(identifier)
        if seen is not None and now - seen < self.settings["identifier_window_s"]:
            self.counters["duplicate_identifiers"] += 1
            raise StripeError(400, f"An event already exists with identifier {identifier}.", param="identifier", retry=False, executed=True)
        code, why, value = self._check_event(meter, customer, payload, version)
        if time_error:
            code, why = time_error
        self._keep("event", {"id": new_id("mtrevt"), "identifier": identifier, "event_name": event_name, "customer": customer,
                             "value": None if value is None else str(value), "timestamp": timestamp, "created": now,
                             "payload": payload, "status": "rejected" if code else "accepted", "code": code, "cancelled": False})
        self.counters["meter_events_rejected" if code else "meter_events_accepted"] += 1
        if code:
            self._report(meter, code, why, identifier, now)
        return {"object": "billing.meter_event", "created": int(now), "event_name": event_name, "identifier": identifier, "livemode": False,
                "payload": payload, "timestamp": timestamp}

    def _check_event(self, meter, customer, payload, version):
        """What v1 finds out only after it has answered 200: (code, why, value)."""
        if meter is None:
            return "no_meter", "No meter found for the event name.", None
        if meter["status"] != "active":
            return "archived_meter", "The meter is archived.", None
        if not customer:
            return "meter_event_no_customer_defined", f"Customer mapping key {meter['customer_mapping']['event_payload_key']} not found in payload.", None
        record = self.objects["customer"].get(customer)
        if record is None or record.get("deleted"):
            return "meter_event_customer_not_found", f"The customer {customer} was not found.", None
        if meter["default_aggregation"]["formula"] == "count":
            return None, None, Decimal(1)
        text = payload.get(meter["value_settings"]["event_payload_key"])
        if text is None:
            return "meter_event_value_not_found", f"Value key {meter['value_settings']['event_payload_key']} not found in payload.", None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = None
        if value is None or not value.is_finite():
            return "meter_event_invalid_value", f"The value in the event payload must be a number. Received {text}.", None
        if version[:10] >= DIGITS_CHECKED_SINCE and len(value.normalize().as_tuple().digits) > MAX_VALUE_DIGITS:
            return ("meter_event_value_too_many_digits",
                    f"The value in the event payload can have at most {MAX_VALUE_DIGITS} digits. Received {text}.", None)
        return None, None, value

    def _report(self, meter, code, why, identifier, now):
        error = {"code": code, "error_count": 1, "sample_errors": [{"error_message": why, "request": {"identifier": identifier}}]}
        report = {
            "id": new_id("evt_test"), "object": "v2.core.event", "context": None, "created": iso(now),
            "data": {"developer_message_summary": "There is 1 invalid event", "reason": {"error_count": 1, "error_types": [error]},
                     "validation_end": iso(now // 10 * 10 + 10), "validation_start": iso(now // 10 * 10)},
            "livemode": False, "reason": None,
            "type": "v1.billing.meter.error_report_triggered" if meter else "v1.billing.meter.no_meter_found"}
        if meter:
            report["related_object"] = {"id": meter["id"], "type": "billing.meter", "url": "/v1/billing/meters/" + meter["id"]}
        self._keep("report", report)

    def _list_reports(self, params):
        only(params, ("limit", "object_id", "page", "types"))
        rows = [row for row in reversed(self.objects["report"].values())
                if params.get("object_id") in (None, row.get("related_object", {}).get("id"))]
        return {"data": rows[:integer(params, "limit", 20)], "next_page_url": None, "previous_page_url": None}

    def _create_adjustment(self, params):
        only(params, ("event_name", "type", "cancel"))
        event_name = require_text(params, "event_name", 100)
        if require_text(params, "type") != "cancel":
            raise invalid("type", "Invalid type: must be cancel")
        cancel = params.get("cancel")
        identifier = require_text(cancel if isinstance(cancel, dict) else {}, "identifier", 100)
        event = next((row for row in reversed(self.objects["event"].values())
                      if row["identifier"] == identifier and row["event_name"] == event_name), None)
        if event is None:
            raise StripeError(400, f"No meter event found with identifier {identifier}.", code="resource_missing", param="cancel[identifier]")
        if self.clock() - event["created"] > CANCEL_WINDOW_S:
            raise StripeError(400, "Meter events can be cancelled only within 24 hours of receipt.", param="cancel[identifier]")
        if event["cancelled"]:
            raise StripeError(400, f"The meter event {identifier} is already cancelled.", param="cancel[identifier]")
        self._keep("event", {**event, "cancelled": True})
        self._keep("adjustment", {"id": new_id("mtradj"), "identifier": identifier, "event_name": event_name, "created": self.clock()})
        return {"object": "billing.meter_event_adjustment", "cancel": {"identifier": identifier}, "event_name": event_name,
                "livemode": False, "status": "pending", "type": "cancel"}

    # ---- summaries

    def _summaries(self, meter_id, params):
        only(params, ("customer", "start_time", "end_time", "value_grouping_window", "limit", "starting_after", "ending_before"))
        meter = self._find("meter", meter_id)
        customer = self._find("customer", require_text(params, "customer"), "customer")["id"]
        start, end = (integer({name: require_text(params, name)}, name) for name in ("start_time", "end_time"))
        for name, value in (("start_time", start), ("end_time", end)):
            if value % 60:
                raise invalid(name, f"Invalid {name}: must be aligned with minute boundaries.")
        if end <= start:
            raise invalid("end_time", "Invalid end_time: must be after start_time.")
        grouping = params.get("value_grouping_window")
        if grouping is not None and grouping not in WINDOW_S:
            raise invalid("value_grouping_window", "Invalid value_grouping_window: must be one of day or hour")
        if grouping and (start % WINDOW_S[grouping] or end % WINDOW_S[grouping]):
            raise invalid("start_time", f"Invalid start_time or end_time: must be aligned with {grouping} boundaries in UTC.")
        step = WINDOW_S[grouping] if grouping else end - start
        groups = {}
        for event in self._countable(meter, customer):
            if start <= event["timestamp"] < end:
                groups.setdefault((event["timestamp"] - start) // step, []).append(event)
        rows = [{"id": f"mtrusg_test_{meter_id[-8:]}{customer[-8:]}{start + index * step}", "object": "billing.meter_event_summary",
                 "aggregated_value": _aggregate(meter, events), "end_time": start + (index + 1) * step, "livemode": False,
                 "meter": meter_id, "start_time": start + index * step}
                for index, events in sorted(groups.items(), reverse=True)]
        return page(rows, params, f"/v1/billing/meters/{meter_id}/event_summaries")

    def _countable(self, meter, customer):
        visible = self.clock() - self.settings["summary_delay_s"]
        events = [event for event in self._series.get((meter["event_name"], customer), ())
                  if not event["cancelled"] and event["created"] <= visible]
        if meter["event_time_window"]:  # the newest event of a window replaces the earlier ones
            size = WINDOW_S[meter["event_time_window"]]
            events = list({event["timestamp"] // size: event for event in events}.values())
        return events

    def totals(self):
        """{event_name: {customer: sum of accepted, uncancelled values}}, whatever the summaries' lag."""
        with self._lock:
            totals = {}
            for (event_name, customer), events in self._series.items():
                value = sum((Decimal(event["value"]) for event in events if not event["cancelled"]), Decimal(0))
                totals.setdefault(event_name, {})[customer] = _number(value)
            return totals


def choice(node, outer, name, allowed):
    value = node.get(name) if isinstance(node, dict) else None
    if value is None:
        raise missing(f"{outer}[{name}]")
    if value not in allowed:
        raise invalid(f"{outer}[{name}]", f"Invalid {outer}[{name}]: must be one of {', '.join(allowed)}")
    return value


def _aggregate(meter, events):
    if meter["default_aggregation"]["formula"] == "last":
        return _number(Decimal(max(events, key=lambda event: (event["timestamp"], event["created"]))["value"]))
    return _number(sum((Decimal(event["value"]) for event in events), Decimal(0)))


def _number(value):
    return int(value) if value == value.to_integral_value() else float(value)
