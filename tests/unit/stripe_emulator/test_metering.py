"""Meters, meter events, adjustments, summaries, asynchronous errors and limits (requirements C8, C9)."""

import threading
import unittest

from tests.unit.stripe_emulator.base import EmulatorTest

DAY_S = 86400


class Meters(EmulatorTest):
    def test_one_meter_per_event_name(self):
        self.meter()
        answer = self.api.request("POST", "/v1/billing/meters", {"display_name": "again", "event_name": "api_calls",
                                                                 "default_aggregation": {"formula": "sum"}})
        self.assertEqual((answer.status, answer.error["param"]), (400, "event_name"))

    def test_only_the_display_name_changes_later(self):
        meter = self.meter()
        self.assertEqual(self.api.post(f"/v1/billing/meters/{meter['id']}", {"display_name": "Calls"})["display_name"], "Calls")
        self.assertEqual(self.api.request("POST", f"/v1/billing/meters/{meter['id']}", {"event_name": "x"}).status, 400)

    def test_deactivate_and_reactivate(self):
        meter = self.meter()
        off = self.api.post(f"/v1/billing/meters/{meter['id']}/deactivate")
        self.assertEqual(off["status"], "inactive")
        self.assertIsNotNone(off["status_transitions"]["deactivated_at"])
        self.assertEqual(self.api.get("/v1/billing/meters", {"status": "active"})["data"], [])
        self.assertEqual(self.api.request("POST", f"/v1/billing/meters/{meter['id']}/deactivate").status, 400)
        self.assertEqual(self.api.post(f"/v1/billing/meters/{meter['id']}/reactivate")["status"], "active")

    def test_formulas_mappings_and_windows_are_checked(self):
        base = {"display_name": "x", "event_name": "x", "default_aggregation": {"formula": "sum"}}
        for change in ({"default_aggregation": {"formula": "max"}}, {"event_time_window": "minute"}, {"customer_mapping": {"type": "by_name"}},
                       {"event_name": "x" * 101}, {"event_name": ""}):
            with self.subTest(change):
                self.assertEqual(self.api.request("POST", "/v1/billing/meters", {**base, **change}).status, 400)


