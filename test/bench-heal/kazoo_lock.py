"""kazoo_lock.py SERVERS LOCK FILE TIMEOUT: turns at a file under kazoo's Lock.

As an agent does: take the lock, append a line, sync it, let go, again and again. It says
"turn" when it has the lock and "written" when the line is on disk, and ends with its
standard input.
"""
import os
import sys
import threading
import time

from kazoo.client import KazooClient


def main():
    servers, lock_path, path, timeout = sys.argv[1:]
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    client = KazooClient(hosts=servers, timeout=float(timeout))
    client.start()
    lock = client.Lock(lock_path, f"pid {os.getpid()}")
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    while True:
        with lock:
            os.write(1, b"turn\n")
            os.write(file, f"{time.time()} {os.getpid()}\n".encode())
            os.fdatasync(file)
            os.write(1, b"written\n")


main()
