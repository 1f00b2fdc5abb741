package history

import "fmt"

// explain says, for a person, where the longest order ended. The verdict is porcupine's
// alone; this is only where to look.
func (l *log) explain(appends []Append) string {
	at := int(l.far.Load())
	if at == len(l.records) {
		return l.lost(appends)
	}
	r := l.records[at]
	where := fmt.Sprintf("line %d of turn %d of %s", r.line, r.turn, r.agent)
	if r.turn != r.due {
		return fmt.Sprintf("%s stands where turn %d is due", where, r.due)
	}
	var a *Append
	for i := range appends {
		if !l.holds(at, &appends[i]) {
			continue
		}
		if a = &appends[i]; a.Turn == 0 || a.Turn == r.turn {
			break
		}
	}
	switch {
	case a == nil:
		return where + " comes from no append"
	case a.Turn != 0 && a.Turn != r.turn:
		return fmt.Sprintf("%s was acknowledged as turn %d", where, a.Turn)
	}
	for i := range appends {
		if b := &appends[i]; b.Turn != 0 && b.Return < a.Call && l.find(b) > at {
			return fmt.Sprintf("%s was called at %d, when turn %d of %s had returned at %d, which is not before it",
				where, a.Call, b.Turn, b.Agent, b.Return)
		}
	}
	return where + " stands there more often than it was appended"
}

// lost tells which acknowledged append is not in a file that the others explain.
func (l *log) lost(appends []Append) string {
	for i := range appends {
		if a := &appends[i]; a.Turn != 0 && l.find(a) == len(l.records) {
			return fmt.Sprintf("the append of %s called at %d was acknowledged as turn %d, and is not there", a.Agent, a.Call, a.Turn)
		}
	}
	return "more appends were acknowledged with the same turn than are there"
}
