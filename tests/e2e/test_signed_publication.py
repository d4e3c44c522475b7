"""What the operator publishes is signed, and a sidecar that has its key believes nobody else (SPEC A9, E3)."""

import hashlib
import json
import subprocess

from tests.e2e.base import POLICY, StackTest
from tests.support.load import Client
from tests.support.stack import binary


class SignedPublication(StackTest):
    def publication(self, *command):
        done = subprocess.run([binary("tallygate-operator"), "publication", *command, "--database-url", self.stack.postgres.url],
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def write_keys(self):
        other = self.file.with_suffix(".new")
        other.write_text(self.publication("key"))
        other.rename(self.file)

    def status(self, headers):
        with Client(self.sidecar.address) as client:
            return client.get("/", headers).status

    def refused(self, reason):
        return self.sidecar.metric("tallygate_sidecar_publications_refused_total", reason=reason)

    def test_a_forged_key_is_nobodys_and_keys_change_without_a_gap(self):
        self.file = self.stack.folder / "publication-key"
        self.start(tenants={"acme": 1_000, "globex": 1_000})
        self.sidecar = self.stack.start_sidecar("signed", POLICY, ("--publication-key-file", self.file), wait_ready=False)
        self.stack.wait_until(lambda: "keys" in self.sidecar.get("/health")[1], 10, "it says that it waits for its keys")
        self.assertNotEqual(self.status({"X-Tenant-Id": "acme"}), 200, "nothing is believed without them")
        self.write_keys()
        self.sidecar.wait_ready()
        self.assertEqual(self.status({"X-Tenant-Id": "acme"}), 200)

        # Whoever reaches Redis.
        hashed = hashlib.sha256(b"made-up").hexdigest()
        self.stack.redis.cli("SET", "tg:{pub}:id:apikey:" + hashed, "shop/globex")
        self.assertEqual(self.status({"X-Api-Key": "made-up"}), 503)
        self.assertGreaterEqual(self.refused("unsigned"), 1)
        health = json.loads(self.sidecar.get("/health")[1])
        self.assertEqual(health["services"]["publication"]["status"], "degraded", health)
        self.assertNotIn(hashed, json.dumps(health) + "".join(str(line) for line in self.sidecar.log_lines()))
        self.assertEqual(self.status({"X-Tenant-Id": "acme"}), 200, "what was in force stays")

        # Another key, in order.
        self.publication("prepare", "--actor=ops")
        self.write_keys()
        self.stack.wait_until(lambda: any(line.get("msg") == "keys of the publication" and "," in line.get("keys", "")
                                          for line in self.sidecar.log_lines()), 5, "the file is followed")
        first = self.stack.redis.cli("HGET", "tg:{pub}:meta", "sig").split()[1]
        self.publication("rotate", "--actor=ops")
        self.stack.wait_until(lambda: self.stack.redis.cli("HGET", "tg:{pub}:meta", "sig").split()[1] != first, 15, "it is published anew")
        self.publication("retire", "--actor=ops")
        self.write_keys()
        self.set_tenant("acme", 1_000, suspend=True)
        self.publish()
        self.until_status(self.sidecar, "acme", 403, 10)
        self.assertEqual(self.status({"X-Tenant-Id": "globex"}), 200)
        self.assertEqual(self.refused("unknown_key") + self.refused("forged") + self.refused("replayed"), 0)
