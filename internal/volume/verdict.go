package volume

import (
	"fmt"
	"slices"
	"strings"
)

// What a way came to.
const (
	Right   = "right"   // nothing was lost, and what one wrote the others saw
	Wrong   = "wrong"   // bytes were lost, or reads were stale
	Refused = "refused" // the volume does not take O_DIRECT as an agent needs it
	Broken  = "failed"  // an agent would have met an error
)

// Joint is what several machines found out together. All get the same.
type Joint struct {
	Machines   []Machine `json:"machines"`
	OneKernel  bool      `json:"one_kernel"` // all of them are containers of one machine
	SameVolume bool      `json:"same_volume"`
	Ways       []Way     `json:"ways"`
	Setting    string    `json:"setting,omitempty"` // of data.volume; missing when none is right
	Verdict    string    `json:"verdict"`           // Fit or Unfit
	Text       string    `json:"text"`
	Next       string    `json:"next,omitempty"`
}

// Machine is one of those that checked.
type Machine struct {
	Name       string `json:"name"`
	Directory  string `json:"directory"`
	FileSystem string `json:"file_system"`
	Auto       Mode   `json:"auto,omitempty"` // missing when data.volume: auto refuses it
}

// Way is a mode, or what auto is where it is several, and what was seen of it.
type Way struct {
	Mode   string `json:"mode"`
	Direct bool   `json:"-"` // a machine wrote with O_DIRECT
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	Turns  int    `json:"turns"`        // ranges that were written in turn
	Larges int    `json:"large_writes"` // after them
	Seen
}

// Seen is what one machine saw of a way, or all together.
type Seen struct {
	Damaged      int `json:"damaged"`       // ranges of the turns that were not what was written, at the end
	Zeroed       int `json:"zeroed"`        // those of them that were zeros, or not there
	DamagedLarge int `json:"damaged_large"` // the same of the large writes
	Reads        int `json:"reads"`         // of what another machine had just written
	StaleReads   int `json:"stale_reads"`   // those that did not show it
	StaleLengths int `json:"stale_lengths"` // the kernel's word for the length was too little then
	StaleLarge   int `json:"stale_large"`   // large writes that were not seen in full when they were done
	WrongAtEnd   int `json:"wrong_at_end"`  // ranges that were right, and read wrong at the end
	WrongAnew    int `json:"wrong_anew"`    // the same, the file opened anew
	Looks        int `json:"looks"`         // at large writes under way
	Parts        int `json:"parts"`         // those that met a gap
}

// add makes the way's result of what all saw.
func (w *Way) add(all []Seen) {
	for _, s := range all {
		w.Damaged, w.Zeroed, w.DamagedLarge = max(w.Damaged, s.Damaged), max(w.Zeroed, s.Zeroed), max(w.DamagedLarge, s.DamagedLarge)
		w.WrongAtEnd, w.WrongAnew = max(w.WrongAtEnd, s.WrongAtEnd), max(w.WrongAnew, s.WrongAnew)
		w.Reads += s.Reads
		w.StaleReads += s.StaleReads
		w.StaleLengths += s.StaleLengths
		w.StaleLarge += s.StaleLarge
		w.Looks += s.Looks
		w.Parts += s.Parts
	}
	w.Result = Right
	// With O_DIRECT agents find the length by reading.
	stale := w.StaleReads + w.StaleLarge + w.WrongAtEnd + w.WrongAnew
	if !w.Direct {
		stale += w.StaleLengths
	}
	if w.Damaged+w.DamagedLarge+stale > 0 {
		w.Result = Wrong
	}
}

