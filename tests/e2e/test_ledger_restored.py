"""PostgreSQL restored from an older backup while Redis and sidecars live, or while Redis is empty too: found within seconds, said
loudly, nothing leased or booked until a person recovers the ledger; then every unit is booked once, and no more than the cap is ever
admitted. I1, I2; docs/runbooks/ledger-restore.md."""

import shutil
import subprocess
import time
import unittest

from tests.e2e.base import METER, StackTest, say
from tests.support.load import Client
from tests.support.stack import binary

CAP = 3000
BEFORE, AFTER = 600, 900
FOUND_TIMEOUT_S = 15
ON_LEASE = 100  # at most so much of an epoch that has ended stays with sidecars, on hold until the window ends
FLOAT = 800  # and so much with a Redis that has lost it
OWNER = "shop/acme"


class LedgerRestored(StackTest):
    def begin(self, *sidecars):
        """600 units booked, a backup, 900 more booked: → the backup."""
        self.sidecars = self.start(*sidecars, tenants={"acme": CAP}, aggregate_interval="1m")
        self.send(BEFORE)
        self.assert_booked(BEFORE)
        backup = self.stack.postgres.back_up()
        self.stack.operator.wait_ready()
        self.send(AFTER)
        self.assert_booked(BEFORE + AFTER)
        return backup

    def send(self, count, sidecars=None):
        """Until so many were admitted, over all sidecars by turns."""
        sidecars = sidecars or self.sidecars
        clients = [Client(sidecar.address) for sidecar in sidecars]
        admitted, until = 0, time.monotonic() + 60
        while admitted < count:
            response = clients[admitted % len(clients)].get("/", {"X-Tenant-Id": "acme"})
            admitted += response.status == 200
            if response.status != 200:
                self.assertLess(time.monotonic(), until, f"{admitted} of {count} were admitted, then: {response}")
                time.sleep(0.01)
        for client in clients:
            client.close()

    def send_until_denied(self, sidecars=None):
        """Until every sidecar says that the quota is used up."""
        for sidecar in sidecars or self.sidecars:
            with Client(sidecar.address) as client:
                denied, until = 0, time.monotonic() + 60
                while denied < 20:
                    status = client.get("/", {"X-Tenant-Id": "acme"}).status
                    denied = denied + 1 if status == 429 else 0
                    self.assertLess(time.monotonic(), until, f"{status}, for a minute")
                    if status != 200:
                        time.sleep(0.02)

    def admitted(self):
        return self.stack.app.tenant("acme")

    def assert_booked(self, units):
        self.wait_equal(lambda: self.stack.booked(OWNER, METER), units, 30, "booked")

    def assert_ledger(self, units):
        """Every unit once: records and the window's account say so, and go on saying so."""
        self.assert_booked(units)
        time.sleep(2)
        self.assert_booked(units)
        self.assertEqual(self.stack.postgres.value(f"SELECT sum(booked)::bigint FROM escrow_accounts WHERE tenant = '{OWNER}'"), units)
        self.assertEqual(self.stack.postgres.query("SELECT * FROM ledger_audit()"), [])

    def await_found(self):
        operator = self.stack.operator
        self.stack.wait_until(lambda: operator.metric("tallygate_operator_ledger_behind") == 1, FOUND_TIMEOUT_S, "the ledger has gone back")
        status, body = operator.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("gone back", body)
        self.assertIn("gone back", operator.get("/health")[1])
        self.stack.wait_until(lambda: any("has gone back" in line.get("msg", "") and line.get("level") == "error" for line in operator.log_lines(True)),
                              5, "an error line")
        self.assertEqual(self.ledger("status")[0], 1)

    def ledger(self, action, *flags):
        done = subprocess.run([binary("tallygate-operator"), "ledger", action, "--database-url", self.stack.postgres.url, "--redis-url",
                               self.stack.redis.url, *flags], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def recover(self, *flags):
        status, text = self.ledger("recover", "--actor", "test", "--reason", "restored", *flags)
        self.assertEqual(status, 0, text)
        say(text.splitlines()[2])
        self.stack.operator.wait_ready()
        return text

    def while_behind(self):
        """Only what is on lease goes on, and nothing is booked."""
        for sidecar in self.sidecars:
            with Client(sidecar.address) as client:
                for _ in range(200):
                    if client.get("/", {"X-Tenant-Id": "acme"}).status == 503:
                        break
                else:
                    self.fail("200 requests were admitted while the ledger was behind")

    def settle(self, least):
        """The rest of the cap, then all books agree."""
        self.send_until_denied()
        admitted = self.admitted()
        say(f"{admitted} of {CAP} admitted")
        self.assertLessEqual(admitted, CAP, "NoOvershoot")
        self.assertGreaterEqual(admitted, least, "units that nobody holds any more are sold")
        self.assert_ledger(admitted)

    def test_redis_lives(self):
        backup = self.begin("a", "b")
        self.stack.postgres.restore(backup)
        self.await_found()
        self.while_behind()
        time.sleep(2.5)  # records of what was just admitted are formed and sent by now, and are offered again
        self.assertEqual(self.stack.booked(OWNER, METER), BEFORE, "nothing is booked before it is recovered")
        text = self.recover()
        self.assertIn("generation 1", text)
        self.settle(CAP - ON_LEASE)

    def test_redis_is_empty_too(self):
        backup = self.begin("a", "b")
        self.stack.postgres.kill()
        self.stack.redis.cli("FLUSHALL")
        self.stack.postgres.restore(backup)
        self.await_found()
        self.while_behind()
        self.recover()
        self.settle(CAP - FLOAT)

    def test_operator_is_down_and_redis_empty(self):
        """Nobody but the sidecars remembers."""
        backup = self.begin("a", "b")
        self.stack.operator.kill9()
        self.stack.redis.cli("FLUSHALL")
        self.stack.postgres.restore(backup)
        self.stack.operator.start(wait_ready=False)
        self.await_found()
        self.while_behind()
        self.recover()
        self.settle(CAP - FLOAT)

    def test_logical_backup(self):
        """pg_dump and pg_restore into the same server."""
        self.sidecars = self.start("a", tenants={"acme": CAP}, aggregate_interval="1m")
        self.send(BEFORE)
        self.assert_booked(BEFORE)
        dump = self.stack.folder / "dump"
        self.stack.postgres.dump(dump)
        self.send(AFTER)
        self.assert_booked(BEFORE + AFTER)
        self.stack.postgres.restore_dump(dump)
        self.await_found()
        self.recover()
        self.settle(CAP - ON_LEASE)

    def test_twice(self):
        """The same backup again: the second recovery goes on above the first."""
        backup = self.begin("a", "b")
        for generation in (1, 2):
            self.stack.postgres.restore(backup)
            self.await_found()
            self.assertIn(f"generation {generation}:", self.recover())
            self.send(100)
            self.assert_booked(self.admitted())
        self.settle(CAP - 3 * ON_LEASE)

    def test_a_sidecar_is_gone_for_good(self):
        """Its records after the backup are nobody's: given up, audited; everybody else's usage goes on, and its own that was on its way."""
        backup = self.begin("a", "b")
        folder, = (self.stack.folder / "sidecar-a" / "data").glob("inc-*")
        name = folder.name.removeprefix("inc-")
        mine = self.booked_of(name)
        gone, left = self.sidecars
        gone.kill9()
        shutil.rmtree(self.stack.folder / "sidecar-a" / "data")
        self.stack.postgres.restore(backup)
        lost = mine - self.booked_of(name)
        self.assertGreater(lost, 0)
        self.await_found()
        self.sidecars = [left]
        self.recover("--gap-wait", "2s")
        self.stack.wait_until(lambda: self.stack.operator.metric("tallygate_operator_usage_gaps") == 0, 30, "the gap is closed")
        closed = self.stack.postgres.query("SELECT details FROM audit_log WHERE action = 'usage.gap_closed'")
        self.assertEqual([row["details"]["incarnation"] for row in closed], [name])
        self.send_until_denied()
        admitted = self.admitted()
        self.assertLessEqual(admitted, CAP, "NoOvershoot")
        self.assert_ledger(admitted - lost)

    def test_submitted_before_the_restore(self):
        """Stripe has the minutes since the backup already: their meter events are formed again under the same identifiers, and taken once."""
        backup = self.begin("a")
        self.wait_equal(lambda: self.billed("acme"), BEFORE + AFTER, 150, "Stripe")
        self.stack.postgres.restore(backup)
        self.await_found()
        self.recover()
        self.send(100)
        self.assert_books("acme", self.admitted())

    def booked_of(self, incarnation):
        return self.stack.postgres.value("SELECT coalesce(sum(units), 0)::bigint FROM usage_records r JOIN incarnations i ON i.id = r.incarnation_id"
                                         f" WHERE i.incarnation = '{incarnation}'")


if __name__ == "__main__":
    unittest.main()
