"""Malformed requests against the real sidecar: each gets a clear 4xx (or 501, 505), the connection is closed, nothing of it reaches the
app, and the process stays up. Requirement G: what the parser must refuse."""

import json
import socket
import unittest

from tests.e2e.base import StackTest
from tests.support.load import parse_headers

TENANT = b"X-Tenant-Id: acme\r\n"
HOST = b"Host: a.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + TENANT + b"\r\n"


def get(extra=b"", target=b"/malformed", version=b"HTTP/1.1", host=HOST):
    return b"GET " + target + b" " + version + b"\r\n" + host + TENANT + extra + b"\r\n"


def post(extra, body=b"", target=b"/malformed"):
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + TENANT + extra + b"\r\n" + body


def chunks(body):
    """A body that breaks after a good head has been admitted."""
    return post(b"Transfer-Encoding: chunked\r\n", body)


BAD = (400,)
# name → (bytes, accepted statuses)
CASES = {
    # Host
    "no Host": (get(host=b""), BAD),
    "two Hosts": (get(HOST), BAD),
    "two different Hosts": (get(b"Host: b.example\r\n"), BAD),
    "Host with a space": (get(host=b"Host: a b\r\n"), BAD),
    "Host with a path": (get(host=b"Host: a.example/x\r\n"), BAD),
    # Content-Length
    "Content-Length twice, alike": (post(b"Content-Length: 4\r\nContent-Length: 4\r\n", b"abcd"), BAD),
    "Content-Length twice, different": (post(b"Content-Length: 4\r\nContent-Length: 5\r\n", b"abcd"), BAD),
    "Content-Length as a list": (post(b"Content-Length: 4, 4\r\n", b"abcd"), BAD),
    "Content-Length negative": (post(b"Content-Length: -1\r\n"), BAD),
    "Content-Length with a plus": (post(b"Content-Length: +4\r\n", b"abcd"), BAD),
    "Content-Length in hex": (post(b"Content-Length: 0x4\r\n", b"abcd"), BAD),
    "Content-Length with a space inside": (post(b"Content-Length: 1 0\r\n", b"abcd"), BAD),
    "Content-Length empty": (post(b"Content-Length: \r\n"), BAD),
    "Content-Length overflowing 64 bits": (post(b"Content-Length: 18446744073709551620\r\n", b"abcd"), BAD + (413,)),
    # Transfer-Encoding
    "both Content-Length and chunked": (post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), BAD),
    "both, the other way round": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + SMUGGLED), BAD),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), BAD + (501,)),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), BAD + (501,)),
    "xchunked": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), BAD + (501,)),
    "identity": (post(b"Transfer-Encoding: identity\r\n"), BAD + (501,)),
    "chunked twice": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), BAD + (501,)),
    "chunked on HTTP/1.0": (b"POST /malformed HTTP/1.0\r\n" + HOST + TENANT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    "chunked behind a tab in the name": (post(b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n"), BAD),
    # chunks
    "a chunk size that is no hex": (chunks(b"xyz\r\n"), BAD),
    "a negative chunk size": (chunks(b"-4\r\nabcd\r\n0\r\n\r\n"), BAD),
    "a chunk size overflowing 64 bits": (chunks(b"ffffffffffffffff1\r\n"), BAD + (413,)),
    "a chunk longer than its size": (chunks(b"4\r\nabcdef\r\n0\r\n\r\n"), BAD),
    "a chunk size line ended by LF": (chunks(b"4\nabcd\r\n0\r\n\r\n"), BAD),
    "LF in a chunk extension": (chunks(b"4;a\nb\r\nabcd\r\n0\r\n\r\n"), BAD),
    "a control byte in a chunk extension": (chunks(b"4;a\x01b\r\nabcd\r\n0\r\n\r\n"), BAD),
    "a trailer that is folded": (chunks(b"0\r\nX: 1\r\n 2\r\n\r\n"), BAD),
    # field syntax
    "a space before the colon": (get(b"X-A : 1\r\n"), BAD),
    "an empty field name": (get(b": 1\r\n"), BAD),
    "a field without a colon": (get(b"X-A\r\n"), BAD),
    "a space in a field name": (get(b"X A: 1\r\n"), BAD),
    "obs-fold": (get(b"X-A: 1\r\n 2\r\n"), BAD),
    "a first field that is folded": (b"GET /malformed HTTP/1.1\r\n " + HOST + TENANT + b"\r\n", BAD),
    "NUL in a value": (get(b"X-A: a\x00b\r\n"), BAD),
    "a control byte in a value": (get(b"X-A: a\x01b\r\n"), BAD),
    "CR alone in a value": (get(b"X-A: a\rb\r\n"), BAD),
    "LF alone after a field": (get(b"X-A: 1\nX-B: 2\r\n"), BAD),
    "LF alone everywhere": (get().replace(b"\r\n", b"\n"), BAD),
    # the request line
    "no version": (b"GET /malformed\r\n" + HOST + b"\r\n", BAD),
    "two spaces": (b"GET  /malformed HTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "a tab for a space": (b"GET\t/malformed HTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "a space in the target": (get(target=b"/mal formed"), BAD),
    "a control byte in the target": (get(target=b"/mal\x01formed"), BAD),
    "a target without a slash": (get(target=b"malformed"), BAD),
    "a target that is a scheme": (get(target=b"http"), BAD),
    "TRACE": (get(b"Connection: close\r\n").replace(b"GET", b"TRACE", 1), (405,)),
    "a fragment in the target": (get(target=b"/malformed#top"), BAD),
    "a method with a bad byte": (get().replace(b"GET", b"G{T", 1), BAD),
    "an empty method": (get().replace(b"GET", b"", 1), BAD),
    "HTTP/1.1 in lower case": (get(version=b"http/1.1"), BAD + (505,)),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), BAD + (505,)),
    "HTTP/3": (get(version=b"HTTP/3"), BAD + (505,)),
    "HTTP/1.10": (get(version=b"HTTP/1.10"), BAD + (505,)),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS hello\r\n\r\n", BAD),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD + (501, 505)),
    "CONNECT": (b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + TENANT + b"\r\n", BAD + (405, 501)),
    "an unknown expectation": (post(b"Expect: 200-maybe\r\nContent-Length: 1\r\nConnection: close\r\n", b"a"), (417,)),
    # limits
    "a target of 100 KB": (get(target=b"/" + b"a" * 100_000), (414,)),
    "a field of 1 MB": (get(b"X-A: " + b"a" * 1_000_000 + b"\r\n"), (431,)),
    "10,000 fields": (get(b"X-A: 1\r\n" * 10_000), (431,)),
    "a head that never ends, of 1 MB": (b"GET /malformed HTTP/1.1\r\n" + b"X-A: 1\r\n" * 125_000, (431,)),
}


def exchange(address, data, timeout_s=10):
    """Sends bytes and reads until the server closes: → what came. A reset after the answer is as good as a close."""
    host, _, port = address.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout_s) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.sendall(data)
        except ConnectionError:
            pass  # answered and closed before all was sent
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


