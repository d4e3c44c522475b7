#!/usr/bin/env python3
"""Holds what is written about the project to the project. Faults are printed one a line, with file and line; exit code 1 if there is one.

    python3 scripts/docs_check.py             check
    python3 scripts/docs_check.py --write     draw the rooms and arrows in docs/ARCHITECTURE.md anew, then check

What is held:
  rules            "rule 7" anywhere is one of docs/PROTOCOL.md; each of these says where it lives and which test shows it
  requirements     "requirement A8" or "SPEC A8" anywhere is a row of docs/REQUIREMENTS.md; each row names a test, or says "not yet"
  decisions        "ADR 8" and adr/0008-… are files of docs/adr
  runbooks         an alert or page that is named has its page in docs/runbooks
  reasons          "503 `LogFull`" and problems/LogFull are reasons of core/reason.h, and rows of docs/problems.md
  tests            what these two documents name as a test is one: Suite.Case, test_module.Class.test_case, make target
  links            relative links and paths in *.md lead somewhere
  rooms            core includes no wing, the wings not each other, no circle between folders; the picture is that of the includes
"""

import functools
import pathlib
import re
import subprocess
import sys

WINGS = ("core", "operator", "sidecar")
TEXT = {".h", ".cc", ".lua", ".sql", ".py", ".md", ".sh", ".txt", ".yaml", ".yml", ".json", ".cmake", ".tpl", ".html"}
NUMBERS = r"\d+(?:(?:, | and |[–-])\d+)*"
IDS = r"[A-G]\d*(?:(?:, | and |[–-])[A-G]\d*)*"
PICTURE = ("<!-- rooms: drawn by scripts/docs_check.py --write -->", "<!-- end of rooms -->")
ITSELF = {"scripts/docs_check.py", "tests/unit/scripts/test_docs_check.py"}


