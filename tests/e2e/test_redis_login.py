"""The password of a sidecar's user of Redis is rotated under load: it follows the file of its URL, and denies nobody (SPEC E3, G)."""

import time

from tests.e2e.base import POLICY, StackTest
from tests.support.load import Client

USER = "pods"


class RedisLogin(StackTest):
    def set_password(self, password, keep=()):
        rules = [f">{word}" for word in (password, *keep)]
        self.stack.redis.cli("ACL", "SETUSER", USER, "reset", "on", "~*", "&*", "+@all", *rules)

    def write(self, text):
        other = self.file.with_suffix(".new")
        other.write_text(text)
        other.rename(self.file)

    def url(self, password):
        return self.stack.redis.url.replace("redis://", f"redis://{USER}:{password}@")

    def ask_for(self, seconds):
        """→ the statuses of requests for so long."""
        statuses, until = {}, time.monotonic() + seconds
        with Client(self.address) as client:
            while time.monotonic() < until:
                status = client.get("/", {"X-Tenant-Id": "acme"}).status
                statuses[status] = statuses.get(status, 0) + 1
        return statuses

    def connected(self):
        """The ids of the sidecar's connections."""
        return {line.split()[0] for line in self.stack.redis.cli("CLIENT", "LIST").splitlines() if f"user={USER}" in line}

    def test_a_password_is_rotated_under_load(self):
        self.file = self.stack.folder / "redis-url"
        self.set_password("first")
        self.write(self.url("first"))
        self.start(tenants={"acme": 1_000_000})
        sidecar = self.stack.start_sidecar("rotating", POLICY, ("--redis-url-file", self.file))
        self.address = sidecar.address
        self.assertEqual(set(self.ask_for(0.5)), {200})
        old = self.connected()
        self.assertEqual(len(old), 2)

        self.set_password("second", keep=["first"])
        self.write("not a URL")
        time.sleep(1.2)
        self.write(self.url("second"))
        self.stack.wait_until(lambda: any("password has changed" in line.get("msg", "") for line in sidecar.log_lines()), 5, "the file is followed")
        self.assertEqual(self.connected(), old, "nothing is ended before its time")
        self.set_password("second")
        self.stack.redis.cli("CLIENT", "KILL", "USER", USER)
        self.assertEqual(set(self.ask_for(1.5)), {200}, "nobody is denied")
        self.stack.wait_until(lambda: len(self.connected()) == 2 and not self.connected() & old, 5, "it is connected anew")
        text = "".join(str(line) for line in sidecar.log_lines())
        self.assertNotIn("second", text)
        self.assertNotIn(":first", text)
