"""Redis away, the operator there: service goes on with units leased from the ledger, exactly up to the quota, whatever dies meanwhile;
and back to Redis by itself. Requirement A8; I1 NoOvershoot, I2 BilledOnce, I5 DenialIsFree."""

import hashlib
import json
import subprocess
import time
import unittest

from tests.e2e import base
from tests.e2e.base import StackTest, say
from tests.support.load import Client, Load
from tests.support.process import free_port

TOKEN = "tgs_sidecars_0123456789abcdef0123456789abcdef"
TIGHT, FRESH = 3000, 500
WARMUPS = "- {name: warmups, unit: call, aggregation: Sum, settlement: None, perUnits: 1, tiers: [{price: \"0\"}]}"


class LedgerLeases(StackTest):
    def manifest_text(self):
        """With a second meter and route, so that a tenant can be known to a sidecar whose quota nobody has touched yet."""
        text = super().manifest_text()
        text = text.replace("  limits:\n", f"    {WARMUPS}\n  limits:\n", 1)
        return text.replace("  routes:\n", "  routes:\n  - {name: warm, matches: [{path: {type: Exact, value: /warm}}], charges: "
                            "[{meter: warmups, units: 1}]}\n", 1)

    def certificate(self, name):
        """A self-signed one for 127.0.0.1: → (certificate, key)."""
        files = self.stack.folder / f"{name}.pem", self.stack.folder / f"{name}.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files[1], "-out", files[0]], check=True, capture_output=True)
        return files

    def start_two(self, tls=None, trusted=None, **tenants):
        for name, spec in tenants.items():
            self.set_tenant(name, **spec)
        tokens, token = self.stack.folder / "tokens.json", self.stack.folder / "lease.token"
        tokens.write_text(json.dumps({"tokens": [{"name": "sidecars", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                                                  "scopes": ["lease:write"], "tenants": ["*"]}]}))
        token.write_text(TOKEN + "\n")
        self.api = f"127.0.0.1:{free_port()}"
        self.publish()
        flags = ["--api", self.api, "--api-service-tokens-file", tokens]
        self.stack.start_operator(flags=flags + (["--api-tls-cert", tls[0], "--api-tls-key", tls[1]] if tls else []))
        flags = ["--ledger-url", f"http{'s' if tls else ''}://{self.api}", "--ledger-token-file", token]
        flags += ["--ledger-ca-file", trusted] if trusted else []
        self.sidecars = [self.stack.start_sidecar(name, base.POLICY, flags=flags) for name in ("a", "b")]

    def load(self, tenant, sidecars=None, connections=2, count=10**9, pause_s=0.002):
        jobs = [(sidecar.address, {"X-Tenant-Id": tenant}, count, "/") for sidecar in sidecars or self.sidecars for _ in range(connections)]
        return Load(jobs, pause_s=pause_s, timeout_s=30).start()

    def warm(self, tenant):
        """The tenant and its shard's epoch are known to both sidecars, and registered; its quota is untouched."""
        for sidecar in self.sidecars:
            with Client(sidecar.address) as client:
                self.stack.wait_until(lambda: client.get("/warm", {"X-Tenant-Id": tenant}).status == 200, 15, f"{tenant} is served")
        self.stack.wait_until(lambda: self.stack.postgres.value("SELECT count(*) FROM incarnations i JOIN tenants t ON t.shard = i.shard"
                                                                f" WHERE t.id = 'shop/{tenant}'") == 2, 15, "both are registered")
        self.warmed = self.served(tenant)

    def served(self, tenant):
        return self.stack.app.tenant(tenant)

    def until_quiet(self, tenant, quiet_s=1.5, timeout_s=40):
        """Until nothing more of the tenant's is served: → the app's count."""
        deadline, last, since = time.monotonic() + timeout_s, -1, time.monotonic()
        while time.monotonic() - since < quiet_s:
            self.assertLess(time.monotonic(), deadline, f"{tenant} is still served: {last}")
            count = self.served(tenant)
            if count != last:
                last, since = count, time.monotonic()
            time.sleep(0.05)
        return last

    def sum(self, column, tenant):
        return self.stack.postgres.value(f"SELECT coalesce(sum({column}), 0)::bigint FROM escrow_floats f JOIN escrow_accounts a ON "
                                         f"a.id = f.account WHERE a.tenant = 'shop/{tenant}' AND a.name = 'calls-month'")

    def held(self, tenant):
        return self.stack.postgres.value("SELECT coalesce(sum(held_units(id)), 0)::bigint FROM escrow_accounts WHERE "
                                         f"tenant = 'shop/{tenant}' AND name = 'calls-month'")

    def in_purses(self):
        """Units that the sidecars hold, leased from Redis."""
        return sum(s.metric("tallygate_sidecar_leased_units_total") - s.metric("tallygate_sidecar_returned_units_total") -
                   s.metric("tallygate_sidecar_charged_units_total") for s in self.sidecars)

    def problem(self, sidecar, tenant):
        response = self.ask(sidecar, tenant)
        return response.status, json.loads(response.body).get("reason")

    def assert_ends_at(self, tenant, quota):
        """Exactly the quota is served, then it is 429 on every sidecar; the books agree."""
        for sidecar in self.sidecars:
            self.until_status(sidecar, tenant, 429, 20)
        self.assertEqual(self.served(tenant), quota)

    def fresh_until_quota(self):
        """A quota that Redis never had anything of: with Redis away it ends at exactly the quota, with 429 and nothing else."""
        load = self.load("fresh", connections=4, count=FRESH // 4, pause_s=0.001)
        load.join()
        say(f"a quota of {FRESH} leased from the ledger alone: {dict(load.statuses)}, longest {load.longest_s * 1000:.0f} ms")
        self.assertEqual(load.statuses, {200: FRESH, 429: FRESH // 4 * 8 - FRESH})
        self.assertEqual(load.lost, 0)
        self.assertEqual(self.served("fresh"), FRESH + self.warmed)
        for sidecar in self.sidecars:
            self.assertEqual(self.problem(sidecar, "fresh"), (429, "QuotaExhausted"))
            self.stack.wait_until(lambda: "leasing from the ledger" in sidecar.get("/health")[1], 10, "/health says so")

    def outage(self, begin):
        """Traffic on a quota that Redis has a part of, and on one that it has nothing of, while Redis is away."""
        self.start_two(tight={"quota": TIGHT}, fresh={"quota": FRESH})
        self.warm("fresh")
        load = self.load("tight")
        self.stack.wait_until(lambda: self.served("tight") > 300, 20, "traffic")
        begin()
        held, before = self.in_purses(), self.served("tight")
        self.fresh_until_quota()
        after = self.until_quiet("tight")
        say(f"served when Redis went {before:,}, with {held:.0f} units leased; without it {after - before:,} more; Redis has "
            f"{self.sum('funded', 'tight'):,} of {TIGHT:,} in all")
        self.assertGreater(after - before, held + 500, "service goes on past what was leased")
        self.assertEqual(self.sum("funded", "tight") + self.sum("lent", "tight"), TIGHT, "the ledger has lent all that it had")
        self.assertLessEqual(after, TIGHT)
        # What is missing lies in Redis: neither used up nor to be had.
        self.assertEqual(self.problem(self.sidecars[0], "tight"), (503, "QuotaUnavailable"))
        return load

    def end(self, load):
        load.stop()
        self.assertEqual(load.lost, 0)
        self.assertEqual(set(load.statuses) - {200, 429, 503}, set())

    def books(self, tenant, warmed=0):
        self.assert_books(tenant, self.served(tenant) - warmed)

    def test_redis_paused(self):
        load = self.outage(self.stack.redis.pause)
        self.stack.redis.resume()
        self.assert_ends_at("tight", TIGHT)
        self.end(load)
        self.books("tight")
        self.books("fresh", self.warmed)
        self.assertEqual(self.served("tight"), TIGHT)
        for tenant in ("tight", "fresh"):
            self.wait_equal(lambda tenant=tenant: -self.held(tenant), 0, 20, f"{tenant}: nothing on hold")

    def test_redis_killed_and_back_empty(self):
        """Under the next epoch; what the old Redis still had stays on hold, and not one unit more."""
        load = self.outage(self.stack.redis.kill)
        self.stack.redis.start()
        for sidecar in self.sidecars:
            self.until_status(sidecar, "tight", 429, 20)
        self.end(load)
        self.books("tight")
        self.books("fresh", self.warmed)
        served = self.served("tight")
        self.stack.wait_until(lambda: self.held("tight") == TIGHT - served, 20, "every unit is served or on hold")
        say(f"served {served:,} of {TIGHT:,}; {TIGHT - served:,} are on hold with the Redis that is gone")
        self.assertEqual(self.stack.postgres.value("SELECT count(*) FROM ledger_audit()"), 0)

    def test_sidecar_killed_in_the_outage(self):
        """What it leased of the ledger and did not spend goes back while Redis is still away, and is served by the other one."""
        self.start_two(fresh={"quota": FRESH})
        self.warm("fresh")
        self.stack.redis.pause()
        a, b = self.sidecars
        load = self.load("fresh", [b], count=30)
        load.join()
        self.assertEqual(load.statuses, {200: 60})
        b.kill9()
        lent = self.sum("lent", "fresh")
        self.assertGreater(lent, 60, "it holds units that it has not spent")
        self.stack.start_sidecar("b", base.POLICY, wait_ready=False)
        self.stack.wait_until(lambda: self.sum("lent", "fresh") == 60, 20, "what it had not spent is back")
        load = self.load("fresh", [a], connections=4, count=FRESH // 2)
        load.join()
        say(f"the other one serves the rest: {dict(load.statuses)}")
        self.assertEqual(load.statuses, {200: FRESH - 60, 429: 2 * FRESH - (FRESH - 60)})
        self.stack.redis.resume()
        b.wait_ready()
        self.until_status(b, "fresh", 429, 20)
        self.assertEqual(self.served("fresh"), FRESH + self.warmed)
        self.books("fresh", self.warmed)
        self.wait_equal(lambda: -self.held("fresh"), 0, 20, "nothing on hold")

    def test_sidecar_killed_under_load_in_the_outage(self):
        """It holds units of both, and requests are in flight: those count as admitted, whether the app has seen them or not."""
        self.start_two(tight={"quota": TIGHT})
        load = self.load("tight")
        self.stack.wait_until(lambda: self.served("tight") > 300, 20, "traffic")
        self.stack.redis.pause()
        b = self.sidecars[1]
        self.stack.wait_until(lambda: b.metric("tallygate_sidecar_ledger_leased_units_total") > 100, 20, "it lives on the ledger")
        b.kill9()
        self.stack.restart_sidecar("b", wait_ready=False)
        self.stack.wait_until(lambda: self.stack.postgres.value("SELECT count(*) FROM ledger_leases WHERE closed") == 1, 20, "its lease is settled")
        self.until_quiet("tight")
        self.stack.redis.resume()
        b.wait_ready()
        for sidecar in self.sidecars:
            self.until_status(sidecar, "tight", 429, 20)
        load.stop()
        say(f"{dict(load.statuses)}, cut off by the kill: {load.lost}")
        self.assertLessEqual(load.lost, 4)
        seen = self.served("tight")
        self.assertLessEqual(seen, TIGHT)
        self.assertGreaterEqual(seen, TIGHT - load.lost)
        self.assert_books("tight", TIGHT)
        self.wait_equal(lambda: -self.held("tight"), 0, 20, "nothing on hold")

    def test_operator_away_too(self):
        """Then it is onUnavailable, as without a ledger; and the ledger's leases again as soon as the operator is back."""
        self.start_two(fresh={"quota": FRESH})
        self.warm("fresh")
        self.stack.redis.pause()
        self.stack.operator.kill9()
        a, b = self.sidecars
        self.stack.wait_until(lambda: self.problem(a, "fresh") == (503, "QuotaUnavailable"), 10, "onUnavailable: Deny")
        began = time.monotonic()
        self.ask(a, "fresh")
        self.assertLess(time.monotonic() - began, 0.5, "who cannot be helped is told at once")
        self.assertIn("then onUnavailable", a.get("/health")[1])
        self.stack.redis.resume()  # the operator needs it to be ready
        self.stack.restart_operator()
        self.stack.redis.pause()
        took_s = self.until_status(a, "fresh", 200, 20)
        say(f"leases from the ledger {took_s:.2f} s after the operator was back")
        self.stack.redis.resume()
        load = self.load("fresh", [a, b], connections=2, count=FRESH)
        load.join()
        self.assertEqual(self.served("fresh"), FRESH + self.warmed)
        self.books("fresh", self.warmed)

    def test_over_tls_to_the_authority_that_is_trusted_only(self):
        ours, others = self.certificate("ours"), self.certificate("others")
        self.start_two(tls=ours, trusted=ours[0], fresh={"quota": FRESH})
        self.warm("fresh")
        a, b = self.sidecars
        b.kill9()
        self.stack.wait_until(lambda: self.ask(a, "fresh").status == 200, 10, "Redis leases")
        self.stack.redis.pause()
        self.stack.wait_until(lambda: self.ask(a, "fresh").status == 200 and a.metric("tallygate_sidecar_ledger_leased_units_total") > 0, 20,
                              "the ledger leases over TLS")
        self.stack.redis.resume()
        b.argv[b.argv.index("--ledger-ca-file") + 1] = others[0]
        self.stack.restart_sidecar("b")
        self.until_status(b, "fresh", 200, 20)
        self.stack.redis.pause()
        self.stack.wait_until(lambda: self.ask(b, "fresh").status == 503, 20, "nothing is said to a stranger")
        self.assertEqual(b.metric("tallygate_sidecar_ledger_leased_units_total"), 0)
        self.stack.wait_until(lambda: any("certificate" in str(line.get("error")) for line in b.log_lines()), 5, "the log says why")


if __name__ == "__main__":
    unittest.main()