class Tree:
    """The project's files as text, read once."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = self._files()
        self.folders = {str(p) for f in self.files for p in pathlib.PurePosixPath(f).parents}
        self.faults = []

    def _files(self):
        if (self.root / ".git").exists():
            run = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=self.root, capture_output=True, check=True)
            return {f for f in run.stdout.decode().split("\0") if f and (self.root / f).exists()}
        names = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        return {str(p) for p in names if p.parts[0] not in ("build", ".cache") and "__pycache__" not in p.parts}

    @functools.cache
    def text(self, name):
        return (self.root / name).read_text(errors="replace") if name in self.files else ""

    def texts(self):
        """Every text that people wrote: no golden files, no corpora."""
        for name in sorted(self.files):
            if pathlib.PurePosixPath(name).suffix in TEXT and not name.startswith(("tests/golden/", "tests/fuzz/corpus")) and name not in ITSELF:
                if not (self.root / name).is_symlink():
                    yield name, self.text(name)

    def has(self, path):
        path = path.rstrip("/")
        return path in self.files or path in self.folders or (self.root / path).is_symlink()

    def fault(self, name, at, what):
        line = self.text(name).count("\n", 0, at) + 1
        self.faults.append(f"{name}:{line}: {what}")


def each_of(cited, pattern):
    """"A2, B2–B4 and G" → A2 B2 B3 B4 G."""
    for part in re.split(r", | and ", cited):
        ends = re.split("[–-]", part)
        if len(ends) == 2 and ends[0][:-1].rstrip("0123456789") == ends[1][:-1].rstrip("0123456789"):
            head = re.match(r"[A-G]?", ends[0])[0]
            yield from (f"{head}{n}" for n in range(int(ends[0][len(head):]), int(ends[1][len(head):]) + 1))
        else:
            yield from (e for e in ends if re.fullmatch(pattern, e))


# --- What there is -----------------------------------------------------------------------------------------------

def rules_of(tree):
    """Number → (offset, paragraph) of docs/PROTOCOL.md."""
    text = tree.text("docs/PROTOCOL.md")
    return {m[1]: (m.start(), m[0]) for m in re.finditer(r"^\*\*(\d+)\. .*?(?=\n\n|\Z)", text, re.M | re.S)}


def requirements_of(tree):
    """Id → (offset, row) of docs/REQUIREMENTS.md."""
    text = tree.text("docs/REQUIREMENTS.md")
    return {m[1]: (m.start(), m[0]) for m in re.finditer(r"^\| ([A-G]\d*) \|.*$", text, re.M)}


def tests_of(tree):
    """Every name by which a test can be called, and their beginnings."""
    names = set()
    for name in tree.files:
        if name.startswith("tests/") and name.endswith(".cc"):
            for suite, case in re.findall(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", tree.text(name), re.M):
                names |= {f"{suite}.{case}", f"{suite}.*"}
        elif name.startswith("tests/") and pathlib.PurePosixPath(name).name.startswith("test_") and name.endswith(".py"):
            module = pathlib.PurePosixPath(name).stem
            names.add(module)
            of_class = None
            for line in tree.text(name).splitlines():
                if found := re.match(r"class (\w+)", line):
                    of_class = found[1]
                    names.add(f"{module}.{of_class}")
                elif of_class and (found := re.match(r"    def (test_\w+)", line)):
                    names.add(f"{module}.{of_class}.{found[1]}")
    return names | {f"make {t}" for t in re.findall(r"^([a-z][\w-]*):", tree.text("Makefile"), re.M)}


def is_test(word):
    return re.fullmatch(r"[A-Z]\w+\.(?:[A-Z]\w+|\*)|test_\w+(?:\.\w+){0,2}|make [\w-]+", word) is not None


# --- What is held ------------------------------------------------------------------------------------------------

def check_citations(tree):
    rules, requirements = rules_of(tree), requirements_of(tree)
    decisions = {int(m[1]) for f in tree.files if (m := re.match(r"docs/adr/(\d{4})-", f))}
    pages = {m[1] for f in tree.files if (m := re.match(r"docs/runbooks/([\w-]+)\.md$", f))}
    reasons = set(re.findall(r'"(\w+)"', tree.text("core/reason.h")))
    listed = set(re.findall(r"^\| `(\w+)` \|", tree.text("docs/problems.md"), re.M))
    for reason in sorted(reasons ^ listed):
        tree.faults.append(f"{'docs/problems.md' if reason in reasons else 'core/reason.h'}:1: the reason {reason} is only in the other list")
    for name, text in tree.texts():
        for m in re.finditer(rf"\b[Rr]ules? ({NUMBERS})", text):
            for number in each_of(m[1], r"\d+"):
                if number not in rules:
                    tree.fault(name, m.start(), f"there is no rule {number} in docs/PROTOCOL.md")
        for m in re.finditer(rf"\b(?:SPEC|[Rr]equirements?) ({IDS})\b", text):
            for one in each_of(m[1], r"[A-G]\d*"):
                if one not in requirements:
                    tree.fault(name, m.start(), f"there is no requirement {one} in docs/REQUIREMENTS.md")
        for m in re.finditer(r"\bADR (\d+)", text):
            if int(m[1]) not in decisions:
                tree.fault(name, m.start(), f"there is no decision {m[1]} in docs/adr")
        for m in re.finditer(r"runbooks/(Tallygate\w+)", text):
            if m[1] not in pages:
                tree.fault(name, m.start(), f"there is no page docs/runbooks/{m[1]}.md")
        for m in re.finditer(r"(?:tallygate\.dev/problems/|\b[45]\d\d `)([A-Z][A-Za-z]+)", text):
            if m[1] not in reasons:
                tree.fault(name, m.start(), f"{m[1]} is no reason of core/reason.h")


def check_rows(tree):
    """Every rule and requirement says where it lives and what shows it."""
    tests = tests_of(tree)
    for document, rows, word in (("docs/PROTOCOL.md", rules_of(tree), "rule"), ("docs/REQUIREMENTS.md", requirements_of(tree), "requirement")):
        if document in tree.files and not rows:
            tree.faults.append(f"{document}:1: it lists no {word}")
        for key, (at, row) in rows.items():
            quoted = re.findall(r"`([^`]+)`", row)
            if not any(is_test(q) for q in quoted) and "not yet" not in row.lower() and "not in force" not in row.lower():
                tree.fault(document, at, f"{word} {key} names no test that shows it; write one, or \"not yet\"")
        for m in re.finditer(r"`([^`\n]+)`", tree.text(document)):
            if is_test(m[1]) and m[1] not in tests:
                tree.fault(document, m.start(), f"there is no test {m[1]}")
    numbers = sorted(int(n) for n in rules_of(tree))
    if numbers != list(range(1, len(numbers) + 1)):
        tree.faults.append("docs/PROTOCOL.md:1: the rules are not numbered from 1 on without a gap")


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def check_links(tree):
    for name in sorted(f for f in tree.files if f.endswith(".md")):
        folder, text = pathlib.PurePosixPath(name).parent, tree.text(name)
        plain = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.M | re.S)
        for m in re.finditer(r"\]\(([^)\s]+)\)", plain):
            target, _, anchor = m[1].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = name if not target else str(pathlib.PurePosixPath(*_resolved(folder / target)))
            if not tree.has(path):
                tree.fault(name, m.start(), f"the link {m[1]} leads nowhere")
            elif anchor and path.endswith(".md") and anchor not in anchors(tree.text(path)):
                tree.fault(name, m.start(), f"there is no heading {anchor} in {path}")
        for m in re.finditer(r"`((?:core|operator|sidecar|tests|docs|migrations|examples|charts|scripts|crds|openapi)/[\w./-]*)`", plain):
            path = m[1]  # or how its name begins; capitals stand for something else
            if not re.search("[A-Z]{4}", path.removesuffix(".md")) and not any(f.startswith(path) for f in tree.files):
                tree.fault(name, m.start(), f"there is no {path}")


def _resolved(path):
    parts = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return parts or ["."]


# --- Rooms -------------------------------------------------------------------------------------------------------

def room_of(path):
    """A folder below a wing. What lies in core/ itself, and core/io, is one room: it is built as one library. So is the log of
    core/telemetry, for core/http writes it, and the rest of telemetry serves by core/http."""
    parts = path.split("/")
    if path.startswith(("core/telemetry/log", "core/telemetry/json_text")):
        return "core/telemetry/log"
    if parts[0] == "core" and (len(parts) == 2 or parts[1] == "io"):
        return "core"
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def arrows_of(tree):
    """Room → rooms whose headers it includes."""
    arrows, first = {}, {}
    for name in sorted(tree.files):
        if name.split("/")[0] not in WINGS or not name.endswith((".h", ".cc")):
            continue
        here = room_of(name)
        arrows.setdefault(here, set())
        for m in re.finditer(r'^#include "((?:core|operator|sidecar|tests)/[^"]+)"', tree.text(name), re.M):
            there = room_of(m[1])
            if there != here:
                arrows[here].add(there)
                first.setdefault((here, there), (name, m.start()))
    return arrows, first


def circle_in(arrows):
    """A list of rooms that leads back to its first, or nothing."""
    done, path = set(), []

    def visit(room):
        if room in path:
            return path[path.index(room):] + [room]
        if room in done:
            return None
        path.append(room)
        for there in sorted(arrows.get(room, ())):
            if found := visit(there):
                return found
        path.pop()
        done.add(room)
        return None

    return next((found for room in sorted(arrows) if (found := visit(room))), None)


def check_rooms(tree):
    arrows, first = arrows_of(tree)
    for (here, there), (name, at) in sorted(first.items()):
        wing, other = here.split("/")[0], there.split("/")[0]
        if other != wing and other != "core":
            tree.fault(name, at, f"{here} must not include {there}: arrows point inward, to core, and never from wing to wing")
    circle = circle_in(arrows)
    if circle:
        name, at = first[(circle[0], circle[1])]
        tree.fault(name, at, "a circle of rooms: " + " → ".join(circle))
        return
    text = tree.text("docs/ARCHITECTURE.md")
    begin, end = text.find(PICTURE[0]), text.find(PICTURE[1])
    if begin < 0 or end < begin:
        tree.faults.append(f"docs/ARCHITECTURE.md:1: it has no place for the picture of rooms ({PICTURE[0]} … {PICTURE[1]})")
    elif text[begin:end] != picture(arrows):
        tree.fault("docs/ARCHITECTURE.md", begin, "the picture of rooms is not that of the includes: python3 scripts/docs_check.py --write")


def reduced(arrows):
    """Without arrows that others lead to as well; arrows must have no circle."""
    @functools.cache
    def reached(room):
        return frozenset().union(*({there} | reached(there) for there in arrows.get(room, ())))

    return {room: {t for t in to if not any(t in reached(other) for other in to)} for room, to in arrows.items()}


def picture(arrows):
    """Each wing's rooms from the outermost inward; a room with what it includes itself (and not by way of another)."""
    few = reduced(arrows)

    @functools.cache
    def depth(room):
        return 1 + max((depth(t) for t in arrows.get(room, ()) if t.split("/")[0] == room.split("/")[0]), default=-1)

    width = max(len(room) for room in arrows) + 1
    lines = [PICTURE[0], "", "```"]
    for wing in ("sidecar", "operator", "core"):
        rooms = sorted((r for r in arrows if r.split("/")[0] == wing), key=lambda r: (-depth(r), r))
        for room in rooms:
            inside = sorted((t for t in few[room] if t.split("/")[0] == wing), key=lambda t: (-depth(t), t))
            outside = sorted(t for t in few[room] if t.split("/")[0] != wing)
            to = [t.removeprefix(f"{wing}/") for t in inside] + outside
            lines.append(f"{room:<{width}}→ {' '.join(to)}".rstrip() if to else room)
        lines.append("")
    lines[-1:] = ["```", "", ""]
    return "\n".join(lines)


def write(tree):
    path = tree.root / "docs/ARCHITECTURE.md"
    text = path.read_text()
    begin, end = text.index(PICTURE[0]), text.index(PICTURE[1])
    path.write_text(text[:begin] + picture(arrows_of(tree)[0]) + text[end:])


def check(root):
    tree = Tree(root)
    for part in (check_citations, check_rows, check_links, check_rooms):
        part(tree)
    return sorted(set(tree.faults))


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    if sys.argv[1:] == ["--write"]:
        write(Tree(root))
    elif sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 64
    faults = check(root)
    print("\n".join(faults) if faults else "docs_check: rules, requirements, decisions, reasons, tests, links and rooms are as they are told")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
