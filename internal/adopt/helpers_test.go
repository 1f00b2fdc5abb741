package adopt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

const patience = 20 * time.Second

// killEnv has what a test process that adopts and is killed needs: the server, the root, the
// file and the step, by its number or its name.
const killEnv = "TURNSTILE_TEST_ADOPT"

func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(killEnv)); len(args) == 4 {
		os.Exit(adoptAndDie(args[0], args[1], args[2], args[3]))
	}
	zktest.Together(m)
}

// adoptAndDie adopts, and kills its own process at a step. It returns 0 when it did not get
// so far.
func adoptAndDie(addr, root, path, step string) int {
	left, _ := strconv.Atoi(step)
	atStep = func(name string) {
		if left--; left == 0 || name == step {
			fmt.Println(name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	sess, err := session.Dial(context.Background(), session.Options{Servers: []string{addr}, Timeout: time.Second, ConnectTimeout: patience})
	if err == nil {
		_, err = Run(context.Background(), Options{Sess: sess, Root: filelock.Root(root), Host: "here", File: writer.Options{Path: path}})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// fleet is a fleet of the test's own: its nodes, and its file.
type fleet struct {
	t     testing.TB
	addr  string
	sess  *session.Session
	root  filelock.Root
	path  string
	ctx   context.Context
	line  string // the incarnation's
	head  frame.Head
	turns []frame.Turn // committed, from the turn 1 on
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	f := &fleet{t: t, addr: strings.Split(zktest.Shared(t), ",")[0], root: filelock.Root(zktest.Root(t)), path: filepath.Join(t.TempDir(), "data.txt"), ctx: ctx}
	f.sess = f.dial()
	f.must(filelock.Ensure(ctx, f.sess, f.root))
	i := frame.Incarnation{ID: uuid.New(), From: 1}
	f.line, f.head = i.Line()+"\n", frame.Begin(i, 0, nil, "a", time.Now())
	return f
}

func (f *fleet) dial() *session.Session {
	f.t.Helper()
	sess, err := session.Dial(f.ctx, session.Options{Servers: []string{f.addr}, Timeout: 20 * time.Second, ConnectTimeout: patience})
	f.must(err)
	f.t.Cleanup(sess.Close)
	return sess
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// commit commits turns of one record each, and leaves their nodes; head is published.
func (f *fleet) commit(records ...string) {
	f.t.Helper()
	for _, r := range records {
		h := frame.Header{Agent: "a", Token: f.head.Token + 1, At: time.Now().UTC().Truncate(time.Millisecond)}
		t := f.head.Next(h, uuid.New(), [][]byte{[]byte(r)})
		f.turns, f.head = append(f.turns, t), f.head.After(t.Header, len(t.Bytes))
		f.node(f.root.Turn(t.Incarnation, t.Number), t.Encode())
	}
	f.node(f.root.Head(), f.head.Encode())
}

// node makes a node, or changes it.
func (f *fleet) node(path string, data []byte) {
	f.t.Helper()
	_, err := f.sess.Multi(f.ctx, &zk.SetDataRequest{Path: path, Data: data, Version: -1})
	if errors.Is(err, zk.ErrNoNode) {
		_, err = f.sess.Create(f.ctx, path, data, 0)
	}
	f.must(err)
}

func (f *fleet) delete(path string) { f.t.Helper(); f.must(f.sess.Delete(f.ctx, path)) }

// written writes turns into the file and deletes their nodes, as agents do.
func (f *fleet) written(from, to int) {
	f.t.Helper()
	f.put(f.text(from, to))
	for _, t := range f.turns[from-1 : to] {
		f.delete(f.root.Turn(t.Incarnation, t.Number))
	}
}

// text is what the file has with some turns; with the first it begins.
func (f *fleet) text(from, to int) string {
	text := ""
	if from == 1 {
		text = f.line
	}
	for _, t := range f.turns[from-1 : to] {
		text += string(t.Bytes)
	}
	return text
}

// put appends to the file.
func (f *fleet) put(text string) {
	f.t.Helper()
	h, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	f.must(err)
	_, err = h.WriteString(text)
	f.must(errors.Join(err, h.Close()))
}

func (f *fleet) content(path string) string {
	f.t.Helper()
	text, err := os.ReadFile(path)
	f.must(err)
	return string(text)
}

// records are the file's lines that do not begin with #.
func (f *fleet) records() string {
	f.t.Helper()
	var records []string
	for line := range strings.Lines(f.content(f.path)) {
		if line[0] != '#' {
			records = append(records, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(records, " ")
}

// names are the files beside the data file, without the incarnation.
func (f *fleet) names() string {
	f.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.path))
	f.must(err)
	var names []string
	for _, e := range entries {
		name := e.Name()
		if at := strings.LastIndex(name, "-"); at > 0 { // of a UUID
			rest := name[at+1:]
			name = name[:strings.Index(name, "-")] + rest[min(12, len(rest)):]
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// only is the one file whose name has a part.
func (f *fleet) only(part string) string {
	f.t.Helper()
	names, err := filepath.Glob(f.path + "." + part + "-*")
	f.must(err)
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".fence") })
	if len(names) != 1 {
		f.t.Fatalf("%s: %v, want one", part, names)
	}
	return f.content(names[0])
}

func (f *fleet) options(change ...func(*Options)) Options {
	o := Options{Sess: f.sess, Root: f.root, Host: "here", File: writer.Options{Path: f.path}}
	for _, c := range change {
		c(&o)
	}
	return o
}

func acceptLoss(o *Options) { o.AcceptLoss = true }
func asPreamble(o *Options) { o.AsPreamble = true }
func alone(o *Options)      { o.Alone = true }

// adopt adopts, and makes sure that what is adopted is what head says.
func (f *fleet) adopt(change ...func(*Options)) Result {
	f.t.Helper()
	r, err := Run(f.ctx, f.options(change...))
	f.must(err)
	f.wantGood()
	return r
}

// wantGood has file and head judged, and wants that no node and no place is left.
func (f *fleet) wantGood() frame.Head {
	f.t.Helper()
	head, _, err := filelock.FreshHead(f.ctx, f.sess, f.root)
	f.must(err)
	text := []byte(f.content(f.path))
	report, err := verify.Reader(f.ctx, bytes.NewReader(text), int64(len(text)), verify.Options{})
	f.must(err)
	if !report.OK() || report.Sound.End != head.Offset || report.Sound.Sum != head.Sum || report.Sound.Turn != head.Turn || report.Size != head.Offset {
		findings, _ := json.Marshal(report.Findings)
		f.t.Fatalf("the file is whole to byte %d of %d, turn %d; head says %d, turn %d: %s", report.Sound.End, report.Size, report.Sound.Turn, head.Offset, head.Turn, findings)
	}
	turns, err := f.sess.Children(f.ctx, f.root.Turns())
	f.must(err)
	if len(turns) > 0 {
		f.t.Errorf("nodes stay: %v", turns)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // of one that was killed
		places, err := filelock.Look(f.ctx, f.sess, f.root)
		f.must(err)
		if len(places) == 0 {
			break
		}
		if time.Now().After(end) {
			f.t.Fatalf("places stay: %v", places)
		}
	}
	return head
}

// refused wants a refusal that says why, and that nothing was changed.
func (f *fleet) refused(why string, change ...func(*Options)) {
	f.t.Helper()
	before, head := f.state(), f.headNode()
	_, err := Run(f.ctx, f.options(change...))
	if !errors.Is(err, writer.ErrRefused) || !strings.Contains(err.Error(), why) {
		f.t.Errorf("%v, want a refusal for %q", err, why)
	}
	if after := f.state(); after != before || f.headNode() != head {
		f.t.Errorf("it was %s, and is %s", before, after)
	}
}

// state is all that is on the volume and in turns/.
func (f *fleet) state() string {
	f.t.Helper()
	names, err := filepath.Glob(f.path + "*")
	f.must(err)
	turns, err := filelock.ListTurns(f.ctx, f.sess, f.root)
	f.must(err)
	state := fmt.Sprintln(turns)
	for _, name := range names {
		state += fmt.Sprintf("%s: %q\n", name, f.content(name))
	}
	return state
}

func (f *fleet) headNode() string {
	f.t.Helper()
	node, err := f.sess.Get(f.ctx, f.root.Head())
	if !errors.Is(err, zk.ErrNoNode) {
		f.must(err)
	}
	return string(node.Data)
}
