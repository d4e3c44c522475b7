"""Hostile bytes to the admin ports of both real binaries and to the API, before any credential: each connection gets its refusal at most, and
the processes stay up; connections that say nothing shut nobody out."""

import socket
import time

from tests.e2e.api_base import ApiStackTest
from tests.e2e.base import POLICY
from tests.support.stack import http_get

HEAD = b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
# Sent part by part, with a pause between.
PARTS = (
    (HEAD + b"0\r\n", b"x"),
    (HEAD + b"0\r\n", b"\r", b"x"),
    (HEAD + b"0\r\n", b"\n"),
    (HEAD + b"5;a\nb\r\n", b"hello\r\n0\r\n\r\n"),
    (HEAD + b"0\r\nA: b\r\n", b" c\r\n\r\n"),
    (HEAD, b"ffffffffffffffff", b"1\r\n"),
    (b"GET http HTTP/1.1\r\nHost: a\r\n\r\n",),
    (b"\r", b"\n\r\n\r\n"),
    (b"\x00" * 5000,),
)


def connected(address):
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.settimeout(10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def say(address, parts):
    with connected(address) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
        except ConnectionError:
            pass  # refused by what came before


class HostilePorts(ApiStackTest):
    def setUp(self):
        super().setUp()
        self.sidecar = self.stack.start_sidecar("a", POLICY)

    def assert_all_up(self):
        self.assertEqual(self.call("GET", "/v1/wallet")[0], 200)
        for process in (self.stack.operator, self.sidecar):
            self.assertTrue(process.alive)
            self.assertEqual(http_get(process.admin_address, "/healthz")[0], 200)

    def test_nothing_that_comes_ends_a_process(self):
        ports = {"API": self.address, "operator": self.stack.operator.admin_address, "sidecar": self.sidecar.admin_address}
        for name, address in ports.items():
            for parts in PARTS:
                with self.subTest(name, parts=parts):
                    say(address, parts)
                    self.assert_all_up()

    def test_connections_that_say_nothing_shut_nobody_out(self):
        for name, address in (("operator", self.stack.operator.admin_address), ("sidecar", self.sidecar.admin_address)):
            with self.subTest(name):
                silent = [connected(address) for _ in range(400)]
                try:
                    for _ in range(5):
                        self.assert_all_up()
                finally:
                    for connection in silent:
                        connection.close()
