#!/usr/bin/env python3
"""An app behind wsgiref, which, like many a server, makes X-Tenant-Id and X_Tenant_Id one variable. It answers with what it was told:

    {"environ": {"HTTP_X_TENANT_ID": …}, "folded": {…}, "fields": [[name, value], …], "trailers": [[name, value], …]}

`folded` is the environment as PHP has it: `.` becomes `_` too.

    python3 tests/support/wsgi_app.py --port 0
    listening on 127.0.0.1:41234
"""

import argparse
import json
import re
import signal
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


def read_trailers(body):
    """Reads a chunked body to its end: → its trailers."""
    while size := int(body.readline().split(b";")[0], 16):
        body.read(size + 2)
    trailers = []
    while (line := body.readline().strip()):
        name, _, value = line.decode("latin-1").partition(":")
        trailers.append([name, value.strip()])
    return trailers


def app(environ, start_response):
    fields = environ["tallygate.fields"]
    folded = {}
    for name, value in fields:
        folded.setdefault("HTTP_" + re.sub("[^A-Z0-9]", "_", name.upper()), []).append(value)
    chunked = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
    answer = {"environ": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
              "folded": {name: ",".join(values) for name, values in folded.items()}, "fields": fields,
              "trailers": read_trailers(environ["wsgi.input"]) if chunked else []}
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("X-RateLimit-Limit", "7")])
    return [body]


class Handler(WSGIRequestHandler):
    def get_environ(self):
        return {**super().get_environ(), "tallygate.fields": [list(item) for item in self.headers.items()]}

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    server = Server(("127.0.0.1", parser.parse_args().port), Handler)
    server.set_app(app)
    print("listening on 127.0.0.1:%d" % server.server_port, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
