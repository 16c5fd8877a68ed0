"""Holds one server on a leash: it dies when whoever holds our stdin dies.

Reads `start`, `term` and `kill` from stdin, one a line, and answers `started PID` and `exited CODE`.
At the end of stdin, however that came about, the child is killed and the directory given with
--remove is deleted. With --group a kill takes the processes that the child started along.
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_the_leash():
    # Linux alone knows this; elsewhere the end of stdin has to do.
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


class Leash:
    def __init__(self, options):
        self.options = options
        self.child = None
        self.waiter = None
        self.write_lock = threading.Lock()

    def say(self, line):
        with self.write_lock:
            try:
                os.write(1, (line + "\n").encode())
            except OSError:
                pass

    def start(self):
        if self.child is not None and self.child.poll() is None:
            self.say(f"started {self.child.pid}")
            return
        if self.waiter is not None:
            self.waiter.join()
        try:
            with open(self.options.log, "ab") as log:
                self.child = subprocess.Popen(
                    self.options.command,
                    cwd=self.options.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_the_leash,
                )
        except OSError as error:
            self.say(f"failed {error}")
            return
        self.say(f"started {self.child.pid}")
        self.waiter = threading.Thread(target=self.report_exit, args=(self.child,), daemon=True)
        self.waiter.start()

    def report_exit(self, child):
        self.say(f"exited {child.wait()}")

    def send(self, number):
        if self.child is not None and self.child.poll() is None:
            if self.options.group and number == signal.SIGKILL:
                # It leads a session of its own, and was not reaped yet: the group is nobody else's.
                os.killpg(self.child.pid, number)
            else:
                self.child.send_signal(number)

    def end(self):
        self.send(signal.SIGKILL)
        if self.child is not None:
            self.child.wait()
        if self.options.remove:
            shutil.rmtree(self.options.remove, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--cwd")
    parser.add_argument("--remove")
    parser.add_argument("--group", action="store_true")
    parser.add_argument("command", nargs="+")
    leash = Leash(parser.parse_args())
    actions = {
        "start": leash.start,
        "term": lambda: leash.send(signal.SIGTERM),
        "kill": lambda: leash.send(signal.SIGKILL),
    }
    try:
        for line in iter(sys.stdin.readline, ""):
            action = actions.get(line.strip())
            if action is not None:
                action()
    finally:
        leash.end()


if __name__ == "__main__":
    main()
