package verify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Kind names what a finding is about.
type Kind string

// The kinds. The file alone shows the first six.
const (
	Interleaved Kind = "interleaved" // records of another turn inside this one, or this one not contiguous
	Torn        Kind = "torn"        // a frame that ends early, or a line without its newline
	Corrupt     Kind = "corrupt"     // bytes differ from the sum
	Missing     Kind = "missing"     // a turn number is skipped
	Duplicated  Kind = "duplicated"  // a turn number, or one agent's record, appears twice
	Reordered   Kind = "reordered"   // turn numbers or tokens fall
	Lost        Kind = "lost"        // the file is shorter than head, or an acknowledged record is not in it
	Mismatch    Kind = "mismatch"    // head or a log tells of another file than this
	Uncommitted Kind = "uncommitted" // bytes behind head, which nobody of the fleet wrote
	Unwritten   Kind = "unwritten"   // turns that are committed and not in the file yet: a note, never a fault
)

// Finding is one thing that is wrong, and where.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Offset int64  `json:"offset"`         // in bytes from the beginning
	Line   int64  `json:"line,omitempty"` // from 1; 0 when there is none to name
	Turn   uint64 `json:"turn,omitempty"` // 0 when there is none to name
	Log    string `json:"log,omitempty"`  // the acknowledgement log concerned
	Text   string `json:"text"`           // one sentence: what it means
}

// AgentCount is what one agent has in the file.
type AgentCount struct {
	Agent   string `json:"agent"`
	Turns   int64  `json:"turns"`
	Records int64  `json:"records"`
}

// Sound is how far the file is whole: up to the first fault, or to where it was
// judged. A new incarnation can go on from there.
type Sound struct {
	End  int64     `json:"end"`  // the offset just behind it
	Turn uint64    `json:"turn"` // the last turn in it
	Sum  frame.Sum `json:"sum"`  // where its chain stands
}

// Report is what the verifier saw.
type Report struct {
	File         string       `json:"file"`
	Size         int64        `json:"size"`   // the file's, when it was opened
	Judged       int64        `json:"judged"` // how far it was judged: to head, or to its end
	Turns        int64        `json:"turns"`
	Records      int64        `json:"records"`
	Bytes        int64        `json:"bytes"` // the records', newlines included
	First        uint64       `json:"first"` // the first and last turn in the file
	Last         uint64       `json:"last"`
	Agents       []AgentCount `json:"agents"`
	Incarnations []uuid.UUID  `json:"incarnations"`
	Sound        Sound        `json:"sound"`
	Headed       bool         `json:"headed"`       // head was there to compare with; without it a file may end early unnoticed
	Unwritten    int64        `json:"unwritten"`    // turns that are committed and not in the file yet, and not counted above
	Acknowledged int64        `json:"acknowledged"` // records that logs told of and that were found
	FaultCount   int64        `json:"faults"`       // all of them, those that Findings has no room for too
	Findings     []Finding    `json:"findings"`
	Notes        []Finding    `json:"notes"` // what is worth knowing and no fault

	asked bool // for head
}

// Faults is how many faults were found.
func (r Report) Faults() int { return int(r.FaultCount) }

// OK reports whether the file can be what the fleet wrote.
func (r Report) OK() bool { return r.FaultCount == 0 }

// mostAgents and mostIncarnations bound what a file of invented names can make us
// remember.
const (
	mostAgents       = 4096
	mostIncarnations = 1024
	otherAgents      = "(others)"
)

// tally gathers a report while the file is read.
type tally struct {
	Report
	agents map[string]*AgentCount
	room   int
}

func newTally(room int) *tally {
	if room <= 0 {
		room = DefaultFindings
	}
	t := &tally{agents: map[string]*AgentCount{}, room: room}
	t.Findings, t.Notes = []Finding{}, []Finding{}
	return t
}

// find adds a fault and returns where it stands in Findings, or -1 when there was
// no room for it.
func (t *tally) find(f Finding, format string, args ...any) int {
	t.FaultCount++
	if len(t.Findings) >= t.room {
		return -1
	}
	f.Text = fmt.Sprintf(format, args...)
	t.Findings = append(t.Findings, f)
	return len(t.Findings) - 1
}

// retell changes a finding that later bytes explained better.
func (t *tally) retell(i int, kind Kind, format string, args ...any) {
	if i >= 0 {
		t.Findings[i].Kind, t.Findings[i].Text = kind, fmt.Sprintf(format, args...)
	}
}

// forget drops all that was gathered from the file.
func (t *tally) forget() {
	fresh := newTally(t.room)
	fresh.Size, fresh.Judged, fresh.Headed, fresh.asked = t.Size, t.Judged, t.Headed, t.asked
	*t = *fresh
}

func (t *tally) count(p *piece) {
	if t.Turns == 0 || p.Turn < t.First {
		t.First = p.Turn
	}
	t.Last = max(t.Last, p.Turn)
	t.Turns++
	t.Records += int64(p.Lines)
	t.Bytes += int64(p.Bytes)
	a := t.agents[p.Agent]
	if a == nil {
		a = t.newAgent(p.Agent)
	}
	a.Turns++
	a.Records += int64(p.Lines)
}

func (t *tally) newAgent(name string) *AgentCount {
	if len(t.agents) >= mostAgents {
		name = otherAgents
	}
	a := t.agents[name]
	if a == nil {
		a = &AgentCount{Agent: name}
		t.agents[name] = a
	}
	return a
}

func (t *tally) incarnation(id uuid.UUID) {
	if len(t.Incarnations) < mostIncarnations {
		t.Incarnations = append(t.Incarnations, id)
	}
}

// witness says whose finding it is: the file's own come first, then those of head,
// then those of the logs.
func (f Finding) witness() int {
	switch {
	case f.Log != "":
		return 2
	case f.Kind == Lost || f.Kind == Mismatch || f.Kind == Uncommitted:
		return 1
	}
	return 0
}

func (t *tally) finish() Report {
	slices.SortStableFunc(t.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.witness(), b.witness()), cmp.Compare(a.Offset, b.Offset))
	})
	t.Agents = []AgentCount{}
	for _, a := range t.agents {
		t.Agents = append(t.Agents, *a)
	}
	slices.SortFunc(t.Agents, func(a, b AgentCount) int { return cmp.Compare(a.Agent, b.Agent) })
	return t.Report
}
