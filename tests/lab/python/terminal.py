"""Runs a command at a terminal of 80 columns, and ends as it does.

What the terminal shows goes to our standard output as it is. What comes to our standard input is typed. When we die, the
terminal is gone, and the command is told so.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

ROWS, COLUMNS = 24, 80


def be_the_command(command):
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    # Whoever began us in the background may have had this ignored, which a terminal's own shell does not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(command[0], command)


def show(text):
    while text:
        text = text[os.write(1, text) :]


def main():
    pid, terminal = pty.fork()
    if pid == 0:
        be_the_command(sys.argv[1:])
    looked_at = [terminal, 0]
    while True:
        ready, _, _ = select.select(looked_at, [], [])
        if 0 in ready:
            typed = os.read(0, 4096)
            if typed:
                os.write(terminal, typed)
            else:
                looked_at.remove(0)
        if terminal in ready:
            try:
                show(os.read(terminal, 65536))
            except OSError:
                # The command has closed its end.
                break
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


main()
