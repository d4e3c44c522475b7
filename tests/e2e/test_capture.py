"""Capture (E5): `tallygate-sidecar init` in a real network namespace: what comes from outside reaches the sidecar, IPv4 and
IPv6; what the sidecar and the app dial themselves does not; the rules are read back, and a start without the right to write them says so."""

import contextlib
import os
import shutil
import subprocess
import sys
import unittest

from tests.support.stack import binary
from tests.support.tools import skip_loudly

POD4, POD6 = "10.77.0.2", "fd77::2"
# Answers each connection with its name; "sidecar" asks the app at the pod's own address first, as the real one does.
SERVER = """
import socket, sys, threading
name, port, ask = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        answer = name
        if ask:
            with socket.create_connection((ask[0], int(ask[1])), 3) as app:
                answer += ">" + app.recv(64).decode()
        connection.sendall(answer.encode())
"""
DIAL = "import socket, sys\nwith socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as c: print(c.recv(64).decode())"


def run(*command, check=True):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=check, timeout=30)


class Capture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            skip_loudly("capture needs root: nothing about redirects was tested")
        for tool in ("ip", "nft", "setpriv"):
            if shutil.which(tool) is None:
                skip_loudly(f"{tool} is missing: nothing about redirects was tested")

    def setUp(self):
        tag = f"tg{os.getpid()}"
        self.pod, self.outside = f"{tag}p", f"{tag}o"
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        for name in (self.pod, self.outside):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name, check=False)
        run("ip", "link", "add", "eth0", "netns", self.pod, "type", "veth", "peer", "name", "eth0", "netns", self.outside)
        for name, four, six in ((self.pod, POD4, POD6), (self.outside, "10.77.0.1", "fd77::1")):
            for command in (f"addr add {four}/24 dev eth0", f"-6 addr add {six}/64 dev eth0 nodad", "link set lo up", "link set eth0 up"):
                run("ip", "-n", name, *command.split())
        self.stack = stack
        self.serve("app", 8080)
        self.serve("other", 9090)
        self.serve("sidecar", 15006, POD4, 8080)

    def serve(self, name, port, *ask):
        process = subprocess.Popen(["ip", "netns", "exec", self.pod, sys.executable, "-c", SERVER, name, str(port), *map(str, ask)],
                                   stdout=subprocess.PIPE, text=True)
        self.stack.callback(process.stdout.close)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.assertEqual(process.stdout.readline(), "listening\n")

    def dial(self, space, host, port=8080):
        return run("ip", "netns", "exec", space, sys.executable, "-c", DIAL, host, port).stdout.strip()

    def init(self, *flags, wrapper=()):
        return run("ip", "netns", "exec", self.pod, *wrapper, binary("tallygate-sidecar"), "init", "--log-format=text", *flags, check=False)

    def test_inbound_connections_go_to_the_sidecar_and_nothing_else_does(self):
        self.assertEqual(self.dial(self.outside, POD4), "app")
        for _ in range(2):  # it may run again: a restarted pod sandbox runs its init containers anew
            done = self.init("--capture=8080:15006")
            self.assertEqual(done.returncode, 0, done.stderr)
        for host in (POD4, POD6):
            self.assertEqual(self.dial(self.outside, host), "sidecar>app", host)
            self.assertEqual(self.dial(self.outside, host, 9090), "other", "a port that was not named is left alone")
            self.assertEqual(self.dial(self.pod, host), "app", "what the pod dials itself is not inbound")
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(self.dial(self.pod, host), "app")

    def test_a_later_run_replaces_the_ports(self):
        self.assertEqual(self.init("--capture=8080:15006").returncode, 0)
        self.assertEqual(self.init("--capture=9090:15006").returncode, 0)
        self.assertEqual(self.dial(self.outside, POD4), "app")
        self.assertEqual(self.dial(self.outside, POD4, 9090), "sidecar>app")

    def test_check_tells_whether_the_redirects_are_in_force(self):
        missing = self.init("--check", "--capture=8080:15006")
        self.assertEqual(missing.returncode, 1)
        self.assertEqual(self.dial(self.outside, POD4), "app", "--check changes nothing")
        self.assertEqual(self.init("--capture=8080:15006").returncode, 0)
        self.assertEqual(self.init("--check", "--capture=8080:15006").returncode, 0)
        run("ip", "netns", "exec", self.pod, "nft", "add rule inet tallygate inbound tcp dport 8080 accept")
        changed = self.init("--check", "--capture=8080:15006")
        self.assertEqual(changed.returncode, 1)
        self.assertIn("1 other rules or chains", changed.stdout + changed.stderr)

    def test_without_the_capability_it_fails_and_says_what_is_needed(self):
        refused = self.init("--capture=8080:15006", wrapper=("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"))
        said = refused.stdout + refused.stderr
        self.assertEqual(refused.returncode, 1, said)
        self.assertIn("NET_ADMIN", said)
        self.assertIn("Unprivileged", said)
        self.assertEqual(self.dial(self.outside, POD4), "app")

    def test_settings_that_are_wrong_are_told_at_once(self):
        wrong = self.init("--capture=8080,15006:15006", "--log-level=loud")
        self.assertEqual(wrong.returncode, 64)
        for part in ("capture", "log-level"):
            self.assertIn(part, wrong.stderr)


if __name__ == "__main__":
    unittest.main()
