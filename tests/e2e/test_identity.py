"""Whose a request is: the tenant that is billed is the tenant that the app sees, whatever else a client says, in any spelling that an
app may take for one of the headers of identity."""

import hashlib
import json
import unittest

from tests.e2e.base import StackTest
from tests.support.load import Client
from tests.support.stack import ScriptServer

KEY = "key-of-acme"
# Booked last: what was charged before it is booked when it is.
MARKER = "  - {name: marker, matches: [{path: {type: Exact, value: /marker}}], charges: [{meter: api_calls, units: 500}]}\n"
SPELLINGS = ("X-Tenant-Id", "x-tenant-id", "X_Tenant_Id", "X.Tenant.Id", "X-Tenant_Id", "X_TENANT-ID", "x.tenant-id", "X-Tallygate-Tenant",
             "X_Tallygate_Tenant", "x.tallygate-tenant", "X_Api_Key", "X.Api.Key")


class Identity(StackTest):
    def setUp(self):
        super().setUp()
        self.stack.app.kill()
        self.stack.app = ScriptServer("app", "wsgi_app.py", self.stack.folder).start()
        self.trusted = "10.99.0.0/16"
        self.more = ""

    def manifest_text(self):
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        return (super().manifest_text()
                .replace("externalIDs: [acme]", f'externalIDs: [acme], apiKeyHashes: ["sha256:{digest}"]')
                .replace("127.0.0.1/32", self.trusted)
                .replace("  defaultRoute:", MARKER + self.more + "  defaultRoute:"))

    def told(self, client, target="/", fields=(), method="GET", body=b""):
        """What the app was told: → (its environment, its folded one, names of all fields, trailers)."""
        lines = [f"{method} {target} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in fields)]
        response = client.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.assertEqual(response.status, 200, response)
        answer = json.loads(response.body)
        return answer["environ"], answer["folded"], [name for name, _ in answer["fields"]], answer["trailers"]

    def assert_acme(self, told, what):
        for environment in told[:2]:
            self.assertNotIn("HTTP_X_TENANT_ID", environment, what)
            self.assertEqual((environment["HTTP_X_TALLYGATE_TENANT"], environment["HTTP_X_API_KEY"]), ("shop/acme", KEY), what)

    def test_the_app_sees_the_tenant_that_is_billed(self):
        sidecar, = self.start("a", tenants={"acme": 1000, "globex": 1000})
        key = ("X-Api-Key", KEY)
        units = 0
        with Client(sidecar.address) as client:
            for spelling in SPELLINGS:
                self.assert_acme(self.told(client, fields=[key, (spelling, "globex")]), spelling)
                self.assert_acme(self.told(client, fields=[(spelling, "globex"), key]), spelling)
                units += 2
            everything = [(spelling, "globex") for spelling in SPELLINGS]
            self.assert_acme(self.told(client, fields=[*everything, key]), "all of them")
            # Connection hides neither the credential from us nor a false one from its removal.
            self.assert_acme(self.told(client, fields=[("Connection", "x-api-key, x_tenant_id, x-hop"), key, ("X_Tenant_Id", "globex")]), "Connection")
            chunked = [key, ("Transfer-Encoding", "chunked"), ("Trailer", "X-Tenant-Id")]
            trailers = "".join(f"{spelling}: globex\r\n" for spelling in SPELLINGS)
            told = self.told(client, fields=chunked, method="POST", body=b"1\r\nx\r\n0\r\n" + trailers.encode() + b"X-Sum: 1\r\n\r\n")
            self.assert_acme(told, "trailers")
            self.assertEqual(told[3], [["X-Sum", "1"]])
            units += 3

            # Where nothing is verified the app is told of nobody, and its own quota headers are its own.
            told = self.told(client, "/healthz", [key, *everything, ("X-Tallygate-Tenants", "kept")])
            self.assertEqual([name for name in told[2] if name.upper().startswith("X") and "FORWARDED" not in name.upper()],
                             ["X-Tallygate-Tenants", "X-Request-Id"])
            self.assertEqual(client.get("/healthz").headers["x-ratelimit-limit"], "7")
            self.assertEqual(client.get("/", dict([key])).headers["x-ratelimit-limit"], "1000")
            units += 1

            # In another spelling it is no credential, and nobody is nobody. The log names the request.
            for spelling in SPELLINGS[2:]:
                denied = client.get("/", {spelling: "globex"})
                self.assertEqual(denied.status, 401, spelling)
            request_id = json.loads(client.get("/", {"X-Tenant-Id": "globex", "X-Request-Id": "who-1"}).body)["requestId"]
            self.assertEqual(client.get("/marker", dict([key])).status, 200)
        self.wait_equal(lambda: self.stack.booked("shop/acme", "api_calls") >= 500, True, 30, "the marker is booked")
        self.assertEqual(self.stack.booked("shop/acme", "api_calls"), units + 500, "acme pays for what was its own")
        self.assertEqual(self.stack.booked("shop/globex", "api_calls"), 0)
        line, = [line for line in sidecar.log_lines() if line.get("request_id") == request_id]
        self.assertEqual((line["msg"], line["reason"], line["status"], line["route"]), ("denied", "UntrustedSource", 401, "default"))
        self.assertNotIn("globex", json.dumps(line))

    def test_no_header_chooses_another_handler_than_the_one_that_is_charged(self):
        sidecar, = self.start("a", tenants={"acme": 1000, "globex": 1000})
        key = ("X-Api-Key", KEY)
        names = [spelling for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL")
                 for spelling in (name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "."), name.replace("-", "_", 1))]
        fields = [(name, "DELETE" if "method" in name.lower() else "/healthz") for name in names]
        trailers = "".join(f"{name}: {value}\r\n" for name, value in fields)
        with Client(sidecar.address) as client:
            for told in (self.told(client, fields=[key, *fields]),
                         self.told(client, fields=[("Connection", ", ".join(names[::6])), key, *fields]),
                         self.told(client, "/healthz", fields),
                         self.told(client, fields=[key, ("Transfer-Encoding", "chunked"), ("Trailer", ", ".join(names[::6]))], method="POST",
                                   body=b"1\r\nx\r\n0\r\n" + trailers.encode() + b"\r\n")):
                for environment in told[:2]:
                    self.assertFalse([name for name in environment if "METHOD_OVERRIDE" in name or "HTTP_X_HTTP" in name or "_URL" in name], told)
                self.assertEqual(told[3], [])
            self.assertEqual(self.told(client, fields=[key, ("X-Original-URI", "/a"), ("X-Method", "GET")])[0]["HTTP_X_ORIGINAL_URI"], "/a")

    def test_a_policy_may_forward_them(self):
        self.more = "  paths: {overrideHeaders: Forward}\n"
        sidecar, = self.start("a", tenants={"acme": 1000, "globex": 1000})
        with Client(sidecar.address) as client:
            told = self.told(client, fields=[("X-Api-Key", KEY), ("X-HTTP-Method-Override", "PUT"), ("X_Original_URL", "/a")])
            self.assertEqual((told[0]["HTTP_X_HTTP_METHOD_OVERRIDE"], told[0]["HTTP_X_ORIGINAL_URL"]), ("PUT", "/a"))

    def test_a_trusted_name_reaches_the_app_once(self):
        self.trusted = "127.0.0.1/32"
        sidecar, = self.start("a", tenants={"acme": 1000, "globex": 1000})
        with Client(sidecar.address) as client:
            for spelling in SPELLINGS[2:]:
                environ, folded, _, _ = self.told(client, fields=[(spelling, "globex"), ("X-Tenant-Id", "acme"), (spelling, "globex")])
                for environment in (environ, folded):
                    self.assertEqual((environment["HTTP_X_TENANT_ID"], environment["HTTP_X_TALLYGATE_TENANT"]), ("acme", "shop/acme"), spelling)
            self.assertEqual(client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: acme\r\nx-tenant-id: globex\r\n\r\n").status, 401)


if __name__ == "__main__":
    unittest.main()
