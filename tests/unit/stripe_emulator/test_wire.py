"""Form encoding, authentication, error shapes, Idempotency-Key (requirements C6, C8; what Stripe documents of API v1)."""

import base64
import http.client
import threading
import time
import unittest

from tests.support.stripe_wire import StripeError, decode_form, encode_form
from tests.unit.stripe_emulator.base import EmulatorTest


class FormEncoding(unittest.TestCase):
    def test_nested_keys_become_dicts_and_lists(self):
        cases = {
            "payload[value]=25&payload[stripe_customer_id]=cus_1": {"payload": {"value": "25", "stripe_customer_id": "cus_1"}},
            "tiers[0][up_to]=1&tiers[1][up_to]=inf": {"tiers": [{"up_to": "1"}, {"up_to": "inf"}]},
            "images[]=a&images[]=b": {"images": ["a", "b"]},
            "name=a%20b+c&empty=": {"name": "a b c", "empty": ""},
            "": {},
        }
        for text, expected in cases.items():
            with self.subTest(text):
                self.assertEqual(decode_form(text), expected)

    def test_encoding_is_the_inverse(self):
        params = {"name": "ä & b", "tiers": [{"up_to": "1"}, {"up_to": "inf"}], "payload": {"value": "3"}}
        self.assertEqual(decode_form(encode_form(params)), params)
        self.assertEqual(encode_form({"active": True, "none": None}), "active=true")

    def test_malformed_names_and_floods_are_refused(self):
        for text in ("a[b=1", "a[b]c=1", "[x]=1", "a=1&a[b]=2", "a[b]=1&a=2", "a=%ff", "&".join(f"k{i}=1" for i in range(1001))):
            with self.subTest(text[:20]), self.assertRaises(StripeError):
                decode_form(text)


class Authentication(EmulatorTest):
    def status(self, authorization):
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", "/v1/customers", headers={"Authorization": authorization} if authorization else {})
        response = connection.getresponse()
        body = response.read()
        return response.status, body

    def test_basic_and_bearer_test_keys_are_taken(self):
        basic = base64.b64encode(b"sk_test_1:").decode()
        for authorization in (f"Basic {basic}", "Bearer sk_test_1", "bearer rk_test_restricted"):
            with self.subTest(authorization):
                self.assertEqual(self.status(authorization)[0], 200)

    def test_anything_else_is_401_in_stripes_shape_without_the_key(self):
        for authorization in (None, "Bearer sk_live_verysecretverysecret", "Bearer", "Basic !!", "Digest sk_test_1", "Bearer pk_test_1"):
            with self.subTest(authorization):
                status, body = self.status(authorization)
                self.assertEqual(status, 401)
                self.assertIn(b'"type": "invalid_request_error"', body)
                self.assertNotIn(b"verysecret", body)


