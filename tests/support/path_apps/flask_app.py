from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

METHODS = ["GET", "POST", "PUT"]
app = Flask(__name__)


def route(path, name):
    def handler(**_parts):
        return name, {"X-Handler": name}
    app.add_url_rule(path, f"{name} at {path}", handler, methods=METHODS)


for path, name in (("/healthz", "health"), ("/v1/agents", "agents"), ("/v1/agents/", "agents"), ("/v1/agents/<path:rest>", "agents"),
                   ("/v1/chat:complete", "chat"), ("/users/@me", "me"), ("/admin", "admin"), ("/admin/", "admin"), ("/admin/<path:rest>", "admin")):
    route(path, name)


@app.errorhandler(404)
def other(_error):
    return "other", 200, {"X-Handler": "other"}


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
