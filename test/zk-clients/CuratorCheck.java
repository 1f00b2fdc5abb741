import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.ArrayList;
import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;

/** Runs Curator's InterProcessMutex against a ZooKeeper server: CuratorCheck HOST:PORT. */
public class CuratorCheck {
    static final int CLIENTS = 4, TURNS = 25, WAIT_SECONDS = 60;

    static CuratorFramework client(String hosts) throws Exception {
        CuratorFramework c = CuratorFrameworkFactory.newClient(hosts, 10_000, 10_000, new RetryOneTime(100));
        c.start();
        if (!c.blockUntilConnected(20, TimeUnit.SECONDS)) {
            throw new AssertionError("no connection to " + hosts);
        }
        return c;
    }

    static void expect(Object got, Object want, String what) {
        if (!got.equals(want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
        System.out.println("ok  curator " + what);
    }

    public static void main(String[] args) throws Exception {
        String base = "/curator-" + UUID.randomUUID();
        List<CuratorFramework> clients = new ArrayList<>();
        ExecutorService threads = Executors.newCachedThreadPool();
        try {
            for (int i = 0; i < CLIENTS; i++) {
                clients.add(client(args[0]));
            }
            mutualExclusion(clients, threads, base + "/mutex");
            heldLockIsNotGiven(clients.get(0), clients.get(1), base + "/held");
            containerParents(clients.get(0), base + "/parents");
            clients.get(0).delete().deletingChildrenIfNeeded().forPath(base);
            expect(clients.get(1).checkExists().forPath(base) == null, true, "delete with children");
        } finally {
            threads.shutdownNow();
            for (CuratorFramework c : clients) {
                c.close();
            }
        }
        System.exit(0);
    }

    static void mutualExclusion(List<CuratorFramework> clients, ExecutorService threads, String path) throws Exception {
        AtomicInteger inside = new AtomicInteger(), most = new AtomicInteger(), turns = new AtomicInteger();
        List<Future<?>> ends = new ArrayList<>();
        for (CuratorFramework c : clients) {
            InterProcessMutex mutex = new InterProcessMutex(c, path);
            ends.add(threads.submit(() -> {
                for (int i = 0; i < TURNS; i++) {
                    if (!mutex.acquire(WAIT_SECONDS, TimeUnit.SECONDS)) {
                        throw new AssertionError("no turn within " + WAIT_SECONDS + " s");
                    }
                    mutex.acquire(); // it may be held twice by one thread
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    turns.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> end : ends) {
            end.get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
        expect(most.get(), 1, "InterProcessMutex: one at a time");
        expect(turns.get(), CLIENTS * TURNS, "InterProcessMutex: every turn");
    }

    static void heldLockIsNotGiven(CuratorFramework a, CuratorFramework b, String path) throws Exception {
        InterProcessMutex held = new InterProcessMutex(a, path), other = new InterProcessMutex(b, path);
        held.acquire();
        expect(other.acquire(200, TimeUnit.MILLISECONDS), false, "InterProcessMutex: held");
        expect(held.getParticipantNodes().size(), 1, "InterProcessMutex: the other gave up its place");
        held.release();
        expect(other.acquire(20, TimeUnit.SECONDS), true, "InterProcessMutex: released");
        other.release();
    }

    static void containerParents(CuratorFramework c, String path) throws Exception {
        String made = c.create().creatingParentContainersIfNeeded().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
            .forPath(path + "/child-", "data".getBytes());
        expect(new String(c.getData().forPath(made)), "data", "ephemeral sequential below a container");
    }
}
