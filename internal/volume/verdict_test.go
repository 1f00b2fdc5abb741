package volume

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Each volume is one that there is, and both machines say the same of it.
func TestBothSayWhichSettingIsRight(t *testing.T) {
	for name, volume := range map[string]struct {
		disks   []disk
		on      []string
		setting string // asked for
		right   string
		says    string
		ways    map[string]string
	}{
		"local": {
			[]disk{&client{local: true}, &client{local: true}}, []string{"", ""}, Auto,
			"plain", "it is what auto does", map[string]string{"plain": Right, "sync": Right, "direct": Right},
		},
		"NFS": {
			caching(false), []string{onNFS, onNFS}, Auto,
			"direct", "it is what auto does", map[string]string{"plain": Wrong, "sync": Wrong, "direct": Right},
		},
		"NFS that looks local": {
			caching(false), []string{"", ""}, Auto,
			"direct", "auto does something else (plain)", map[string]string{"plain": Wrong, "sync": Wrong, "direct": Right},
		},
		"NFS without O_DIRECT": {
			caching(true), []string{onNFS, onNFS}, Auto,
			"", "no setting", map[string]string{"plain": Wrong, "sync": Wrong, "direct": Refused},
		},
		"a server and its client": {
			[]disk{&client{local: true}, &client{}}, []string{"", onNFS}, Auto,
			"auto", "not the same mode", map[string]string{"plain": Wrong, "auto": Right},
		},
		"an unknown kind": {
			[]disk{&client{local: true}, &client{local: true}}, []string{onSSHFS, onSSHFS}, Auto,
			"plain", "auto refuses", map[string]string{"plain": Right, "sync": Right, "direct": Right},
		},
		"one mode": {
			caching(false), []string{onNFS, onNFS}, "plain",
			"", "data.volume: plain is not right", map[string]string{"plain": Wrong},
		},
		"an object store": {
			caching(false), []string{onS3, onS3}, Auto,
			"", "no writes by position", map[string]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := machines(t, volume.disks...)
			for i, m := range all {
				m.on, m.setting = volume.on[i], volume.setting
			}
			check(t, 30*time.Second, all)
			got := all[0].got
			if all[0].err != nil || all[1].err != nil || !reflect.DeepEqual(got, all[1].got) {
				t.Fatalf("they say:\n%+v, %v\n%+v, %v", got, all[0].err, all[1].got, all[1].err)
			}
			if want := map[bool]string{true: Fit, false: Unfit}[volume.right != ""]; got.Setting != volume.right || got.Verdict != want || !strings.Contains(got.Text, volume.says) {
				t.Errorf("%s: %q, %s %s; want %s, %q, %s", got.Verdict, got.Setting, got.Text, got.Next, want, volume.right, volume.says)
			}
			for mode, want := range volume.ways {
				if w := got.way(t, mode); w.Result != want {
					t.Errorf("%s is %s (%s), want %s", mode, w.Result, w.Text(), want)
				}
			}
			if len(volume.ways) == 0 && len(got.Ways) > 0 {
				t.Errorf("it was tried: %+v", got.Ways)
			}
			t.Log(got.Ways)
		})
	}
}

// What was measured on NFS is what is told of it.
func TestWhatIsSeenIsTold(t *testing.T) {
	all := machines(t, caching(false)...)
	check(t, 30*time.Second, all)
	r := all[0].got
	if w := r.way(t, "plain"); w.Damaged < brisk.turns/3 || w.Zeroed < brisk.turns/3 || w.Zeroed > w.Damaged || !strings.Contains(w.Text(), fmt.Sprintf("%d of 40 ranges damaged (%d zeroed)", w.Damaged, w.Zeroed)) {
		t.Errorf("%s", w.Text())
	}
	if w := r.way(t, "sync"); w.Damaged+w.DamagedLarge > 0 || w.StaleReads < brisk.turns/3 || w.StaleLengths < brisk.turns/3 || w.StaleLarge == 0 || w.WrongAtEnd < brisk.turns/3 || w.WrongAnew > 0 || !strings.Contains(w.Text(), "nothing lost, ") || strings.Contains(w.Text(), "fresh") {
		t.Errorf("%s", w.Text())
	}
	if w := r.way(t, "direct"); w.Turns != brisk.turns || w.Reads != brisk.turns || !strings.HasSuffix(w.Text(), "nothing lost, reads are fresh, 40 of 40 lengths stale (agents read to find the end)") {
		t.Errorf("%s", w.Text())
	}
	if r.OneKernel || strings.Contains(r.Text, "kernel") {
		t.Errorf("%+v", r)
	}
}

// One of them is enough, but for what agents do not ask for.
func TestWay_whatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		seen Seen
		is   string
		says string
	}{
		"nothing":             {Seen{Reads: 80, Looks: 9}, Right, "160 turns and 8 large writes: nothing lost, reads are fresh"},
		"damaged":             {Seen{Damaged: 3, Zeroed: 2}, Wrong, "3 of 160 ranges damaged (2 zeroed)"},
		"damaged large":       {Seen{DamagedLarge: 1}, Wrong, "1 of 10536 ranges of large writes damaged"},
		"stale reads":         {Seen{Reads: 80, StaleReads: 1}, Wrong, "nothing lost, 1 of 160 reads stale"},
		"stale lengths":       {Seen{Reads: 80, StaleLengths: 1}, Wrong, "1 of 160 lengths stale"},
		"stale large":         {Seen{StaleLarge: 1}, Wrong, "1 large writes not seen"},
		"wrong at end":        {Seen{WrongAtEnd: 1}, Wrong, "1 ranges still read wrong at the end"},
		"wrong anew":          {Seen{WrongAnew: 1}, Wrong, "1 ranges read wrong through the file opened anew"},
		"parts":               {Seen{Parts: 1, Looks: 9}, Right, "a large write seen in parts by 1 of 18 looks"},
		"damaged, on its own": {Seen{Damaged: 1}, Wrong, "1 of 160 ranges damaged (0 zeroed)"},
	} {
		for _, all := range [][]Seen{{c.seen, {Reads: 80, Looks: 9}}, {{Reads: 80, Looks: 9}, c.seen}} { // one saw it
			all[0].Reads, all[1].Reads = 80, 80
			w := Way{Turns: usual.turns, Larges: usual.larges}
			w.add(all)
			if w.Result != c.is || !strings.Contains(w.Text(), c.says) {
				t.Errorf("%s: %s, %s; want %s, %s", name, w.Result, w.Text(), c.is, c.says)
			}
		}
	}
	w := Way{Direct: true}
	w.add([]Seen{{Reads: 80, StaleLengths: 1}})
	if w.Result != Right {
		t.Errorf("lengths with O_DIRECT: %s", w.Text())
	}
}
