"""How the demos speak: steps, commands, answers, ✓ and ✗. Colours only on a terminal, and not where NO_COLOR is set."""

import contextlib
import json
import os
import shlex
import sys
import time

SHOWN_HEADERS = ("ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after", "x-request-id",
                 "www-authenticate")
STATUS_TEXT = {200: "OK", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 429: "Too Many Requests", 500: "Internal Server Error",
               502: "Bad Gateway", 503: "Service Unavailable"}


class Paper:
    def __init__(self, stream=sys.stdout):
        self._stream = stream
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ
        self._step = 0
        self.checks = 0
        self.failures = []

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def line(self, text=""):
        print(text, file=self._stream, flush=True)

    def step(self, title, *sentences):
        self._step += 1
        self.line()
        self.line(self.paint("1;36", f"{self._step}  {title}"))
        for sentence in sentences:
            self.line(f"   {sentence}")

    def command(self, text):
        self.line("   " + self.paint("33", f"$ {text}"))

    def answer(self, response, body=False, headers=True):
        code = "32" if response.status < 400 else "35"
        self.line("   " + self.paint(code, f"← {response.status} {STATUS_TEXT.get(response.status, '')}".rstrip()))
        for name, value in response.headers.items() if headers else ():
            if name in SHOWN_HEADERS or name.startswith("x-tallygate-"):
                self.line(self.paint("2", f"     {name}: {value}"))
        if body:
            try:
                text = json.dumps(json.loads(response.body), indent=2)
            except ValueError:
                text = response.body.decode(errors="replace")[:500]
            for row in text.splitlines():
                self.line(self.paint("2", f"     {row}"))

    def output(self, text):
        """What a command printed."""
        for row in text.strip("\n").splitlines():
            self.line(self.paint("2", f"     {row}".rstrip()))

    @contextlib.contextmanager
    def doing(self, what):
        """Something that takes a while: what it is at once, and how long it took at its end."""
        print(f"   {what} … ", end="", file=self._stream, flush=True)
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.line()
            raise
        self.line(self.paint("2", f"{time.monotonic() - began:.0f} s"))

    def note(self, text):
        self.line("   " + self.paint("2", text))

    def check(self, told, ok, seen=""):
        """One promise of the story: ✓ as told, ✗ otherwise with what was seen."""
        self.checks += 1
        if ok:
            self.line("   " + self.paint("1;32", "✓") + f" {told}")
        else:
            self.failures.append(f"step {self._step}: {told}" + (f" (seen: {seen})" if seen != "" else ""))
            self.line("   " + self.paint("1;31", "✗") + f" {told}" + (f"  — seen: {seen}" if seen != "" else ""))
        return ok

    def verdict(self, logs=None):
        """At the end of a story. `logs`: where to look if something was not as told."""
        self.line()
        if not self.failures:
            self.line(self.paint("1;32", f"All {self.checks} as told."))
            return
        self.line(self.paint("1;31", f"{len(self.failures)} of {self.checks} were not as told:"))
        for failure in self.failures:
            self.line(f"   ✗ {failure}")
        if logs:
            self.line(f"   logs: {logs}")

    def to_try(self, rows):
        """Commands for people who stay: (what it is, the command)."""
        self.line()
        self.line(self.paint("1;36", "Yours to try") + "   (Ctrl-C ends the demo)")
        width = max(len(about) for about, _ in rows) + 1
        for about, command in rows:
            self.line(f"   {about:<{width}}{self.paint('33', command)}")

    def table(self, head, rows):
        cells = [[str(cell) for cell in row] for row in [head, *rows]]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        for index, row in enumerate(cells):
            text = "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                             for column, (cell, width) in enumerate(zip(row, widths)))
            self.line("     " + (self.paint("1", text) if index == 0 else text))


def curl(address, path, headers=None, method="GET"):
    """The command that a person could type for the same request."""
    parts = ["curl", "-i"]
    if method != "GET":
        parts += ["-X", method]
    parts.append(f"http://{address}{path}")
    for name, value in (headers or {}).items():
        parts += ["-H", f"{name}: {value}"]
    return shlex.join(parts)
