"""Carries TCP connections to another address, on a thread of its own: from where a socket listens to where this process' network is.
With a certificate it ends TLS on the way.

    relay = Relay()
    relay.carry(cluster.listen_outside(), "10.96.3.7:80")      → "127.0.0.1:23456"
    relay.close()
"""

import asyncio
import contextlib
import ssl
import threading

CHUNK_BYTES = 64 << 10
MAX_CONNECTIONS = 256


class Relay:
    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._servers = []
        self._open = set()

    def carry(self, listener, target, certificate=None):
        """`certificate`: the paths of a key and its certificate. → the address that listens."""
        tls = None
        if certificate:
            key, chain = certificate
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(chain, key)
        host, _, port = target.rpartition(":")

        async def listen():
            return await asyncio.start_server(lambda reader, writer: self._connection(reader, writer, host, int(port)), sock=listener, ssl=tls)

        self._servers.append(asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10))
        return "{}:{}".format(*listener.getsockname()[:2])

    def close(self):
        async def end():
            for server in self._servers:
                server.close()
            for task in list(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _connection(self, reader, writer, host, port):
        task = asyncio.current_task()
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(task)
        onward = None
        try:
            their_reader, onward = await asyncio.open_connection(host, port)
            await asyncio.gather(_pump(reader, onward), _pump(their_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # either end left, or close()
        finally:
            self._open.discard(task)
            for each in (writer, onward):
                if each is not None:
                    each.close()


async def _pump(reader, writer):
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS has no half of a connection
            writer.close()
