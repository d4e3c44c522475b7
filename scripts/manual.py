"""Writes docs/manual/resources.md from crds/: every field, its form, its bounds and what refuses it.

    python3 -m scripts.manual

A real API server reads the CRDs, as it will (scripts/kubernetes.sh); tests/e2e/test_kube_crds.py fails where the file is not current.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "manual" / "resources.md"
KINDS = ("billingplans", "billingtenants", "billingpolicies")
EXAMPLES = {"BillingPlan": "plan.yaml", "BillingTenant": "tenant.yaml", "BillingPolicy": "policy.yaml"}
HEAD = """\
# Resources

Every field of the resources of `billing.tallygate.dev/v1alpha1`. Made by `python3 -m scripts.manual` from `crds/`: do not edit. `kubectl explain
btenant.spec.wallet` says the same at a prompt.

What is wrong in itself is refused when it is applied, with the field and what to write instead, and so are fields that are not known. What is
wrong between objects, such as a plan that does not exist, is applied and told in the condition `Accepted` within a second; until it is mended,
what was accepted before stays in force. A folder of files as the source has the same rules, and tells of faults in the operator's log.
"""


def text(crds):
    """The whole file, for CRDs as an API server gives them."""
    parts = [HEAD]
    for crd in crds:
        version = crd["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        names = crd["spec"]["names"]
        kind = names["kind"]
        scope = "of the cluster" if crd["spec"]["scope"] == "Cluster" else "in a namespace"
        parts.append(f"\n## {kind}\n\n{schema['description']}\n\n{kind}s are {scope}; `kubectl get {names['shortNames'][0]}` lists them.\n")
        parts.append(f"\n```yaml\n{(ROOT / 'tests' / 'golden' / 'manifests' / EXAMPLES[kind]).read_text()}```\n")
        parts.append("\n" + "".join(fields(schema["properties"]["spec"], "spec", required=True)))
        parts.append("\n### Status\n\n" + "".join(fields(schema["properties"]["status"], "status", required=False)))
        parts.append("\n### Columns\n\n" + "".join(
            f"- **{column['name']}**{' (with `-o wide`)' if column.get('priority') else ''}: {column['description']}\n"
            for column in version["additionalPrinterColumns"]))
    return "".join(parts)


def fields(schema, path, required):
    """Lines for a field and all below it."""
    facts = [form(schema)]
    if path.startswith("spec") and not path.endswith("]"):
        facts.append("required" if required else "optional")
    if "default" in schema and path != "status":
        facts.append(f"default `{shown(schema['default'])}`")
    line = f"- **`{path}`** ({', '.join(facts)}): {schema['description']}"
    refused = [f"{rule.get('fieldPath', '').removeprefix('.')} {rule['message']}".strip() for rule in schema.get("x-kubernetes-validations", [])]
    if refused:
        line += f" *Refused otherwise:* {'; '.join(refused)}."
    yield line + "\n"
    for name in sorted(schema.get("properties", {}), key=lambda name: name not in schema.get("required", [])):
        yield from fields(schema["properties"][name], f"{path}.{name}", name in schema.get("required", []))
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]", required=False)


def form(schema):
    """What may stand there: "integer from 0 to 100"."""
    kind = schema["type"]
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"]) if len(schema["enum"]) < 5 else "one of " + ", ".join(
            f"`{value}`" for value in schema["enum"])
    if kind == "array":
        return f"list of at most {schema['maxItems']}"
    if kind == "object":
        return "labels" if "additionalProperties" in schema else "mapping"
    if kind == "integer":
        bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
        return " ".join([kind, *bounds])
    if kind == "string":
        return "time" if schema.get("format") == "date-time" else f"string of at most {schema['maxLength']}"
    return "true or false" if kind == "boolean" else kind


def shown(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def main():
    sys.path.insert(0, str(ROOT))
    from tests.support.kube import ControlPlane
    with ControlPlane() as kube:
        kube.install_crds()
        crds = [kube.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}.billing.tallygate.dev") for kind in KINDS]
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(text(crds))
    print(f"wrote {PATH.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