def check(test, address, data, statuses):
    """One malformed request: a status of those, a problem body, the connection closed, no second answer."""
    received = exchange(address, data)
    head, _, body = received.partition(b"\r\n\r\n")
    test.assertTrue(head.startswith(b"HTTP/1.1 "), received[:200])
    headers = parse_headers(head)
    test.assertIn(int(head[9:12]), statuses, received[:500])
    test.assertEqual(len(body), int(headers["content-length"]), received[:1000])  # exactly one answer
    test.assertEqual(headers["content-type"].partition(";")[0], "application/problem+json")
    problem = json.loads(body)
    test.assertEqual(problem["status"], int(head[9:12]))
    for key in ("type", "title", "detail", "reason"):
        test.assertTrue(problem[key], key)
    test.assertIn("requestId", problem)  # empty where the head could not be read


class MalformedRequests(StackTest):
    def test_each_gets_a_clear_4xx_and_the_sidecar_stays_up(self):
        sidecar, = self.start("a", tenants={"acme": 1000})
        self.until_status(sidecar, "acme", 200, 5)
        seen = self.stack.app.counts()["total"]
        for name, (data, statuses) in CASES.items():
            with self.subTest(name):
                check(self, sidecar.address, data, statuses)
        self.assertTrue(sidecar.alive)
        self.assertEqual(self.ask(sidecar, "acme").status, 200)
        counts = self.stack.app.counts()
        self.assertEqual((counts["bad"], counts["paths"].get("/smuggled", 0)), (0, 0))
        # A body that breaks in its first bytes did not reach the app: it is not charged either.
        self.assertEqual(counts["total"], seen + 1)
        self.assert_books("acme", seen + 1, "malformed requests cost nothing")


if __name__ == "__main__":
    unittest.main()
