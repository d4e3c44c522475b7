"""A process whose wall clock is wrong, by libfaketime (Debian's package `faketime`); the monotonic clock stays right.

    clock = WrongClock(folder, "+3600")     # seconds ahead, or "-90"
    stack.start_operator(env=clock.env())
    clock.set("+0")                         # a step, seen at once
"""

import glob
import pathlib

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
MISSING = "libfaketime is not installed: apt-get install faketime (scripts/setup.sh does)"


class WrongClock:
    def __init__(self, folder, offset, name="clock"):
        self._file = pathlib.Path(folder) / name
        self.set(offset)

    def set(self, offset):
        partial = self._file.with_suffix(".partial")
        partial.write_text(offset + "\n")
        partial.rename(self._file)

    def env(self):
        return {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1"}
