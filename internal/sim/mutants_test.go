package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mutate  = flag.Bool("sim.mutants", false, "leave out each guard in turn, and see the simulator find it")
	patient = flag.Int("sim.patience", often, "after how many schedules a mutant counts as one that survives")
)

// often is when a mutant that is hard to kill, or should survive, is worth trying.
const often = 200000

// mutant is the production code with one guard left out.
type mutant struct {
	guard string
	edits []edit
	// survives says why no schedule can kill it, and what holds the guard instead. A
	// mutant that survives for no reason, or dies in spite of one, is a failure.
	survives string
	theme    string // a fault without which it cannot be seen: every schedule may have it
	rare     bool   // takes more schedules than there is patience for each day
}

type edit struct{ file, old, without string }

const (
	hold   = "internal/filelock/hold.go"
	place  = "internal/queue/place.go"
	settle = "internal/filelock/settle.go"
	fence  = "internal/writer/fence.go"
	tail   = "internal/writer/tail.go"
	write  = "internal/writer/writer.go"
	begin  = "internal/writer/begin.go"
	turn   = "internal/fleet/turn.go"
	known  = "internal/fleet/settle.go"
)

var mutants = []mutant{
	{rare: true, guard: "the fence admits no lower token", edits: []edit{{fence, "case token < r.Token:", "case false:"}}},
	{guard: "the fence admits no token twice", edits: []edit{{fence, "case token == r.Token && r.Run != f.run:", "case false:"}},
		survives: "takes a coincidence that no schedule had: a restored ZooKeeper gives the very token that a paused holder has; the model finds it (docs/model), and TestATokenThatWasGivenTwiceIsRefused holds it"},
	{guard: "the token is written to the fence", edits: []edit{{write, "f.writeFence(noted.after(token, head, start))", "func() error { _ = start; return nil }()"}}},
	{guard: "the flock", edits: []edit{{fence, "if err := f.lock(ctx); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "the commit deletes our place", edits: []edit{
		{hold, "ops := []any{h.setHead(head), &zk.DeleteRequest{Path: h.place.Path(), Version: -1}}", "ops := []any{h.setHead(head)}"},
		{hold, "	h.end(context.Canceled)\n	if errors.Is(err, ErrLost) {", "	h.end(context.Canceled)\n	if err == nil || errors.Is(err, ErrLost) {"},
	}},
	{guard: "head is set at the version that was read", edits: []edit{{hold, "Data: head, Version: h.at}", "Data: head, Version: -1}"}},
		survives: "needs a ZooKeeper that was restored with its places: the model finds that (docs/model), and TestACommitOntoAMovedHeadIsRefusedAndGivesThePlaceUp holds it"},
	{guard: "recheck after waiting", edits: []edit{{hold, "if err := p.Recheck(ctx); err != nil {", "if err := error(nil); err != nil {"}},
		survives: "who has no place any more cannot commit, and is not admitted when another was; TestAPlaceRemovedWhileHeadIsReadIsLost holds it"},
	{guard: "head proves that it is fresh", edits: []edit{{hold, "func (h *Hold) follows(token uint64) bool { return names(h.head, token) }", "func (h *Hold) follows(token uint64) bool { return true }"}}},
	{guard: "a head that begins the file does not pass for a commit", edits: []edit{
		{begin, "Agent:       f.agent,", "Agent:       f.agent, Token: f.admitted(),"},
		{begin, "// makeFence creates", "func (f *File) admitted() frame.Token { r, _ := f.readFence(); return r.Token }\n\n// makeFence creates"},
		{hold, "if names(head, h.Token()) {", "if false {"},
	}},
	{guard: "fdatasync before the commit", edits: []edit{{write, "f.data.Datasync()", "error(nil)"}}},
	{guard: "a failed fdatasync is not repeated", edits: []edit{{write, "if err := f.data.Datasync(); err != nil {", "if err := f.data.Datasync(); err != nil && f.data.Datasync() != nil {"}}},
	{guard: "the file is not shorter than head", edits: []edit{{tail, "if info.Size < head.Offset {", "if false {"}}},
	{rare: true, guard: "the last turn is the one that head names", edits: []edit{{tail, "if start, err = f.checkLast(noted, head); err != nil {", "if err := error(nil); err != nil {"}}},
	{rare: true, theme: "volume restored", guard: "the turn that the fence has noted is still there", edits: []edit{{tail, "	if noted.Start < noted.Offset {", "	if noted.Start < noted.Offset { start, at = noted.Offset, noted.Offset } else if false {"}}},
	{guard: "a dead holder's tail is cut off", edits: []edit{{write, "if tail > 0 {", "if false {"}}},
	{guard: "the tail is copied before it is cut", edits: []edit{{tail, "orphan, err = f.copyOut(name, head.Offset, tail)", "_, err = name, nil"}}},
	{guard: "the copy is synced before the cut", edits: []edit{{tail, "return path, out.Sync()", "return path, nil"}}},
	{guard: "the tail is no more than a turn", edits: []edit{{tail, "if size > most {", "if most < 0 {"}},
		survives: "takes a power loss and a restored ZooKeeper in one, which is not promised (docs/reliability.md); TestATailOfMoreThanOneTurnIsRefused holds it"},
	{guard: "the tail has no newer token", edits: []edit{{tail, "case err == nil && header.Token > token:", "case false:"}},
		survives: "the fence has that token too; TestATailOfAHigherTokenFencesUsOff holds it"},
	{guard: "the receipt is noted before the acknowledgement", edits: []edit{{turn, "if err := a.receipt(ctx, out); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "a receipt beyond head is refused", edits: []edit{{fence, "case r.Turn > head.Turn:", "case false:"}}},
	{guard: "a head with another sum than the receipt's is refused", edits: []edit{{fence, " || r.Sum != head.Sum)", ")"}},
		survives: "needs a ZooKeeper that was restored with its places: the model finds that (docs/model), and TestAHeadOfAnotherFrameThanTheOneNotedIsRefused holds it"},
	{rare: true, guard: "a frame that was put aside is not acknowledged", edits: []edit{{fence, "there.Sum != out.Header.Sum ||", "there.Sum == (frame.Sum{}) ||"}}},
	{rare: true, theme: "ZooKeeper restored", guard: "a turn that the next holder does not know of is not acknowledged", edits: []edit{{fence, "|| noted.Run != f.run && noted.Turn < out.Head.Turn {", "{"}}},
	{guard: "a file with turns and no head is refused", edits: []edit{{begin, "case r.Turn > 0:", "case false:"}, {begin, "if err := f.mustBeNew(line, r.Token != 0); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "a lost outcome is settled", edits: []edit{{turn, "a.doubt = &doubt{hold: hold, out: out, records: records}", "_ = &doubt{hold: hold, out: out, records: records}"}}},
	{guard: "a refusal after a lost answer proves nothing", edits: []edit{{hold, "case session.Definite(err) && !lost:", "case session.Definite(err) && (lost || !lost):"}}},
	{rare: true, guard: "settling removes our place before it reads head", edits: []edit{{settle, "if err := queue.Remove(ctx, q.sess, h.place.Path()); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "settling looks at the sum, not only at the number", edits: []edit{{known, "return there.Sum == d.out.Header.Sum, err", "return there.Turn == d.out.Header.Turn, err"}}},
	{guard: "settling asks head whose the turn was", edits: []edit{{known, "if head.Turn <= d.out.Head.Turn {\n\t\treturn head.Sum == d.out.Head.Sum, nil", "if head.Turn < d.out.Head.Turn {\n\t\treturn false, nil"}},
		survives: "takes a ZooKeeper that was restored three times, 1 in 4,000,000 schedules; TestSettlingAsksHeadWhoseTheTurnWas holds it"},
	{guard: "settling removes the place that the commit took", edits: []edit{{settle, `if h.nextID != "" {`, "if false {"}}},
	{guard: "acknowledged after the commit", edits: []edit{{turn, "	next, err := hold.Commit(", "	if err := a.acknowledge(ctx, out, records); err != nil {\n		return nil, err\n	}\n	next, err := hold.Commit("}}},
	{guard: "a place whose creation was not answered is found again", edits: []edit{{place, "if errors.Is(err, session.ErrBroken) && !Over(ctx, l.Sess) {", "if errors.Is(err, session.ErrBroken) && !Over(ctx, l.Sess) { continue\n"}}},
	{guard: "a message leaves the inbox with its commit", edits: []edit{{hold, "ops = append(ops, with...)", "_ = with"}}},
	{guard: "a refused commit gives its place up", edits: []edit{{hold, "h.place.Leave() // for it may", "// for it may"}}},
}

// TestMutantsAreUpToDate: each guard is where its mutant says, once.
func TestMutantsAreUpToDate(t *testing.T) {
	for _, m := range mutants {
		for _, e := range m.edits {
			source, err := os.ReadFile(filepath.Join("../..", e.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), e.old); n != 1 {
				t.Errorf("%s: %q is %d times in %s", m.guard, e.old, n, e.file)
			}
		}
	}
}

func TestMutantsDie(t *testing.T) {
	if !*mutate {
		t.Skip("builds the code anew for each guard; -sim.mutants runs it")
	}
	for _, m := range mutants {
		t.Run(m.guard, func(t *testing.T) {
			if *patient < often && (m.rare || m.survives != "") {
				t.Skipf("needs the patience of %d schedules", often)
			}
			n, how := m.run(t)
			switch {
			case n == 0 && m.survives == "":
				t.Errorf("survives %d schedules", *patient)
			case n == 0:
				t.Logf("survives %d schedules: %s", *patient, m.survives)
			case m.survives != "":
				t.Errorf("was held to be redundant (%s), and dies after %d schedules: %s", m.survives, n, how)
			default:
				t.Logf("dies after %d schedules: %s", n, how)
			}
		})
	}
}

var broke = regexp.MustCompile(`schedule (\d+) of this run breaks a promise\n\s*(.*)`)

// run builds the mutant without touching the source, and runs schedules until one fails:
// which one it was, 0 when none did.
func (m mutant) run(t *testing.T) (n int, how string) {
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range m.edits {
		file, err := filepath.Abs(filepath.Join("../..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := file
		if earlier := overlay.Replace[file]; earlier != "" {
			from = earlier
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mutated := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), e.old, e.without, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[file] = mutated
	}
	list, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", filepath.Join(dir, "overlay.json"), "-timeout", "30m", "-run", "^TestSchedules$",
		".", "-sim.schedules", fmt.Sprint(*patient), "-sim.brief", "-sim.seed", fmt.Sprint(*seed), "-sim.theme", m.theme)
	out, err := run.CombinedOutput()
	found := broke.FindStringSubmatch(string(out))
	switch {
	case err == nil:
		return 0, ""
	case found == nil:
		t.Fatalf("%v\n%s", err, out)
	}
	fmt.Sscan(found[1], &n)
	return n, found[2]
}
