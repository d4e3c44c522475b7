"""A load client fast enough to be no bottleneck: raw sockets, keep-alive, one thread per connection or many connections on one
selector, no allocation to speak of per request. It parses just what a well-behaved server sends: a status line, Content-Length
or chunked bodies.
"""

import socket
import threading
import time
from collections import Counter

RECV_BYTES = 65536


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case; a repeated one is joined with ", "
        self.body = body

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class NoResponse(ConnectionError):
    """The connection ended without a complete response; `partial` is what came."""

    def __init__(self, why, partial=b""):
        super().__init__(why)
        self.partial = partial


class Client:
    """One keep-alive connection. Not thread-safe. Opens anew after an error or `Connection: close`."""

    def __init__(self, address, timeout_s=15):
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._timeout_s = timeout_s
        self._socket = None
        self._rest = b""

    def close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def get(self, target, headers=None):
        return self.request("GET", target, headers)

    def request(self, method, target, headers=None, body=b""):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._address[0]}:{self._address[1]}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        return self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body, head_only=method == "HEAD")

    def raw(self, data, head_only=False):
        """Sends bytes, reads one response. Raises NoResponse (which is a ConnectionError) or TimeoutError."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(data)
            return self._read(head_only)
        except BaseException:
            self.close()
            raise

    def _more(self, have):
        data = self._socket.recv(RECV_BYTES)
        if not data:
            raise NoResponse("closed before a complete response", have)
        return have + data

    def _read(self, head_only):
        data = self._rest
        while True:
            while (end := data.find(b"\r\n\r\n")) < 0:
                data = self._more(data)
            head, data = data[:end], data[end + 4:]
            status = int(head[9:12])
            if status >= 200 or status == 101:
                break
        headers = parse_headers(head)
        if head_only or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body, data = self._chunked(data)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            while len(data) < length:
                data = self._more(data)
            body, data = data[:length], data[length:]
        else:
            while chunk := self._socket.recv(RECV_BYTES):
                data += chunk
            body, data = data, b""
            headers["connection"] = "close"
        self._rest = data
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body)

    def _chunked(self, data):
        body = b""
        while True:
            while (line := data.find(b"\r\n")) < 0:
                data = self._more(data)
            size = int(data[:line].split(b";")[0], 16)
            data = data[line + 2:]
            if size == 0:
                while not data.startswith(b"\r\n") and b"\r\n\r\n" not in data:
                    data = self._more(data)
                return body, data[2:] if data.startswith(b"\r\n") else data[data.index(b"\r\n\r\n") + 4:]
            while len(data) < size + 2:
                data = self._more(data)
            body += data[:size]
            data = data[size + 2:]


def parse_headers(head):
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return headers


class Load:
    """Runs `jobs` at once, each on a connection of its own: (address, headers, count, path). A request without a complete response
    is counted as lost and is not sent again (the app may have seen it); a refused connection is tried anew until `patience_s` is over.

        load = Load([(sidecar.address, {"X-Tenant-Id": "acme"}, 5000, "/")]); load.start(); …; load.join()
        load.statuses → Counter({200: 4990, 429: 10}); load.lost → 0
    """

    def __init__(self, jobs, patience_s=30, pause_s=0.0, timeout_s=15):
        self.statuses = Counter()
        self.by_job = [Counter() for _ in jobs]
        self.lost = 0
        self.refused = 0
        self.longest_s = 0.0
        self.seconds = 0.0
        self.errors = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index, *job, patience_s, pause_s, timeout_s), daemon=True)
                         for index, job in enumerate(jobs)]
        self._began = 0.0

    def start(self):
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        return self.join()

    def join(self):
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began
        if self.errors:
            raise self.errors[0]
        return self

    @property
    def done(self):
        return sum(sum(counter.values()) for counter in self.by_job)

    @property
    def running(self):
        return any(thread.is_alive() for thread in self._threads)

    def wait_done(self, count, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while self.done < count and self.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.done} of {count} requests after {timeout_s} s: {dict(self.statuses)}")
            time.sleep(0.005)

    def _run(self, index, address, headers, count, path, patience_s, pause_s, timeout_s):
        counter = self.by_job[index]
        lost = refused = 0
        longest = 0.0
        try:
            client = Client(address, timeout_s)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            data = f"GET {path} HTTP/1.1\r\nHost: load.example\r\n{lines}\r\n".encode()
            sent = 0
            give_up = None
            while sent < count and not self._stop.is_set():
                began = time.monotonic()
                try:
                    counter[client.raw(data).status] += 1
                    give_up = None
                    longest = max(longest, time.monotonic() - began)
                except ConnectionRefusedError:
                    refused += 1
                    give_up = give_up or began + patience_s
                    if began > give_up:
                        raise
                    time.sleep(0.01)
                    continue
                except ConnectionError:
                    lost += 1
                sent += 1
                if pause_s:
                    time.sleep(pause_s)
            client.close()
        except Exception as error:  # handed to join()
            self.errors.append(error)
        with self._lock:
            self.statuses += counter
            self.lost += lost
            self.refused += refused
            self.longest_s = max(self.longest_s, longest)
