import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.ExponentialBackoffRetry;

/**
 * A client of bench-turns: CuratorMutex SERVER FILE NUMBER takes turns at FILE under Curator's
 * InterProcessMutex, and appends three lines and syncs them in each. What it is told on its
 * standard input, and what it says: test/bench-turns/tally.
 */
public class CuratorMutex {
    static final int MOST_SAMPLES = 10_000;
    static final DateTimeFormatter FORMAT = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSS");

    static final CountDownLatch going = new CountDownLatch(1);
    static volatile long extra; // what a sync takes longer, in ns
    static int turns;
    static List<Double> waits = new ArrayList<>(), syncs = new ArrayList<>();

    static synchronized void count(double waited, double synced) {
        turns++;
        if (waits.size() < MOST_SAMPLES) {
            waits.add(waited);
            syncs.add(synced);
        }
    }

    static synchronized String take() {
        String said = String.format(Locale.ROOT, "{\"turns\":%d,\"waits\":%s,\"syncs\":%s}", turns, waits, syncs);
        turns = 0;
        waits = new ArrayList<>();
        syncs = new ArrayList<>();
        return said;
    }

    static void obey() {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String order = in.readLine(); order != null; order = in.readLine()) {
                if (order.equals("go")) {
                    going.countDown();
                } else if (order.startsWith("sync ") && order.endsWith("us")) {
                    extra = Long.parseLong(order.substring(5, order.length() - 2)) * 1000;
                } else if (order.equals("begin")) {
                    take();
                } else if (order.equals("end")) {
                    System.out.println(take());
                } else {
                    throw new IllegalArgumentException("what is " + order + "?");
                }
            }
            Runtime.getRuntime().halt(0);
        } catch (Exception e) {
            fail(e);
        }
    }

    static void fail(Exception e) {
        e.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    static ByteBuffer lines(String client, int turn) {
        String at = ZonedDateTime.now(ZoneOffset.UTC).format(FORMAT);
        StringBuilder text = new StringBuilder();
        for (int line = 1; line <= 3; line++) {
            text.append(at).append("  client-").append(client).append("  turn ").append(turn)
                .append("  line ").append(line).append(" of 3\n");
        }
        return ByteBuffer.wrap(text.toString().getBytes(StandardCharsets.UTF_8));
    }

    /** A sleep may end early; a sync must not. */
    static void sleep(long ns) {
        long until = System.nanoTime() + ns;
        for (long left = ns; left > 0; left = until - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
    }

    /** The names of the library's file say which version it is. */
    static String version() throws Exception {
        Path jar = Paths.get(InterProcessMutex.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        String version = "of unknown version";
        try (DirectoryStream<Path> names = Files.newDirectoryStream(jar.getParent(), "curator-recipes-*.jar")) {
            for (Path name : names) {
                version = name.getFileName().toString().replaceAll("curator-recipes-|[.]jar", "");
            }
        }
        return "Curator " + version + ", Java " + System.getProperty("java.version");
    }

    public static void main(String[] args) throws Exception {
        Thread orders = new Thread(CuratorMutex::obey);
        orders.setDaemon(true);
        orders.start();
        try {
            takeTurns(args[0], Paths.get(args[1]), args[2]);
        } catch (Exception e) {
            fail(e);
        }
    }

    static void takeTurns(String server, Path path, String number) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(server, 10_000, 10_000, new ExponentialBackoffRetry(100, 5));
        client.start();
        if (!client.blockUntilConnected(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("no connection to " + server);
        }
        InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
        FileChannel file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        System.out.println("here");
        going.await();
        for (int turn = 1; true; turn++) {
            long asked = System.nanoTime();
            mutex.acquire();
            long began, done;
            try {
                file.write(lines(number, turn));
                began = System.nanoTime();
                file.force(false); // fdatasync
                sleep(extra);
                done = System.nanoTime();
            } finally {
                mutex.release();
            }
            count((done - asked) / 1e6, (done - began) / 1e6);
            if (turn == 1) {
                System.out.println("ready " + version());
            }
        }
    }
}
