package verify

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What the fleet did before its file was taken as a preamble is no matter any more;
// what it was told since is held against what it wrote since.
func TestLogsOfAFleetWhoseFileBecameAPreamble(t *testing.T) {
	old := ordinary(9)
	h := &history{data: slices.Clone(old.data), at: old.at}
	h.incarnate(testIDs[1])
	h.turnsOf(4)
	more := &history{data: slices.Clone(h.data), head: h.head, turns: slices.Clone(h.turns), at: h.at}
	more.turnsOf(6)
	before, since := acksOf("agent-2", old.turns[:4]), acksOf("agent-2", h.turns)
	other := bytes.Clone(since)
	other[len(other)-2] ^= 1
	for name, c := range map[string]struct {
		log   []byte
		found int64
		want  []Kind
	}{
		"of the new one":                {since, 4, nil},
		"of both":                       {slices.Concat(before, since), 4, nil},
		"of the old one":                {before, 0, nil},
		"of a record that is not there": {other, 3, []Kind{Lost}},
		"of both, with one that is not": {slices.Concat(before, other), 3, []Kind{Lost}},
		"of another file":               {bytes.ReplaceAll(since, []byte("5f0c"), []byte("0000")), 0, []Kind{Mismatch}},
		"of turns that are not there":   {acksOf("agent-2", more.turns), 4, []Kind{Lost}},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, c.log, 0o600); err != nil {
				t.Fatal(err)
			}
			r := verifying(t, h.data, &h.head, log)
			if wantKinds(t, r, c.want...); r.Acknowledged != c.found {
				t.Errorf("%d records acknowledged and found, want %d", r.Acknowledged, c.found)
			}
		})
	}
}
