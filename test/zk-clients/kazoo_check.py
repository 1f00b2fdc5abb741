#!/usr/bin/python3
"""Runs kazoo's recipes against a ZooKeeper server: kazoo_check.py HOST:PORT.

Every check works below one path of its own, prints a line, and ends the
program with a traceback if what it sees is not what ZooKeeper promises.
"""
import datetime
import sys
import threading
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError, RolledBackError
from kazoo.protocol.states import EventType
from kazoo.security import make_digest_acl

WAIT = 20  # seconds that anything may take


def client(hosts, **more):
    c = KazooClient(hosts=hosts, timeout=10, **more)
    c.start(timeout=WAIT)
    return c


def expect(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def await_event(event, what):
    if not event.wait(WAIT):
        raise AssertionError(f"{what}: nothing within {WAIT} s")


def raises(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call.__name__}{args}: no {error.__name__}")


def together(*calls):
    """Runs the calls in threads of their own; the first error is raised here."""
    errors = []

    def run(call):
        try:
            call()
        except Exception as e:  # pylint: disable=broad-except
            errors.append(e)

    threads = [threading.Thread(target=run, args=(c,), daemon=True) for c in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join(WAIT)
        if t.is_alive():
            raise AssertionError("a thread does not end")
    if errors:
        raise errors[0]


def check_basics(a, b, base):
    a.create(base + "/basics", b"one", makepath=True)
    raises(NodeExistsError, a.create, base + "/basics", b"")
    value, stat = b.get(base + "/basics")
    expect((value, stat.version), (b"one", 0), "get")
    raises(BadVersionError, a.set, base + "/basics", b"x", version=7)
    expect(a.set(base + "/basics", b"two").version, 1, "set")
    path, stat = a.create(base + "/basics/s-", b"", sequence=True, include_data=True)
    expect((path, stat.dataLength), (base + "/basics/s-0000000000", 0), "sequence")
    expect(b.get_children(base + "/basics"), ["s-0000000000"], "children")
    raises(NoNodeError, b.get, base + "/nobody")
    a.sync(base)
    a.delete(base + "/basics", recursive=True)
    expect(b.exists(base + "/basics"), None, "after the delete")


def check_transaction(a, _, base):
    t = a.transaction()
    t.create(base + "/t", b"x")
    t.check(base, version=0)
    t.set_data(base + "/t", b"y")
    expect(t.commit()[0], base + "/t", "transaction")
    t = a.transaction()
    t.delete(base + "/t")
    t.create(base + "/t/no/parent", b"")
    results = t.commit()
    expect([type(r) for r in results], [RolledBackError, NoNodeError], "a failed transaction")
    expect(a.get(base + "/t")[0], b"y", "after it")


def check_ephemeral_and_watch(a, b, base):
    hosts = ",".join(f"{h}:{p}" for h, p in a.hosts)
    gone, created = threading.Event(), threading.Event()

    def on_event(event):
        (gone if event.type == EventType.DELETED else created).set()

    b.exists(base + "/e", watch=on_event)
    c = client(hosts)
    c.create(base + "/e", b"", ephemeral=True)
    await_event(created, "a watch on a node to come")
    b.get(base + "/e", watch=on_event)
    c.stop()
    c.close()
    await_event(gone, "an ephemeral node of a client that left")


def check_data_and_children_watch(a, b, base):
    values, lists, done = [], [], threading.Event()
    a.create(base + "/w", b"0")

    @b.DataWatch(base + "/w")
    def _data(value, _stat):
        values.append(value)
        if value == b"3":
            done.set()

    @b.ChildrenWatch(base + "/w")
    def _children(names):
        lists.append(sorted(names))
        if len(names) == 2:
            full.set()

    full = threading.Event()
    for i in (b"1", b"2", b"3"):
        a.set(base + "/w", i)
    for name in ("/w/x", "/w/y"):
        a.create(base + name, b"")
    await_event(done, "DataWatch")
    await_event(full, "ChildrenWatch")
    expect(values[0], b"0", "DataWatch's first value")
    expect(lists[-1], ["x", "y"], "ChildrenWatch's last list")


def check_lock(a, b, base):
    inside, most, turns = [], [], []

    def work(c, name):
        for _ in range(10):
            with c.Lock(base + "/lock", name):
                inside.append(name)
                most.append(len(inside))
                turns.append(name)
                inside.remove(name)

    together(lambda: work(a, "a"), lambda: work(b, "b"))
    expect((max(most), len(turns)), (1, 20), "Lock")
    with a.Lock(base + "/lock", "a"):
        expect(b.Lock(base + "/lock", "b").acquire(blocking=False), False, "a lock that is held")
        expect(b.Lock(base + "/lock").contenders(), ["a"], "contenders")
    with a.ReadLock(base + "/rw", "r1"), b.ReadLock(base + "/rw", "r2"):
        expect(a.WriteLock(base + "/rw", "w").acquire(blocking=False), False, "WriteLock beside readers")
    with a.Semaphore(base + "/sem", max_leases=2), b.Semaphore(base + "/sem", max_leases=2):
        expect(b.Semaphore(base + "/sem", max_leases=2).acquire(blocking=False), False, "Semaphore")


def check_election(a, b, base):
    led = []

    def stand(c, name):
        election = c.Election(base + "/election", name)
        election.run(lambda: led.append(name))

    together(lambda: stand(a, "a"), lambda: stand(b, "b"))
    expect(sorted(led), ["a", "b"], "Election")


def check_queue(a, b, base):
    queue = a.Queue(base + "/queue")
    for item in (b"1", b"2", b"3"):
        queue.put(item)
    queue.put(b"0", priority=1)
    taker = b.Queue(base + "/queue")
    expect([taker.get() for _ in range(4)], [b"0", b"1", b"2", b"3"], "Queue")
    locking = a.LockingQueue(base + "/locking")
    locking.put_all([b"x", b"y"])
    taker = b.LockingQueue(base + "/locking")
    expect(taker.get(WAIT), b"x", "LockingQueue")
    expect(taker.consume(), True, "LockingQueue consume")
    expect(len(locking), 1, "LockingQueue length")


def check_barrier(a, b, base):
    barrier = a.Barrier(base + "/barrier")
    barrier.create()
    expect(b.Barrier(base + "/barrier").wait(0.2), False, "Barrier while it is up")
    together(lambda: expect(b.Barrier(base + "/barrier").wait(WAIT), True, "Barrier"), barrier.remove)
    met = []

    def meet(c, name):
        double = c.DoubleBarrier(base + "/double", 2, identifier=name)
        double.enter()
        met.append(name)
        double.leave()

    together(lambda: meet(a, "a"), lambda: meet(b, "b"))
    expect(sorted(met), ["a", "b"], "DoubleBarrier")


def check_counter(a, b, base):
    def count(c):
        counter = c.Counter(base + "/counter")
        for _ in range(25):
            counter += 1

    together(lambda: count(a), lambda: count(b))
    expect(a.Counter(base + "/counter").value, 50, "Counter")


def check_party(a, b, base):
    one, two = a.Party(base + "/party", "one"), b.ShallowParty(base + "/shallow", "two")
    one.join()
    two.join()
    expect((list(b.Party(base + "/party")), list(a.ShallowParty(base + "/shallow"))), (["one"], ["two"]), "Party")
    one.leave()
    expect(list(b.Party(base + "/party")), [], "Party after leaving")


def check_lease(a, b, base):
    minute = datetime.timedelta(minutes=1)
    expect(bool(a.NonBlockingLease(base + "/lease", minute, "a")), True, "Lease")
    expect(bool(b.NonBlockingLease(base + "/lease", minute, "b")), False, "Lease that is held")


def check_acl(a, b, base):
    hosts = ",".join(f"{h}:{p}" for h, p in a.hosts)
    owner = client(hosts, auth_data=[("digest", "owner:secret")])
    owner.create(base + "/mine", b"", acl=[make_digest_acl("owner", "secret", all=True)])
    raises(NoAuthError, b.get, base + "/mine")
    owner.set(base + "/mine", b"x")
    expect(len(owner.get_acls(base + "/mine")[0]), 1, "ACLs")
    owner.delete(base + "/mine")
    owner.stop()
    owner.close()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    base = "/kazoo-" + uuid.uuid4().hex
    a, b = client(sys.argv[1]), client(sys.argv[1])
    try:
        expect(a.server_version()[:2] >= (3, 5), True, "server_version")
        a.create(base, b"")
        for name, check in list(globals().items()):
            if name.startswith("check_"):
                check(a, b, base)
                print("ok  kazoo " + name[len("check_"):].replace("_", " "))
        a.delete(base, recursive=True)
    finally:
        for c in (a, b):
            c.stop()
            c.close()


if __name__ == "__main__":
    main()
