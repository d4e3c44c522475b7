"""As much of Redis's protocol as tests need to look into a server."""

import socket


class RedisError(Exception):
    pass


class RespClient:
    def __init__(self, port, timeout_s=5):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._file = self._socket.makefile("rb")

    def close(self):
        self._file.close()
        self._socket.close()

    def call(self, *args):
        """Replies as int, str, None, list. Raises RedisError for an error reply."""
        parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._reply()

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text.decode()
        if kind == b"-":
            raise RedisError(text.decode())
        if kind == b":":
            return int(text)
        if kind == b"$":
            size = int(text)
            return None if size < 0 else self._file.read(size + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return None if int(text) < 0 else [self._reply() for _ in range(int(text))]
        raise RedisError(f"unknown reply {line!r}")
