"""kazoo_mutex.py SERVER FILE NUMBER: a client of bench-turns.

It takes turns at FILE under kazoo's Lock, and appends three lines and syncs them in each.
What it is told on its standard input, and what it says: test/bench-turns/tally.
"""
import datetime
import json
import os
import platform
import sys
import threading
import time

import kazoo.version
from kazoo.client import KazooClient

MOST_SAMPLES = 10_000


class Tally:
    def __init__(self):
        self.mutex, self.going = threading.Lock(), threading.Event()
        self.extra = 0.0  # what a sync takes longer, in seconds
        self.turns, self.waits, self.syncs = 0, [], []

    def take(self):
        with self.mutex:
            said = {"turns": self.turns, "waits": self.waits[:MOST_SAMPLES], "syncs": self.syncs[:MOST_SAMPLES]}
            self.turns, self.waits, self.syncs = 0, [], []
        return said

    def obey(self):
        for order in sys.stdin:
            what, *how = order.split()
            if what == "go":
                self.going.set()
            elif what == "sync":
                if not how[0].endswith("us"):
                    raise SystemExit(f"what is {order!r}?")
                self.extra = float(how[0][:-2]) / 1e6
            elif what == "begin":
                self.take()
            elif what == "end":
                print(json.dumps(self.take()), flush=True)
        os._exit(0)


def lines(client, turn):
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return "".join(f"{at}  client-{client}  turn {turn}  line {line} of 3\n" for line in (1, 2, 3)).encode()


def main():
    server, path, number = sys.argv[1:]
    tally = Tally()
    threading.Thread(target=tally.obey, daemon=True).start()
    client = KazooClient(hosts=server, timeout=10.0)
    client.start()
    lock = client.Lock("/lock", number)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    print("here", flush=True)
    tally.going.wait()
    turn = 0
    while True:
        turn += 1
        asked = time.monotonic()
        with lock:
            os.write(file, lines(number, turn))
            began = time.monotonic()
            os.fdatasync(file)
            if tally.extra:
                time.sleep(tally.extra)
            done = time.monotonic()
        with tally.mutex:
            tally.turns += 1
            tally.waits.append((done - asked) * 1e3)
            tally.syncs.append((done - began) * 1e3)
        if turn == 1:
            print(f"ready kazoo {kazoo.version.__version__}, Python {platform.python_version()}", flush=True)


main()
