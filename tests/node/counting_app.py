"""An app whose count outlives it: a byte in a file of the node's for each request that it was asked, before it answers. It knows nothing of
billing. Runs in pods, from a ConfigMap."""

import http.server
import os
import signal
import socket

seen = os.open(f"/seen/{socket.gethostname()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path != "/healthz":
            os.write(seen, b".")
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), App).serve_forever()
