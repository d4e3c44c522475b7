"""The real operator, ended in the middle of writes through its API: by kill -9, again and again, and by SIGTERM. Clients that repeat with
the same keys end with one effect each, of every kind of write there is; the books agree."""

import datetime
import itertools
import json
import signal
import threading
import time

from tests.e2e.api_base import ApiStackTest
from tests.e2e.base import say
from tests.support.process import wait_until

JOBS = 390  # thirty of each kind
CLIENTS = 12
CREDIT = 100_000  # pence
EVENT = {"specversion": "1.0", "type": "dev.tallygate.usage.v1", "source": "/e2e"}


def money(pence):
    return f"{pence // 100}.{pence % 100:02d}"


def usage(units):
    return {"meter": "api_calls", "units": units}


def reserve(call, pence):
    return "/v1/reservations", {"callId": call, "amount": money(pence)}


def commit(call, pence):
    return f"/v1/reservations/{call}/commit", {"cost": money(pence)}


def event(name, units):
    return {**EVENT, "id": name, "data": usage(units)}


# What a job writes, one after the other: (path, body, content type). `n` names it.
def kinds(late):
    json, one, batch = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
    return [
        lambda n: [("/v1/deductions", {"amount": "0.05"}, json)],
        lambda n: [(*reserve(n, 7), json)],
        lambda n: [(*reserve(n, 9), json), (*commit(n, 4), json)],
        lambda n: [(*reserve(n, 9), json), (*commit(n, 9), json)],
        lambda n: [(*reserve(n, 9), json), (*commit(n, 12), json)],
        lambda n: [(*reserve(n, 9), json), (f"/v1/reservations/{n}/release", {}, json)],
        lambda n: [(*commit(n, 3), json)],
        lambda n: [("/v1/wallet/adjustments", {"amount": "0.20", "reason": "missed"}, json)],
        lambda n: [("/v1/wallet/adjustments", {"amount": "-0.10", "reason": "wrong"}, json)],
        lambda n: [("/v1/usage", {"id": n, **usage(2)}, json)],
        lambda n: [("/v1/usage", {"id": n, **usage(3), "time": late}, json)],
        lambda n: [("/v1/events", event(n, 5), one)],
        lambda n: [("/v1/events", [event(f"{n}-{i}", 1) for i in range(3)], batch)],
    ]


PENCE_OF_ONE_EACH = 5 + 4 + 9 + 12 + 3 - 20 + 10
HELD_OF_ONE_EACH = 7
UNITS_OF_ONE_EACH = 2 + 3 + 5 + 3


class ApiKilledTest(ApiStackTest):
    def test_kill_9_in_the_middle_of_every_kind_of_write(self):
        self.credit()
        late = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = kinds(late)
        jobs, done, repeated, faults = itertools.count(), itertools.count(), itertools.count(), []

        def write(path, body, content_type, key):
            for _ in range(600):
                status, answer = self.call("POST", path, body, key, content_type)
                if 200 <= status < 300:
                    return
                if status not in (0, 503):
                    faults.append((path, status, answer))
                    return
                next(repeated)
                time.sleep(0.02)
            faults.append((path, "no answer"))

        def client():
            while (job := next(jobs)) < JOBS:
                for step, (path, body, content_type) in enumerate(kind[job % len(kind)](f"job-{job}")):
                    write(path, body, content_type, f"key-{job}-{step}")
                self.progress = next(done)

        self.progress = 0
        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for at in (JOBS // 5, JOBS // 2, JOBS * 4 // 5):
            wait_until(lambda at=at: self.progress >= at, 60, f"{at} writes", 0.001)
            self.stack.operator.kill9()
            began = time.monotonic()
            self.stack.restart_operator()
            say(f"killed after {at} jobs; ready again {time.monotonic() - began:.2f} s after its start")
        for thread in threads:
            thread.join(120)
        self.assertEqual(faults, [])
        again = next(repeated)
        self.assertGreater(again, 0, "nothing was in the middle of anything")
        each = JOBS // len(kind)
        status, wallet = self.call("GET", "/v1/wallet")
        self.assertEqual((status, wallet["balance"], wallet["reserved"]),
                         (200, money(CREDIT - each * PENCE_OF_ONE_EACH), money(each * HELD_OF_ONE_EACH)))
        self.assertEqual(self.stack.booked("shop/acme", "api_calls"), each * UNITS_OF_ONE_EACH)
        self.assertEqual(self.stack.postgres.value("SELECT count(*) FROM audit_log WHERE action = 'wallet.adjust'"), 2 * each)
        self.assertEqual(self.stack.postgres.value("SELECT count(*) FROM ledger_audit()"), 0)
        self.assertEqual(self.stack.postings_sum(), 0, "ZeroSum")
        say(f"{JOBS} jobs of {len(kind)} kinds, {again} requests sent again, one effect each")

    def test_sigterm_takes_readiness_away_first_and_ends_what_is_under_way(self):
        self.credit()
        postgres = self.stack.postgres
        holder = threading.Thread(target=lambda: postgres.psql("BEGIN; SELECT 1 FROM wallets FOR UPDATE; SELECT pg_sleep(2); COMMIT"))
        holder.start()
        self.wait_for("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)%' AND wait_event = 'PgSleep'")
        answers = []
        buyer = threading.Thread(target=lambda: answers.append(self.call("POST", "/v1/deductions", {"amount": "1"}, "last")))
        buyer.start()
        self.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        self.assertEqual(self.stack.operator.get("/readyz")[0], 200)
        self.assertEqual(json.loads(self.stack.operator.get("/health")[1])["services"]["api"], {"status": "ok"})
        self.stack.operator.process.send(signal.SIGTERM)
        wait_until(lambda: self.stack.operator.get("/readyz")[0] == 503, 1, "readiness goes", 0.005)
        self.assertIn("it is stopping", self.stack.operator.get("/readyz")[1])
        self.assertEqual(answers, [], "it was to be under way")
        buyer.join(20)
        holder.join(20)
        self.assertEqual(answers[0][0], 201, answers)
        self.assertEqual(self.stack.operator.process.wait_exit(20), 0)

    def credit(self):
        done = self.wallet("credit", "--amount", money(CREDIT), "--currency", "GBP", "--reason", "r", "--actor", "a", "--idempotency-key", "k")
        self.assertEqual(done.returncode, 0, done.stderr)

    def wait_for(self, sql):
        wait_until(lambda: self.stack.postgres.value(sql) > 0, 10, sql, 0.01)
