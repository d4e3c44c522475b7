"""Stripe's wire format, as far as the emulator speaks it: form-encoded parameters with nested keys, and the error body.

Sans I/O: nothing here opens a socket or knows the time.
"""

import json
import re
import urllib.parse

MAX_BODY_BYTES = 1 << 20
MAX_PARAMETERS = 1000

_SUBKEY = re.compile(r"\[([^\[\]]*)\]")


class StripeError(Exception):
    """An error as Stripe answers it. `executed` says that the endpoint had begun: such an answer is what an
    Idempotency-Key replays, while a refusal before that is not kept."""

    def __init__(self, status, message, *, type_="invalid_request_error", code=None, param=None, retry=None, executed=False,
                 headers=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type_
        self.code = code
        self.param = param
        self.retry = retry
        self.executed = executed
        self.headers = headers or {}

    def body(self, request_id):
        error = {"message": self.message, "type": self.type}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + self.code.replace("_", "-")
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = "https://dashboard.stripe.com/test/logs/" + request_id
        return {"error": error}

    def reply_headers(self):
        headers = dict(self.headers)
        if self.retry is not None:
            headers["Stripe-Should-Retry"] = "true" if self.retry else "false"
        return headers


def missing(param):
    return StripeError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def invalid(param, message):
    return StripeError(400, message, param=param)


def no_such(noun, id_, param="id", status=404):
    return StripeError(status, f"No such {noun}: '{id_}'", code="resource_missing", param=param)


def decode_form(text):
    """`payload[value]=25&tiers[0][up_to]=1&images[]=x` → nested dicts and lists. Raises StripeError on what cannot be one."""
    try:
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise StripeError(400, f"Invalid request parameters: {error}") from error
    root = {}
    for name, value in pairs:
        head, bracket, _ = name.partition("[")
        tail = name[len(head):]
        keys = _SUBKEY.findall(tail)
        if not head or (bracket and "".join(f"[{key}]" for key in keys) != tail):
            raise StripeError(400, f"Invalid parameter name: {name}", param=name)
        _insert(root, [head, *keys], value, name)
    return {key: _lists(value) for key, value in root.items()}


def _insert(node, path, value, name):
    for key in path[:-1]:
        key = key or str(len(node))
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise StripeError(400, f"Invalid parameter name: {name}", param=name)
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise StripeError(400, f"Invalid parameter name: {name}", param=name)
    node[last] = value


def _lists(node):
    if not isinstance(node, dict):
        return node
    converted = {key: _lists(value) for key, value in node.items()}
    if converted and all(key.isdigit() for key in converted):
        return [converted[key] for key in sorted(converted, key=int)]
    return converted


def encode_form(params, prefix=""):
    """The inverse of decode_form, for clients."""
    pairs = []
    items = enumerate(params) if isinstance(params, list) else params.items()
    for key, value in items:
        name = f"{prefix}[{key}]" if prefix else str(key)
        if isinstance(value, (dict, list)):
            pairs.append(encode_form(value, name))
        elif value is not None:
            pairs.append(urllib.parse.quote(name, safe="[]") + "=" + urllib.parse.quote(_text(value), safe=""))
    return "&".join(pair for pair in pairs if pair)


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def require_text(params, name, max_length=None):
    value = params.get(name)
    if value is None:
        raise missing(name)
    if not isinstance(value, str) or value == "":
        raise invalid(name, f"You passed an empty or invalid value for '{name}'.")
    if max_length is not None and len(value) > max_length:
        raise invalid(name, f"Invalid string: '{name}' must be at most {max_length} characters; you sent {len(value)}.")
    return value


def integer(params, name, default=None):
    value = params.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,18}", value):
        raise StripeError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    return int(value)


def only(params, allowed):
    """Refuses parameters that the endpoint does not know, as Stripe does."""
    for name in params:
        if name not in allowed and name != "expand":
            raise StripeError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def to_json(body):
    return (json.dumps(body, indent=2) + "\n").encode()
