"""What is written about the project agrees with it, and the script that says so finds what does not."""

import pathlib
import shutil
import tempfile
import unittest

from scripts import docs_check

ROOT = pathlib.Path(__file__).resolve().parents[3]

# A small project without fault.
GOOD = {
    "Makefile": "test:\n\ttrue\n",
    "core/reason.h": '"LogFull"',
    "core/ids.h": "",
    "core/tenant/model.h": '#include "core/ids.h"\n',
    "operator/pump/pump.h": '#include "core/tenant/model.h"\n// Booked once (rule 1), ADR 1; SPEC A1.\n',
    "operator/main/main.cc": '#include "operator/pump/pump.h"\n',
    "sidecar/log/log.h": '#include "core/ids.h"\n',
    "tests/unit/log_test.cc": "TEST(Log, IsKept) {}\n",
    "tests/e2e/test_log.py": "class Log(Base):\n    def test_kept(self):\n        pass\n",
    "docs/PROTOCOL.md": "# Protocol\n\n**1. Booked once.** Where: `core/ids.h`. Shown by: `Log.IsKept`.\n\n**2. Later.** Not in force.\n\n",
    "docs/REQUIREMENTS.md": "| id | what |\n|---|---|\n| A1 | kept; `test_log.Log.test_kept`, `make test` |\n| A2 | sent; not yet |\n",
    "docs/adr/0001-once.md": "# 1. Once\n",
    "docs/runbooks/TallygateLate.md": "# Late\n",
    "docs/problems.md": "| `LogFull` | 503 |\n",
    "docs/ARCHITECTURE.md": "# Rooms\n\n" + "\n".join(docs_check.PICTURE) + "\n\n[once](adr/0001-once.md), [rooms](#rooms), 503 `LogFull`\n",
}


class ASmallProject(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-docs-"))
        self.addCleanup(shutil.rmtree, self.root)
        for name, text in GOOD.items():
            self.write(name, text)
        docs_check.write(docs_check.Tree(self.root))

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def add(self, name, text):
        self.write(name, (self.root / name).read_text() + text)

    def assert_found(self, *wanted):
        faults = docs_check.check(self.root)
        self.assertEqual(len(faults), len(wanted), faults)
        for part in wanted:
            self.assertEqual(sum(part in fault for fault in faults), 1, (part, faults))

    def test_without_a_fault(self):
        self.assert_found()

    def test_what_is_cited_and_is_not_there(self):
        self.add("operator/pump/pump.h", "// Rules 1–3 and 7; requirement B2; ADR 9; runbooks/TallygateEarly.md\n")
        self.assert_found(*(f"operator/pump/pump.h:3: there is no {what}" for what in
                            ("rule 3", "rule 7", "requirement B2", "decision 9", "page docs/runbooks/TallygateEarly.md")))

    def test_a_reason_that_is_none(self):
        self.add("docs/ARCHITECTURE.md", "\n503 `LogFul`\n")
        self.add("docs/problems.md", "| `DiskFull` | 503 |\n")
        self.assert_found("core/reason.h:1: the reason DiskFull", "LogFul is no reason")

    def test_a_row_that_nothing_shows_and_a_test_that_is_none(self):
        self.add("docs/REQUIREMENTS.md", "| A3 | read |\n| A4 | written; `Log.IsLost` |\n| A5 | `test_log.Log.test_lost` `make tests` |\n")
        self.assert_found("requirement A3 names no test", "there is no test Log.IsLost", "there is no test make tests", "there is no test test_log.Log.test_lost")

    def test_a_gap_among_the_rules(self):
        self.add("docs/PROTOCOL.md", "**4. Fourth.** Shown by: `Log.*`.\n")
        self.assert_found("not numbered")

    def test_a_broken_link_a_heading_and_a_path(self):
        self.add("docs/ARCHITECTURE.md", "\n[a](adr/0002-twice.md) [b](#doors) [c](PROTOCOL.md#protocol) [d](https://example.org/x) `core/tenants/`\n")
        self.assert_found("the link adr/0002-twice.md leads nowhere", "there is no heading doors", "there is no core/tenants/")

    def test_arrows_outward_and_sideways(self):
        self.write("core/tenant/wire.h", '#include "operator/main/parts.h"\n')
        self.write("sidecar/log/kept.h", '#include "operator/main/parts.h"\n')
        faults = docs_check.check(self.root)
        self.assertTrue(any("core/tenant must not include operator/main" in f for f in faults), faults)
        self.assertTrue(any("sidecar/log must not include operator/main" in f for f in faults), faults)

    def test_a_circle(self):
        self.write("operator/pump/back.h", '#include "operator/main/main.h"\n')
        self.assert_found("a circle of rooms: operator/main → operator/pump → operator/main")

    def test_a_picture_that_is_old(self):
        self.write("operator/jobs/jobs.h", '#include "core/ids.h"\n')
        self.assert_found("the picture of rooms is not that of the includes")
        docs_check.write(docs_check.Tree(self.root))
        self.assert_found()


class Ranges(unittest.TestCase):
    def test_are_read_as_people_write_them(self):
        self.assertEqual(list(docs_check.each_of("A2, B2–B4 and G", r"[A-G]\d*")), ["A2", "B2", "B3", "B4", "G"])
        self.assertEqual(list(docs_check.each_of("3–5", r"\d+")), ["3", "4", "5"])


class ThisProject(unittest.TestCase):
    def test_is_as_it_is_told(self):
        self.assertEqual(docs_check.check(ROOT), [])
