package sim

// What follows is the list; mutate_test.go runs it.

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
	hold      = "internal/filelock/hold.go"
	wait      = "internal/filelock/place.go"
	settled   = "internal/filelock/settle.go"
	nodes     = "internal/filelock/turns.go"
	lock      = "internal/filelock/filelock.go"
	place     = "internal/queue/place.go"
	file      = "internal/writer/writer.go"
	node      = "internal/frame/turn.go"
	takes     = "internal/fleet/turn.go"
	known     = "internal/fleet/settle.go"
	scribes   = "internal/fleet/scribe.go"
	writes    = "internal/fleet/write.go"
	syncs     = "internal/fleet/sync.go"
	fills     = "internal/fleet/fill.go"
	looks     = "internal/fleet/identity.go"
	leftovers = "internal/fleet/leftovers.go"
	under     = "internal/fleet/under.go"
	life      = "internal/fleet/fleet.go"
	enters    = "internal/fleet/enter.go"
)

var mutants = []mutant{
	// The turn and its commit.
	{guard: "the commit deletes our place", theme: "session given up", edits: []edit{
		{hold, "append(ops, &zk.DeleteRequest{Path: h.place.Path(), Version: -1})", "append(ops, &zk.CheckVersionRequest{Path: q.root.Agents(), Version: -1})"},
		{hold, "return h.next(c, results)\n}\n\n// compose", "h.place.Leave()\n	return h.next(c, results)\n}\n\n// compose"},
	}},
	{guard: "head is set at the version that was read", edits: []edit{{hold, "Data: head.Encode(), Version: h.at}", "Data: head.Encode(), Version: -1}"}},
		survives: "that our place is deleted is the check; TestACommitOntoAMovedHeadIsRefusedAndGivesThePlaceUp"},
	{guard: "head proves that it is fresh", edits: []edit{{hold, "return h.at != noHead && h.head.Token == frame.Token(token)", "return true"}},
		survives: "head is set at its version; TestHeadIsFreshThoughTheNextServerLagsBehind"},
	{guard: "head proves that it is fresh, or is set at its version", theme: "evicted", edits: []edit{
		{hold, "return h.at != noHead && h.head.Token == frame.Token(token)", "return true"},
		{hold, "Data: head.Encode(), Version: h.at}", "Data: head.Encode(), Version: -1}"}},
		survives: "two commits of one turn make the same node, which there is once; TestHeadIsFreshThoughTheNextServerLagsBehind"},
	{guard: "a refusal after a lost answer proves nothing", theme: "request or answer lost", edits: []edit{{hold, "case session.Definite(err) && !lost:", "case session.Definite(err):"}}},
	{guard: "a commit is not given up because of a node that is gone", edits: []edit{{hold, "case session.Definite(err) && !lost && at >= fixed:", "case false:"}},
		survives: "the node is let go by itself, and the turn taken again; TestADropThatSomebodyElseDidIsLeftOut"},
	{guard: "a refused commit gives its place up", edits: []edit{{hold, "h.place.Leave() // for it may", "// for it may"}},
		survives: "whose head is fresh is refused only without its place; TestACommitOntoAMovedHeadIsRefusedAndGivesThePlaceUp"},
	{guard: "a lost outcome is settled", theme: "request or answer lost", edits: []edit{{known, "	if a.doubt == nil {\n", "	if a.doubt != nil {\n		a.doubt = nil\n		a.Source.Back()\n	}\n	if a.doubt == nil {\n"}}},
	{guard: "settling removes our place before it reads head", theme: "request or answer lost", edits: []edit{{settled, "if err := queue.Remove(ctx, q.sess, h.place.Path()); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "settling removes the place that the commit took", theme: "request or answer lost", edits: []edit{{settled, `if h.nextID != "" {`, "if false {"}}},
	{guard: "settling asks head whose the turn was", theme: "request or answer lost", edits: []edit{{known, "		return head.Sum == t.Sum(), nil", "		return head.Turn == t.Number, nil"}}},
	{guard: "settling asks the node whose the turn was", theme: "request or answer lost", edits: []edit{{known, "return node.Sum() == t.Sum(), nil", "return node.Number > 0, nil"}}},
	{guard: "settling asks the file whose the turn was", theme: "request or answer lost", edits: []edit{{known, "return header.Sum == t.Sum(), nil", "return true, nil"}}},
	{guard: "a quorum is asked before head is read", edits: []edit{{lock, "err := queue.Barrier(ctx, sess, root.Agents())", "err := error(nil)"}}},
	{guard: "our place is confirmed before head is refused", theme: "evicted", edits: []edit{{takes, "lost := hold.Confirm()", "lost := error(nil)"}},
		survives: "takes an eviction between two requests, and a scribe that measures just then; TestConfirmIsNotContentWithARead"},
	{guard: "a place whose creation was not answered is found again", theme: "request or answer lost", edits: []edit{{place, "if errors.Is(err, session.ErrBroken) && !Over(ctx, l.Sess) {", "if errors.Is(err, session.ErrBroken) && !Over(ctx, l.Sess) { continue\n"}}},
	{guard: "a message leaves the inbox with its commit", edits: []edit{
		{hold, "ops = append(ops, c.With...)", "_ = c.With"},
		{hold, "at := h.before() + len(c.With)", "at := h.before()"}}},
	{guard: "no more turns are under way than may be", edits: []edit{{under, "n < s.Under && ", ""}}},
	{guard: "a commit that begins no file needs its head", edits: []edit{{wait, "case errors.Is(err, ErrNoHead) && p.k == 1:", "case errors.Is(err, ErrNoHead):"}},
		survives: "the line with the number 1 is the only one here; TestWithoutHeadTheFleetBeginsInQueue1"},

	// The file.
	{guard: "the data is synced before it is acknowledged", edits: []edit{{file, "if err := data.Datasync(); err != nil {", "if err := error(nil); data == nil {"}}},
	{guard: "on a network volume every write is made durable", edits: []edit{{file, "return unix.O_DIRECT | unix.O_DSYNC", "return unix.O_DIRECT"}}},
	{guard: "on a network volume the page cache is not used", edits: []edit{{file, "return unix.O_DIRECT | unix.O_DSYNC", "return unix.O_DSYNC"}}},
	{guard: "the name of a new file is synced, whoever made it", edits: []edit{{file, "	if create { //", "	if missing { //"}}},
	{guard: "bytes that are there must fit", edits: []edit{{writes, `return s.volume("read", func() error { return s.File.Fits(t.Bytes, t.Offset) })`, "return nil"}}, theme: "file appended to"},
	{guard: "path and descriptor are compared before a node goes", edits: []edit{{syncs, `if err := s.volume("look", s.File.Same); err != nil {`, "if err := error(nil); err != nil {"}}, theme: "file replaced"},
	{guard: "what a failed sync leaves is written again", edits: []edit{{writes, "if err := s.rewrite(ctx); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "all that a failed sync leaves is written again", theme: "sync failed", edits: []edit{{writes, "again := s.unsynced\n", "again := s.unsynced[max(0, len(s.unsynced)-1):]\n"}}},
	{guard: "our own turn is written, though the file shows it", edits: []edit{{writes, "if err := s.volume(\"write\", func() error { return s.File.WriteAt(e.Bytes, e.Offset) }); err != nil {", "if end, err := s.measure(); err != nil || end < e.End() && s.File.WriteAt(e.Bytes, e.Offset) != nil {"}}},
	{guard: "the file is filled before our own turn", edits: []edit{{writes, "if err := s.fill(ctx, e.Turn); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "the file is filled before what is written again", edits: []edit{{writes, "err := s.fill(ctx, t)\n", "err := error(nil)\n"}}, theme: "file replaced"},
	{guard: "a turn is confirmed before it is written", edits: []edit{{fills, "if err := sess.Err(); err != nil || e.session == sess && e.connection == connection && sess.Connected() {", "if err := sess.Err(); err != nil || e.session != nil {"}}, theme: "ZooKeeper restored"},
	{rare: true, guard: "a turn is confirmed again after the file was filled", edits: []edit{{writes, "if err := s.confirm(ctx, e); err != nil { //", "if err := error(nil); err != nil { //"}}, theme: "ZooKeeper restored"},
	{guard: "nodes are offered only once they are on disk", edits: []edit{{writes, "	s.unsynced = append(s.unsynced, e.Turn)\n", "	s.unsynced = append(s.unsynced, e.Turn)\n	s.giveDrops([]string{s.Root.Turn(e.Incarnation, e.Number)})\n"}}},
	{guard: "a turn on disk is acknowledged, however often the session ends", edits: []edit{{writes, "	if len(s.unsynced) == 0 {\n		s.recovered()\n		return s.acknowledge(ctx)", "	if len(s.unsynced) == 0 {\n		s.recovered()\n		return nil"}}},
	{guard: "a sync of a descriptor that was closed since says nothing", theme: "file replaced", edits: []edit{{syncs, "outcome.of != s.File.Opened() || !s.File.Attached() || s.trouble", "!s.File.Attached()"}}},
	{guard: "a sync covers what was written before it began", theme: "power loss", edits: []edit{{syncs, "s.durable(outcome.turns)", "s.durable(len(s.unsynced))"}}},

	// What others left, and what is missing.
	{guard: "what is missing is looked for again before it is refused", edits: []edit{{fills, "if end, err = s.measure(); err == nil && end < to {", "if end < to {"}},
		survives: "what looks wrong is looked at again; see the next"},
	{guard: "what is missing is looked for again, and what may pass too", edits: []edit{
		{fills, "if end, err = s.measure(); err == nil && end < to {", "if end < to {"},
		{scribes, "!refused.Late || refused.Sure {", "refused.Late {"}, {looks, "if !errors.As(err, &refused) || !refused.Late {", "if true {"}}},

	{guard: "a node's bytes have its sum", edits: []edit{{node, " || h.Seal(t.Prev, sha256.Sum256(payload)) != h.Sum:", " || h.Seal(t.Prev, sha256.Sum256(payload)) == Sum{}:"}}, theme: "turn node altered"},
	{guard: "a node leads to what was committed after it", edits: []edit{{fills, "case t.End() != to || t.Sum() != sum:", "case false:"}},
		survives: "a node that has a right sum and is another's is nobody's accident; TestRun_aNodeThatWasAlteredIsNeverWritten"},
	{guard: "not allowed is not not there", edits: []edit{{nodes, "if errors.Is(err, zk.ErrNoNode) {\n		return frame.Turn{}, ErrNoTurn", "if errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrNoAuth) {\n		return frame.Turn{}, ErrNoTurn"}}, theme: "turn node hidden"},
	{guard: "a leftover is written, though the file shows it", edits: []edit{{leftovers, "	if err := s.put(t); err != nil {\n", "	if end, _ := s.seen(); end >= t.End() {\n		s.giveDrops([]string{s.Root.Turn(t.Incarnation, t.Number)})\n		return false, nil\n	}\n	if err := s.put(t); err != nil {\n"}}},
	{guard: "leftovers are written in order", theme: "kill -9", rare: true, edits: []edit{{leftovers, "if err := s.fill(ctx, t); err != nil {", "if err := error(nil); err != nil {"}}},
	{guard: "leftovers are written", edits: []edit{{leftovers, "err = s.settleLeftovers(ctx)", "err = nil"}}},
	{guard: "nodes go without a next commit", edits: []edit{{leftovers, "err := s.tidy(ctx)", "err := error(nil)"}, {life, "_ = a.scribe.dropAll(late, sess)", "_ = late"}}},
	{guard: "what its owner is at work on is left to it", edits: []edit{{leftovers, "if works, err := s.works(ctx, t); err != nil || works {", "if err := error(nil); err != nil {"}},
		survives: "whoever writes it writes the same; TestRun_whatAnOwnerIsAtWorkOnIsLeftToIt"},
	{guard: "the file ends where head says at most", edits: []edit{{looks, "	if end > head.Offset {\n", "	if false {\n"}, {takes, "case end > head.Offset:", "case false:"}},
		survives: "what is there must fit, too; TestRun_whoEntersRefusesBytesBehindHead"},
	{guard: "head is read after the file was measured", edits: []edit{{looks, "now, err = s.fresh(ctx) //", "now = head //"}}},
	{guard: "the last turn is the one that head names", edits: []edit{{looks, "return s.precedes(ctx, head.Incarnation, before)", "return nil"}},
		survives: "a volume that went back is shorter here, and its nodes are gone; TestRun_anotherTurnOfTheSameSizeIsRefused"},
	{guard: "a file that is begun meanwhile is not refused", edits: []edit{{looks, "!errors.Is(none, filelock.ErrNoHead) {", "false && none != nil {"}}},
	{guard: "what may pass is looked at again", edits: []edit{{scribes, "	case s.mayComeRight(err):", "	case false:"}}, theme: "file replaced"},

	// Sessions.
	{guard: "the end of the session before is not the agent's", edits: []edit{{scribes, "case s.sess().Err() != nil || ofSession(err):", "case s.sess().Err() != nil:"}}},
	{guard: "an agent without input goes on until all is acknowledged", edits: []edit{{life, "lost != nil && ctx.Err() == nil {", "false && lost != nil {"}}},
	{guard: "a member that is gone has its session's time to be unlisted", edits: []edit{{enters, "max(a.File.Mode.Patience(), 2*sess.Timeout())", "a.File.Mode.Patience()"}}},
}
