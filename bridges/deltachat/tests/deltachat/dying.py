"""The real engine, which is killed at its start. Its path is the argument.

`deaths.json` beside its folder says at which question each of its lives ends: the first one of that method, `before` it is
asked, or `after` it was answered, which nobody hears. What comes after the last death lives. `died.txt` says what became
true of it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

FOLDER = Path(os.environ["DC_ACCOUNTS_PATH"]).parent
LIVES = FOLDER / "lives.txt"
DIES_WITH_US = 1

with LIVES.open("a") as lives:
    lives.write("one\n")
life = len(LIVES.read_text().splitlines()) - 1
deaths = json.loads((FOLDER / "deaths.json").read_text())
method, when = deaths[life] if life < len(deaths) else (None, None)

libc = ctypes.CDLL(None)
engine = subprocess.Popen(
    [sys.argv[1]],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    preexec_fn=lambda: libc.prctl(DIES_WITH_US, signal.SIGKILL),
)
last = None


def die():
    engine.kill()
    engine.wait()
    with (FOLDER / "died.txt").open("a") as died:
        died.write(f"{method} {when}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def answers():
    for line in engine.stdout:
        if when == "after" and last is not None and json.loads(line).get("id") == last:
            die()
        os.write(1, line)


if method == "main":
    die()
threading.Thread(target=answers, daemon=True).start()
for line in sys.stdin.buffer:
    question = json.loads(line)
    if question["method"] == method and last is None:
        if when == "before":
            die()
        last = question["id"]
    engine.stdin.write(line)
    engine.stdin.flush()
