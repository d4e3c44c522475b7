"""Every form of address that a help text or the README shows: the sidecar listens there, and reaches its app there; and what it says while
what it needs is missing."""

import http.client
import http.server
import json
import os
import pathlib
import socket
import socketserver
import subprocess
import tempfile
import threading
import unittest

from tests.e2e.base import PLAN, POLICY, POLICY_TEXT, StackTest
from tests.support.stack import binary, http_get


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"app")

    def log_message(self, *args):
        pass

    def address_string(self):
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Server6(Server):
    address_family = socket.AF_INET6


class ServerUnix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Addresses(StackTest):
    def setUp(self):
        super().setUp()
        self.stack.write_manifests(PLAN + POLICY_TEXT)
        self.stack.start_operator()

    def serve(self, kind, address):
        server = kind(address, App)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def start(self, name, policy=POLICY, **addresses):
        return self.stack.start_sidecar(name, policy, **addresses)

    def reminded(self, sidecar):
        self.stack.wait_until(lambda: any("there is no policy" in line.get("msg", "") for line in sidecar.log_lines()), 10, "the log names what is missing")
        health = json.loads(sidecar.get("/health")[1])
        self.assertEqual(health["status"], "degraded")
        return health["services"]["policy"]["detail"]

    def answers(self, host, port):
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def test_where_it_listens(self):
        port = free_port()
        self.start("any", listen=f":{port}")
        self.assertEqual(self.answers("127.0.0.1", port), 200)
        if socket.has_ipv6 and pathlib.Path("/proc/net/if_inet6").read_text():
            self.assertEqual(self.answers("::1", port), 200)
        for name, listen in (("name", "localhost:0"), ("v4", "127.0.0.1:0"), ("all4", "0.0.0.0:0"), ("v6", "[::1]:0"), ("all6", "[::]:0")):
            with self.subTest(listen):
                sidecar = self.start(name, listen=listen)
                host, _, port = sidecar.address.rpartition(":")
                self.assertEqual(self.answers(host.strip("[]").replace("0.0.0.0", "127.0.0.1"), int(port)), 200)

    def test_where_the_app_is(self):
        v4, v6 = self.serve(Server, ("127.0.0.1", 0)), self.serve(Server6, ("::1", 0))
        path = str(self.stack.folder / "app.sock")
        self.serve(ServerUnix, path)
        forms = {"v4": f"127.0.0.1:{v4.server_address[1]}", "v6": f"[::1]:{v6.server_address[1]}", "unix": f"unix:{path}",
                 "name": f"localhost:{v4.server_address[1]}"}
        for name, upstream in forms.items():
            with self.subTest(upstream):
                sidecar = self.start(f"up-{name}", upstream=upstream)
                self.assertEqual(http_get(sidecar.address, "/healthz"), (200, "app"))

    def test_what_is_missing_is_said(self):
        sidecar = self.start("nobody", upstream="app.invalid:80", wait_ready=False)
        self.assertEqual(http_get(sidecar.address, "/healthz")[0], 502)
        status, text = sidecar.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("app.invalid:80", text)
        self.assertIn("app.invalid", sidecar.process.log_text())

        sidecar = self.start("lost", policy="shop/nobody", wait_ready=False)
        self.assertIn("shop/nobody", self.reminded(sidecar))
        self.assertIn("apply one of that name", sidecar.get("/readyz")[1])

        self.stack.redis.kill()
        self.assertRegex(self.reminded(self.start("alone", wait_ready=False)), "Redis cannot be used: .*[Rr]efused")


class NothingIsLeftBehind(unittest.TestCase):
    def test_an_address_that_cannot_be(self):
        with tempfile.TemporaryDirectory() as folder:
            data = os.path.join(folder, "data")
            argv = [binary("tallygate-sidecar"), "run", "--listen", "no-such-host.invalid:0", "--upstream", "127.0.0.1:9", "--admin", "127.0.0.1:0",
                    "--policy", "shop/api", "--redis-url", "redis://127.0.0.1:9", "--data-dir", data]
            done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=20, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("no-such-host.invalid", done.stderr + done.stdout)
            self.assertFalse(os.path.exists(data))


if __name__ == "__main__":
    unittest.main()
