import socket

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

METHODS = ["GET", "POST", "PUT"]


def route(path, name):
    async def handler(_request):
        return PlainTextResponse(name, headers={"X-Handler": name})
    return Route(path, handler, methods=METHODS)


app = Starlette(routes=[route("/healthz", "health"), route("/v1/agents", "agents"), route("/v1/agents/{rest:path}", "agents"),
                        route("/v1/chat:complete", "chat"), route("/users/@me", "me"), route("/admin", "admin"),
                        route("/admin/{rest:path}", "admin"), route("/{rest:path}", "other")])

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
