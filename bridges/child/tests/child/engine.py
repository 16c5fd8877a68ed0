"""An engine to be tried on: answers, and misbehaves when it is asked to."""

import json
import os
import sys
import time

held = []


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def answer(number, result):
    say({"jsonrpc": "2.0", "id": number, "result": result})


for line in sys.stdin:
    question = json.loads(line)
    number, method, params = question["id"], question["method"], question["params"]
    if method == "echo":
        answer(number, params)
    elif method == "hold":
        held.append((number, params))
    elif method == "release":
        for older, value in reversed(held):
            answer(older, value)
        held.clear()
        answer(number, None)
    elif method == "refuse":
        say({"jsonrpc": "2.0", "id": number, "error": {"code": -7, "message": params[0]}})
    elif method == "exit":
        os._exit(params[0])
    elif method == "kill":
        os.kill(os.getpid(), 9)
    elif method == "sleep":
        time.sleep(params[0])
        answer(number, None)
    elif method == "close":
        os.close(1)
        time.sleep(60)
    elif method == "raw":
        sys.stdout.write(params[0])
        sys.stdout.flush()
        answer(number, None)
    elif method == "huge":
        sys.stdout.write("x" * params[0] + "\n")
        sys.stdout.flush()
        answer(number, None)
    elif method == "flood":
        for count in range(params[0]):
            say({"jsonrpc": "2.0", "method": "drop", "params": {"number": count}})
        answer(number, None)
    elif method == "complain":
        for _ in range(params[0]):
            sys.stderr.write("ERROR " + params[1] + "\n")
        sys.stderr.flush()
        answer(number, None)
    elif method == "environment":
        answer(number, dict(os.environ))
    elif method == "break_off":
        sys.stdout.write('{"jsonrpc": "2.0", "id": %d, "res' % number)
        sys.stdout.flush()
        os._exit(0)