class Identifiers(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.meter()
        self.acme = self.customer()

    def test_a_duplicate_is_400_marked_as_not_to_be_retried_and_counts_once(self):
        self.assertEqual(self.send(self.acme, 5, identifier="id-1").status, 200)
        for _ in range(2):
            answer = self.send(self.acme, 5, identifier="id-1")
            self.assertEqual((answer.status, answer.error["type"]), (400, "invalid_request_error"))
            self.assertEqual(answer.headers["Stripe-Should-Retry"], "false")
            self.assertIn("already exists with identifier id-1", answer.error["message"])
        self.assertEqual(self.total(self.acme), 5)

    def test_after_24_hours_the_identifier_is_forgotten(self):
        self.send(self.acme, 5, identifier="id-1")
        self.admin("POST", "clock", {"advance_s": DAY_S - 60})
        self.assertEqual(self.send(self.acme, 5, identifier="id-1").status, 400)
        self.admin("POST", "clock", {"advance_s": 120})
        self.assertEqual(self.send(self.acme, 5, identifier="id-1").status, 200)
        self.assertEqual(self.total(self.acme), 10)

    def test_the_uniqueness_spans_meters_and_customers(self):
        self.meter("tokens")
        self.send(self.acme, 5, identifier="id-1")
        self.assertEqual(self.send(self.customer(), 5, "tokens", identifier="id-1").status, 400)

    def test_at_most_100_characters(self):
        self.assertEqual(self.send(self.acme, identifier="x" * 100).status, 200)
        self.assertEqual(self.send(self.acme, identifier="x" * 101).status, 400)

    def test_one_is_made_up_when_none_is_given(self):
        first, second = self.send(self.acme).body, self.send(self.acme).body
        self.assertNotEqual(first["identifier"], second["identifier"])
        self.assertEqual(self.total(self.acme), 2)


class Timestamps(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.meter()
        self.acme = self.customer()

    def test_35_days_back_and_5_minutes_ahead(self):
        now = int(self.emulator.now())
        for offset_s, status in ((-35 * DAY_S + 60, 200), (-35 * DAY_S - 60, 400), (240, 200), (360, 400)):
            with self.subTest(offset_s):
                answer = self.send(self.acme, timestamp=now + offset_s)
                self.assertEqual(answer.status, status)
                if status == 400:
                    self.assertIn(answer.error["code"], ("timestamp_too_far_in_past", "timestamp_in_future"))

    def test_the_clock_moves_the_bounds(self):
        now = int(self.emulator.now())
        self.admin("POST", "clock", {"advance_s": 36 * DAY_S})
        self.assertEqual(self.send(self.acme, timestamp=now).status, 400)

    def test_found_out_asynchronously_when_so_set(self):
        self.admin("POST", "settings", {"timestamp_errors": "async"})
        self.assertEqual(self.send(self.acme, timestamp=int(self.emulator.now()) - 36 * DAY_S).status, 200)
        self.assertEqual(self.total(self.acme), 0)
        report = self.api.get("/v2/core/events")["data"][0]
        self.assertEqual(report["data"]["reason"]["error_types"][0]["code"], "timestamp_too_far_in_past")


class AsynchronousErrors(EmulatorTest):
    def test_each_is_answered_200_counted_nowhere_and_reported(self):
        meter, acme = self.meter(), self.customer()
        self.meter("archived")
        archived = self.api.get("/v1/billing/meters")["data"][0]
        self.api.post(f"/v1/billing/meters/{archived['id']}/deactivate")
        gone = self.customer()
        self.api.call("DELETE", f"/v1/customers/{gone}")
        cases = {
            "meter_event_customer_not_found": ("api_calls", {"stripe_customer_id": "cus_none", "value": "1"}),
            "meter_event_no_customer_defined": ("api_calls", {"value": "1"}),
            "meter_event_value_not_found": ("api_calls", {"stripe_customer_id": acme}),
            "meter_event_invalid_value": ("api_calls", {"stripe_customer_id": acme, "value": "many"}),
            "archived_meter": ("archived", {"stripe_customer_id": acme, "value": "1"}),
            "no_meter": ("unknown_meter", {"stripe_customer_id": acme, "value": "1"}),
        }
        for code, (event_name, payload) in cases.items():
            with self.subTest(code):
                answer = self.api.request("POST", "/v1/billing/meter_events",
                                          {"event_name": event_name, "payload": payload, "identifier": "id-" + code})
                self.assertEqual(answer.status, 200)
                report = self.api.get("/v2/core/events")["data"][0]
                error = report["data"]["reason"]["error_types"][0]
                self.assertEqual((error["code"], error["error_count"]), (code, 1))
                self.assertEqual(error["sample_errors"][0]["request"]["identifier"], "id-" + code)
                if code == "no_meter":
                    self.assertEqual(report["type"], "v1.billing.meter.no_meter_found")
                else:
                    self.assertEqual(report["type"], "v1.billing.meter.error_report_triggered")
                    self.assertEqual(report["related_object"]["type"], "billing.meter")
                self.assertEqual(self.api.get("/v2/core/events/" + report["id"]), report)
        self.send(gone, identifier="id-gone")
        self.assertEqual(self.total(acme), 0)
        self.assertEqual(len(self.api.get("/v2/core/events", {"object_id": meter["id"]})["data"]), 5)

    def test_values_of_more_than_15_digits_since_dahlia(self):
        self.meter()
        acme = self.customer()
        self.send(acme, 10**15 + 1, headers={"Stripe-Version": "2026-04-22.dahlia"})
        self.send(acme, 10**15 - 1, headers={"Stripe-Version": "2026-04-22.dahlia"})
        self.assertEqual(self.total(acme), 10**15 - 1)


class Limits(EmulatorTest):
    settings = {"summary_delay_s": 0, "processing_ms": 200}

    def at_once(self, *calls):
        statuses = []
        threads = [threading.Thread(target=lambda call=call: statuses.append(call())) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statuses

    def test_one_concurrent_call_per_customer_and_meter(self):
        self.meter()
        acme = self.customer()
        answers = self.at_once(*[lambda: self.send(acme)] * 4)
        self.assertEqual(sorted(answer.status for answer in answers), [200, 429, 429, 429])
        refused = next(answer for answer in answers if answer.status == 429)
        self.assertEqual(refused.error["code"], "lock_timeout")
        self.assertEqual(self.total(acme), 1)
        self.assertEqual(self.admin("GET", "state")["counters"]["lock_timeouts"], 3)

    def test_other_customers_and_meters_do_not_wait(self):
        self.meter()
        self.meter("tokens")
        acme, globex = self.customer(), self.customer()
        answers = self.at_once(lambda: self.send(acme), lambda: self.send(globex), lambda: self.send(acme, 1, "tokens"))
        self.assertEqual([answer.status for answer in answers], [200, 200, 200])

    def test_calls_per_second_of_the_account(self):
        self.admin("POST", "settings", {"rate_limit_per_s": 10})
        statuses = [self.api.request("GET", "/v1/customers").status for _ in range(15)]
        self.assertEqual(statuses, [200] * 10 + [429] * 5)
        self.assertEqual(self.api.request("GET", "/v1/customers").error["code"], "rate_limit")


class Adjustments(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.meter()
        self.acme = self.customer()
        self.send(self.acme, 7, identifier="id-1")

    def cancel(self, identifier="id-1", **params):
        return self.api.request("POST", "/v1/billing/meter_event_adjustments",
                                {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": identifier}, **params})

    def test_a_cancelled_event_no_longer_counts(self):
        answer = self.cancel()
        self.assertEqual((answer.status, answer.body["object"]), (200, "billing.meter_event_adjustment"))
        self.assertEqual(self.total(self.acme), 0)
        self.assertEqual(self.cancel().status, 400)
        self.assertEqual(self.send(self.acme, 7, identifier="id-1").status, 400)  # the identifier stays taken

    def test_only_within_24_hours_of_receipt(self):
        self.admin("POST", "clock", {"advance_s": DAY_S + 1})
        self.assertEqual(self.cancel().status, 400)
        self.assertEqual(self.total(self.acme), 7)

    def test_unknown_identifiers_and_types_are_refused(self):
        self.assertEqual(self.cancel("id-2").status, 400)
        self.assertEqual(self.cancel(type="cancel_range").status, 400)


class Summaries(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.mtr = self.meter()["id"]
        self.acme = self.customer()

    def summaries(self, **params):
        return self.api.request("GET", f"/v1/billing/meters/{self.mtr}/event_summaries",
                                {"customer": self.acme, "start_time": self.minute(-3600), "end_time": self.minute(60), **params})

    def test_sums_by_customer_and_time(self):
        self.send(self.acme, 5)
        self.send(self.acme, 6, timestamp=self.minute(-600))
        self.send(self.acme, 100, timestamp=self.minute(-7200))
        self.send(self.customer(), 50)
        row, = self.summaries().body["data"]
        self.assertEqual((row["aggregated_value"], row["meter"], row["object"]), (11, self.mtr, "billing.meter_event_summary"))
        self.assertEqual(self.api.summed(self.mtr, self.acme, self.minute(-8000), self.minute(60)), 111)

    def test_times_align_with_minutes(self):
        for params in ({"start_time": self.minute(-60) + 1}, {"end_time": self.minute(60) + 1}, {"end_time": self.minute(-7200)}):
            with self.subTest(params):
                self.assertEqual(self.summaries(**params).status, 400)

    def test_grouped_by_hour_and_day(self):
        hour = int(self.emulator.now()) // 3600 * 3600
        for back_h in (1, 1, 3):
            self.send(self.acme, 2, timestamp=hour - back_h * 3600 + 10)
        rows = self.summaries(start_time=hour - 4 * 3600, end_time=hour, value_grouping_window="hour").body["data"]
        self.assertEqual([(row["start_time"], row["aggregated_value"]) for row in rows], [(hour - 3600, 4), (hour - 3 * 3600, 2)])
        self.assertEqual(self.summaries(value_grouping_window="minute").status, 400)
        midnight = hour // DAY_S * DAY_S
        self.assertEqual(self.summaries(start_time=midnight, end_time=midnight + DAY_S, value_grouping_window="day").status, 200)

    def test_they_are_eventually_consistent(self):
        self.admin("POST", "settings", {"summary_delay_s": 30})
        self.send(self.acme, 5)
        self.assertEqual(self.summaries().body["data"], [])
        self.admin("POST", "clock", {"advance_s": 31})
        self.assertEqual(self.summaries().body["data"][0]["aggregated_value"], 5)

    def test_count_last_and_preaggregated_windows(self):
        now = self.minute(-120)
        for event_name, params, expected in (("counted", {"default_aggregation": {"formula": "count"}}, 3),
                                             ("latest", {"default_aggregation": {"formula": "last"}}, 30),
                                             ("daily", {"event_time_window": "day"}, 30)):
            with self.subTest(event_name):
                self.mtr = self.meter(event_name, **params)["id"]
                for value in (10, 20, 30):
                    self.send(self.acme, value, event_name, timestamp=now + value)
                self.assertEqual(self.summaries().body["data"][0]["aggregated_value"], expected)


if __name__ == "__main__":
    unittest.main()
