"""JSON schemas for kubeconform out of an API server's own OpenAPI document, so that they are of its version."""

import json
import pathlib
import re


def openapi_to_schemas(document, folder):
    """Writes folder/KIND[-GROUP]-VERSION.json for each kind, as kubeconform's ResourceKind and KindSuffix name them, with all that it
    refers to. No field may stand there that the server does not know."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: json.dumps(_strict(definition)) for name, definition in document["definitions"].items()}
    for name, definition in document["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            needed, todo = set(), [name]
            while todo:
                each = todo.pop()
                if each not in needed:
                    needed.add(each)
                    todo += re.findall(r'"#/definitions/([^"]+)"', texts[each])
            parts = (kind["kind"].lower(), kind["group"].partition(".")[0], kind["version"])
            listed = ", ".join(f"{json.dumps(each)}: {texts[each]}" for each in sorted(needed))
            (folder / f"{'-'.join(filter(None, parts))}.json").write_text(f'{{"$ref": "#/definitions/{name}", "definitions": {{{listed}}}}}')


def _strict(node):
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: _strict(value) for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if "properties" in made and "additionalProperties" not in made and not node.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made