class Answers(EmulatorTest):
    def test_request_id_and_version_come_with_every_answer(self):
        answer = self.api.request("GET", "/v1/customers", headers={"Stripe-Version": "2025-06-30.basil"})
        self.assertRegex(answer.headers["Request-Id"], r"^req_\w+$")
        self.assertEqual(answer.headers["Stripe-Version"], "2025-06-30.basil")
        self.assertEqual(self.api.request("GET", "/v1/customers", headers={"Stripe-Version": "newest"}).status, 400)

    def test_errors_name_the_parameter(self):
        cases = [
            ("POST", "/v1/billing/meters", {"event_name": "x"}, 400, "parameter_missing", "display_name"),
            ("POST", "/v1/billing/meters", {"display_name": "x", "event_name": "x"}, 400, "parameter_missing", "default_aggregation[formula]"),
            ("POST", "/v1/customers", {"nmae": "x"}, 400, "parameter_unknown", "nmae"),
            ("GET", "/v1/customers/cus_none", {}, 404, "resource_missing", "id"),
            ("GET", "/v1/customers", {"limit": "x"}, 400, "parameter_invalid_integer", "limit"),
            ("GET", "/v1/customers", {"limit": 101}, 400, None, "limit"),
            ("GET", "/v1/nothing", {}, 404, None, None),
            ("DELETE", "/v1/billing/meters", {}, 404, None, None),
        ]
        for method, path, params, status, code, param in cases:
            with self.subTest(f"{method} {path} {params}"):
                answer = self.api.request(method, path, params)
                self.assertEqual((answer.status, answer.error["type"]), (status, "invalid_request_error"))
                self.assertEqual((answer.error.get("code"), answer.error.get("param")), (code, param))

    def test_a_body_of_another_type_is_refused(self):
        answer = self.api.request("POST", "/v1/customers", {"name": "x"}, {"Content-Type": "application/json"})
        self.assertEqual(answer.status, 400)

    def test_lists_page_newest_first(self):
        ids = [self.customer(name=str(index)) for index in range(5)][::-1]
        first = self.api.get("/v1/customers", {"limit": 2})
        self.assertEqual(([row["id"] for row in first["data"]], first["has_more"]), (ids[:2], True))
        second = self.api.get("/v1/customers", {"limit": 3, "starting_after": ids[1]})
        self.assertEqual(([row["id"] for row in second["data"]], second["has_more"]), (ids[2:], False))

    def test_products_and_metered_prices(self):
        product = self.api.post("/v1/products", {"name": "API"})["id"]
        recurring = {"interval": "month", "usage_type": "metered"}
        refused = self.api.request("POST", "/v1/prices", {"currency": "gbp", "product": product, "unit_amount": 1, "recurring": recurring})
        self.assertEqual(refused.status, 400)  # since basil a metered price needs a meter
        price = self.api.post("/v1/prices", {"currency": "gbp", "product": product, "unit_amount": 1, "lookup_key": "standard:api_calls",
                                             "recurring": {**recurring, "meter": self.meter()["id"]}})
        found = self.api.get("/v1/prices", {"lookup_keys": ["standard:api_calls"]})
        self.assertEqual([row["id"] for row in found["data"]], [price["id"]])

    def test_a_deleted_customer_stays_deleted(self):
        customer = self.customer()
        self.assertTrue(self.api.call("DELETE", f"/v1/customers/{customer}")["deleted"])
        self.assertTrue(self.api.get(f"/v1/customers/{customer}")["deleted"])
        self.assertEqual(self.api.get("/v1/customers")["data"], [])


class IdempotencyKey(EmulatorTest):
    def create(self, key="k1", name="x"):
        return self.api.request("POST", "/v1/customers", {"name": name}, {"Idempotency-Key": key})

    def test_the_first_status_and_body_come_again(self):
        first, second = self.create(), self.create()
        self.assertEqual((first.status, first.body), (second.status, second.body))
        self.assertEqual(second.headers["Idempotent-Replayed"], "true")
        self.assertEqual(second.headers["Original-Request"], first.headers["Request-Id"])
        self.assertEqual(len(self.api.get("/v1/customers")["data"]), 1)

    def test_other_parameters_under_the_key_are_an_idempotency_error(self):
        self.create()
        answer = self.create(name="y")
        self.assertEqual((answer.status, answer.error["type"]), (400, "idempotency_error"))

    def test_a_500_is_replayed_too(self):
        self.admin("POST", "faults", {"kind": "500_before"})
        self.assertEqual([self.create().status, self.create().status], [500, 500])
        self.assertEqual(self.create(key="k2").status, 200)

    def test_what_was_refused_before_it_began_is_not_kept(self):
        self.admin("POST", "faults", {"kind": "429"})
        self.assertEqual([self.create().status, self.create().status], [429, 200])
        bad = self.api.request("POST", "/v1/customers", {"nmae": "x"}, {"Idempotency-Key": "k3"})
        self.assertEqual((bad.status, self.create(key="k3").status), (400, 200))

    def test_it_is_forgotten_after_24_hours_and_limited_to_255_characters(self):
        first = self.create()
        self.admin("POST", "clock", {"advance_s": 86400})
        self.assertNotEqual(self.create().body["id"], first.body["id"])
        self.assertEqual((self.create(key="k" * 255).status, self.create(key="k" * 256).status), (200, 400))

    def test_a_concurrent_request_with_the_key_is_409(self):
        self.admin("POST", "faults", {"kind": "slow", "seconds": 0.5})
        slow = threading.Thread(target=self.create)
        slow.start()
        time.sleep(0.2)
        answer = self.create()
        slow.join()
        self.assertEqual((answer.status, answer.error["code"]), (409, "idempotency_key_in_use"))
        self.assertEqual(self.create().headers["Idempotent-Replayed"], "true")


if __name__ == "__main__":
    unittest.main()