// Text is what was seen, for people.
func (w Way) Text() string {
	if w.Error != "" {
		return w.Error
	}
	var seen []string
	lengths := "%d of %d lengths stale"
	if w.Direct {
		lengths += " (agents read to find the end)"
	}
	for _, s := range []struct {
		n      int
		format string
		args   []any
	}{
		{w.Damaged, "%d of %d ranges damaged (%d zeroed)", []any{w.Turns, w.Zeroed}},
		{w.DamagedLarge, "%d of %d ranges of large writes damaged", []any{w.Larges * large}},
		{w.StaleReads, "%d of %d reads stale", []any{w.Reads}},
		{w.StaleLengths, lengths, []any{w.Reads}},
		{w.StaleLarge, "%d large writes not seen when they were done", nil},
		{w.WrongAtEnd, "%d ranges still read wrong at the end", nil},
		{w.WrongAnew, "%d ranges read wrong through the file opened anew", nil},
		{w.Parts, "a large write seen in parts by %d of %d looks", []any{w.Looks}},
	} {
		if s.n > 0 {
			seen = append(seen, fmt.Sprintf(s.format, append([]any{s.n}, s.args...)...))
		}
	}
	if w.Damaged+w.DamagedLarge == 0 {
		lost := fmt.Sprintf("%d turns and %d large writes: nothing lost", w.Turns, w.Larges)
		if w.Result == Right {
			lost += ", reads are fresh"
		}
		seen = append([]string{lost}, seen...)
	}
	return strings.Join(seen, ", ")
}

// report is what is known before anything is tried.
func (j *joint) report() Joint {
	r := Joint{Machines: []Machine{}, OneKernel: true, Ways: []Way{}}
	for i, h := range j.all {
		r.Machines = append(r.Machines, Machine{Name: j.Names[i], Directory: h.Dir, FileSystem: h.Type, Auto: h.Mode})
		r.OneKernel = r.OneKernel && h.Kernel == j.all[0].Kernel && h.Kernel != ""
	}
	return r
}

// auto is what data.volume: auto makes of it: a mode, Auto when it is not the same on all
// machines, empty when it refuses it on one.
func (r Joint) auto() string {
	modes := make([]Mode, 0, len(r.Machines))
	for _, m := range r.Machines {
		modes = append(modes, m.Auto)
	}
	switch {
	case slices.Contains(modes, ""):
		return ""
	case len(slices.Compact(modes)) > 1:
		return Auto
	}
	return string(modes[0])
}

// judge chooses the setting: what auto would do if that is right, else the cheapest mode
// that is.
func (r *Joint) judge(volume string) {
	auto, right := r.auto(), []string{}
	for _, w := range r.Ways { // the cheapest first
		if w.Result == Right {
			right = append(right, w.Mode)
		}
	}
	switch {
	case len(right) == 0:
		r.Verdict, r.Text = Unfit, "no setting of data.volume is right here"
		r.Next = "take another volume, or other mount options: docs/volumes.md says which"
		if volume != Auto {
			r.Text = fmt.Sprintf("data.volume: %s is not right here", volume)
			r.Next = "try all settings (without --volume), or take another volume"
		}
		return
	case slices.Contains(right, auto):
		r.Setting = auto
	default:
		r.Setting = right[0]
	}
	r.Verdict, r.Text = Fit, fmt.Sprintf("data.volume: %s is right here", r.Setting)
	switch {
	case r.Setting == Auto:
		r.Text += ", which is not the same mode on all machines"
	case r.Setting == auto:
		r.Text += ", and it is what auto does"
	case auto == "":
		r.Text += "; auto refuses this kind of volume"
		r.Next = "vouch for it on every machine: write data.volume: " + r.Setting
	default:
		r.Text += fmt.Sprintf(", and auto does something else (%s)", r.autoText())
		r.Next = "write on every machine: data.volume: " + r.Setting
	}
	if r.OneKernel {
		r.Text += "; but all ran on one kernel, which shows nothing of the caches of a second machine"
	}
}

func (r Joint) autoText() string {
	var texts []string
	for _, m := range r.Machines {
		texts = append(texts, string(m.Auto))
	}
	return strings.Join(slices.Compact(texts), ", ")
}
