#!/usr/bin/env python3
"""The app behind the sidecar in tests and in the demo: an HTTP/1.1 keep-alive server that counts what reaches it.

    python3 tests/support/example_app.py --port 0
    listening on 127.0.0.1:41234

Paths:
    GET /_count             {"total", "tenants": {name: n}, "paths": {path: n}, "statuses": {status: n}, "bad": n}; POST /_reset starts anew
    /status/NNN             answers NNN
    /slow?ms=200            answers after that time
    /stream?n=5&ms=20       n server-sent events, chunked, ms apart
    /bytes?n=1000           a body of n bytes
    /echo                   the request's body back
    /abort                  counts, then closes the connection without an answer
    anything else           {"ok": true, "path": …}

A request counts for the tenant in X-Tenant-Id, or else for the one of its X-Api-Key as given by --key KEY=TENANT, or "-". `bad`
counts requests that no honest proxy sends: both Content-Length and Transfer-Encoding, no Host, obs-fold, bare LF.
"""

import argparse
import asyncio
import json
import signal
from collections import Counter
from urllib.parse import parse_qsl

MAX_HEAD_BYTES = 64 << 10
REASONS = {200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 404: "Not Found",
           500: "Internal Server Error", 503: "Service Unavailable"}
PLAIN = b'{"ok": true}\n'
PLAIN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(PLAIN) + PLAIN


class Counts:
    def __init__(self, keys):
        self.keys = keys
        self.reset()

    def reset(self):
        self.tenants, self.paths, self.statuses, self.bad = Counter(), Counter(), Counter(), 0

    def to_json(self):
        return json.dumps({"total": sum(self.tenants.values()), "tenants": dict(self.tenants), "paths": dict(self.paths),
                           "statuses": dict(self.statuses), "bad": self.bad}).encode() + b"\n"


class Connection(asyncio.Protocol):
    """One request at a time; pipelined ones wait in the buffer."""

    def __init__(self, counts):
        self.counts = counts
        self.buffer = bytearray()
        self.busy = False
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.transport = None

    def data_received(self, data):
        self.buffer += data
        self.pump()

    def pump(self):
        while not self.busy and self.transport is not None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > MAX_HEAD_BYTES:
                    self.transport.abort()
                return
            head = bytes(self.buffer[:end])
            method, _, rest = head.partition(b" ")
            target, _, rest = rest.partition(b" ")
            headers = self.parse(rest)
            body, length = self.body(headers, end + 4)
            if body is None:
                return
            del self.buffer[:length]
            self.handle(method.decode(), target.decode(), headers, body)

    def parse(self, rest):
        headers = {}
        for line in rest.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if not colon or name[:1] in b" \t" or b"\n" in line:
                self.counts.bad += 1
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        if "host" not in headers or ("content-length" in headers and "transfer-encoding" in headers):
            self.counts.bad += 1
        return headers

    def body(self, headers, start):
        """(the body, the offset after it), or (None, 0) while it is incomplete."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            end = start + int(headers.get("content-length") or 0)
            return (bytes(self.buffer[start:end]), end) if len(self.buffer) >= end else (None, 0)
        at, body = start, b""
        while True:
            line = self.buffer.find(b"\r\n", at)
            if line < 0:
                return None, 0
            size = int(bytes(self.buffer[at:line]).split(b";")[0], 16)
            if size == 0:
                trailer = self.buffer.find(b"\r\n\r\n", line)
                return (None, 0) if trailer < 0 else (body, trailer + 4)
            body += self.buffer[line + 2:line + 2 + size]
            at = line + 2 + size + 2

    def handle(self, method, target, headers, body):
        path, _, query = target.partition("?")
        counts = self.counts
        if path == "/_count":
            return self.answer(200, counts.to_json())
        if path == "/_reset":
            counts.reset()
            return self.answer(200, counts.to_json())
        tenant = headers.get("x-tenant-id") or counts.keys.get(headers.get("x-api-key", ""), "-")
        counts.tenants[tenant] += 1
        counts.paths[path] += 1
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        if first not in ("status", "slow", "stream", "bytes", "echo", "abort"):
            counts.statuses[200] += 1
            return self.transport.write(PLAIN_ANSWER if method != "HEAD" else PLAIN_ANSWER[:-len(PLAIN)])
        params = dict(parse_qsl(query))
        if first == "status":
            status = int(path.rsplit("/", 1)[1])
            return self.answer(status, b'{"status": %d}\n' % status)
        if first == "bytes":
            return self.answer(200, b"x" * int(params.get("n", 1000)), "application/octet-stream")
        if first == "echo":
            return self.answer(200, body, headers.get("content-type", "application/octet-stream"))
        if first == "abort":
            return self.transport.abort()
        self.busy = True
        loop = asyncio.get_running_loop()
        if first == "slow":
            loop.call_later(int(params.get("ms", 200)) / 1000, self.finish, lambda: self.answer(200, PLAIN))
        else:
            counts.statuses[200] += 1
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.event(0, int(params.get("n", 5)), int(params.get("ms", 20)) / 1000)

    def event(self, index, count, pause_s):
        if self.transport is None:
            return
        if index == count:
            self.finish(lambda: self.transport.write(b"0\r\n\r\n"))
            return
        data = b'data: {"n": %d}\n\n' % index
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        asyncio.get_running_loop().call_later(pause_s, self.event, index + 1, count, pause_s)

    def finish(self, write):
        if self.transport is not None:
            write()
            self.busy = False
            self.pump()

    def answer(self, status, body, content_type="application/json"):
        self.counts.statuses[status] += 1
        bodyless = status in (204, 304) or status < 200
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n"
        if not bodyless:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"\r\n" + (b"" if bodyless else body))


async def serve(host, port, keys):
    loop = asyncio.get_running_loop()
    counts = Counts(keys)
    server = await loop.create_server(lambda: Connection(counts), host, port, backlog=1024)
    print("listening on %s:%d" % (host, server.sockets[0].getsockname()[1]), flush=True)
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    await done.wait()
    server.close()


def main():
    parser = argparse.ArgumentParser(description="An app that counts its requests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", action="append", default=[], metavar="KEY=TENANT", help="counts requests with that X-Api-Key for TENANT")
    args = parser.parse_args()
    asyncio.run(serve(args.host, args.port, dict(item.split("=", 1) for item in args.key)))


if __name__ == "__main__":
    main()
