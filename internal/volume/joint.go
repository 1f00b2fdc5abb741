package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// Peers are the machines that check a volume together, as package meeting brings them
// together. All of them take the same steps: what they do next is decided from what all of
// them gave.
type Peers interface {
	// Exchange gives our value for the next step, and returns everybody's, ours among
	// them, once all have given theirs.
	Exchange(ctx context.Context, mine json.RawMessage) ([]json.RawMessage, error)
}

// JointOptions for CheckJointly. All but Begin are required.
type JointOptions struct {
	Dir      string
	Volume   string   // the setting data.volume: Auto tries all modes, a Mode that one alone
	ID       string   // no other check's
	Names    []string // the machines', in the order in which Peers has them
	Index    int      // ours
	Kernel   string   // tells ours from others: the boot ID
	Peers    Peers
	Child    []string          // the command line of a process that runs Serve
	Patience time.Duration     // how long the others' new files may stay unseen
	Begin    func(what string) // told what is tried now
}

// DirectoryPatience is how long a directory's cache on a network volume may hide a new
// file, and more.
const DirectoryPatience = 90 * time.Second

// ErrSettings says that the machines were not asked for the same.
var ErrSettings = errors.New("the machines have different settings")

// joint is one machine's part in a check.
type joint struct {
	JointOptions
	mount func(dir string) (mount, error)
	spawn func(context.Context) (process, error)
	now   func() time.Time

	effort effort

	work  string // the directory to try things in, the same for all
	chunk int    // the most bytes of one write with O_DIRECT
	proc  process
	all   []hello
}

// hello is what each machine says at first.
type hello struct {
	Dir      string `json:"dir"`
	Type     string `json:"type"`
	Mode     Mode   `json:"mode"` // what auto makes of it, empty when it refuses
	Why      string `json:"why"`
	Next     string `json:"next"`
	Hopeless bool   `json:"hopeless"`
	Kernel   string `json:"kernel"`
	Volume   string `json:"volume"`
	Nonce    string `json:"nonce"`
	Err      string `json:"err"` // why nothing can be tried
}

// Usable tells whether anything can be tried in a directory, by making a file there. The
// errors are those of Check.
func Usable(dir string) error {
	c := &checker{Options: Options{Dir: dir}}
	if err := c.makeWork(); err != nil {
		return err
	}
	return os.Remove(c.work)
}

// CheckJointly tries on several machines at once how files of the directory must be opened
// so that what one writes is kept and seen by the others. All get the same report. It
// removes what it made, though ctx ended. With an error there is no verdict.
func CheckJointly(ctx context.Context, opts JointOptions) (Joint, error) {
	j := &joint{JointOptions: opts, mount: mountOf, now: time.Now, effort: usual}
	j.spawn = func(ctx context.Context) (process, error) { return startChild(ctx, opts.Child) }
	return j.check(ctx)
}

func (j *joint) check(ctx context.Context) (r Joint, err error) {
	j.work = filepath.Join(j.Dir, ".turnstile-check-"+j.ID)
	if j.proc, err = j.spawn(ctx); err != nil {
		return r, err
	}
	defer func() {
		j.proc.kill() // so that it has nothing open there
		if gone := j.remove(); gone != nil {
			err = errors.Join(err, fmt.Errorf("remove what the check made: %w; remove %s by hand unless another machine still checks", gone, j.work))
		}
	}()
	r, err = j.try(ctx)
	if err == nil || errors.As(err, new(agreedError)) {
		// Who leaves before the others have read what it said last is missed by them. Who is
		// missed by us has read what it needed.
		_, _ = share(ctx, j.Peers, 0)
	}
	return r, err
}

// agreedError is one that ends the check on all machines, at the same step.
type agreedError struct{ error }

func (e agreedError) Unwrap() error { return e.error }

func (j *joint) try(ctx context.Context) (r Joint, err error) {
	mine, failure := j.arrive()
	if j.all, err = share(ctx, j.Peers, mine); err != nil {
		return r, errors.Join(failure, err)
	}
	if err := j.compare(failure); err != nil {
		return r, agreedError{err}
	}
	r = j.report()
	if i := slices.IndexFunc(j.all, func(h hello) bool { return h.Hopeless }); i >= 0 {
		r.Verdict, r.Text, r.Next = Unfit, j.all[i].Why, j.all[i].Next
		return r, nil
	}
	apart, err := j.meetOnVolume(ctx)
	if err != nil {
		return Joint{}, err
	}
	if apart != "" {
		r.Verdict, r.Text = Unfit, "these are two different volumes: "+apart
		r.Next = "mount the same export on all machines, and give the directory's path there; agents on both would not share one file"
		return r, nil
	}
	r.SameVolume = true
	for _, w := range j.ways() {
		tried, err := j.tryWay(ctx, w)
		if err != nil {
			return Joint{}, fmt.Errorf("check %s: %w", w.name, err)
		}
		r.Ways = append(r.Ways, tried)
	}
	r.judge(j.Volume)
	return r, nil
}

// arrive makes our directory, and our file in it that the others must see. The error is
// for ourselves: the others are told of it.
func (j *joint) arrive() (hello, error) {
	h := hello{Dir: j.Dir, Kernel: j.Kernel, Volume: j.Volume, Nonce: uuid.NewString()}
	m, err := j.mount(j.Dir)
	if err == nil {
		k := kindOf(j.Dir, m)
		h.Type, h.Mode, h.Why, h.Next, h.Hopeless, j.chunk = k.Type, k.Mode, k.Why, k.Next, k.hopeless, k.Chunk
		err = os.Mkdir(j.work, 0o777)
	}
	if err == nil || errors.Is(err, os.ErrExist) { // another was first
		err = writeFile(j.sign(j.Index), h.Nonce)
	}
	if err != nil {
		h.Err = err.Error()
	}
	return h, err
}

// sign is the file by which the others see that a machine is on their volume.
func (j *joint) sign(index int) string { return filepath.Join(j.work, fmt.Sprintf("here-%d", index)) }

func writeFile(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// compare tells what keeps the machines from checking together.
func (j *joint) compare(ours error) error {
	for i, h := range j.all {
		switch {
		case i == j.Index && ours != nil:
			return ours
		case h.Err != "":
			return fmt.Errorf("%s cannot use %s: %s", j.Names[i], j.Dir, h.Err)
		case h.Volume != j.all[0].Volume:
			return fmt.Errorf("%w: data.volume is %q on %s, and %q on %s; give all the same --volume",
				ErrSettings, j.all[0].Volume, j.Names[0], h.Volume, j.Names[i])
		}
	}
	return nil
}

// meetOnVolume finds out whether all see the others' files. apart says who does not; it is
// empty when all do. The first machine's clock decides when it was looked for long enough.
func (j *joint) meetOnVolume(ctx context.Context) (apart string, err error) {
	type look struct {
		Unseen []int `json:"unseen"`
		Enough bool  `json:"enough"`
	}
	for began := j.now(); ; {
		mine := look{Enough: j.now().Sub(began) > j.Patience}
		for i, h := range j.all {
			content, err := os.ReadFile(j.sign(i))
			if err != nil || string(content) != h.Nonce {
				mine.Unseen = append(mine.Unseen, i)
			}
		}
		all, err := share(ctx, j.Peers, mine)
		if err != nil {
			return "", err
		}
		var who []string
		for i, l := range all {
			for _, k := range l.Unseen {
				who = append(who, fmt.Sprintf("%s does not see the file of %s", j.Names[i], j.Names[k]))
			}
		}
		if len(who) == 0 || all[0].Enough {
			return strings.Join(who, "; "), nil
		}
		j.begin(fmt.Sprintf("whether it is one volume: %s yet (a cache may hide it: looking for %v)", who[0], j.Patience))
		if err := rest(ctx); err != nil {
			return "", err
		}
	}
}

// rest is between two looks at what a cache may hide: no event tells of it.
func rest(ctx context.Context) error {
	select {
	case <-time.After(300 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *joint) begin(what string) {
	if j.Begin != nil {
		j.Begin(what)
	}
}

// remove removes the check's directory. All machines do, once they have nothing open any
// more; on a network volume ours may still have in its cache what another has removed.
func (j *joint) remove() error {
	err := os.RemoveAll(j.work)
	if errors.Is(err, syscall.ESTALE) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// share is Peers' Exchange for values of one type.
func share[T any](ctx context.Context, p Peers, mine T) ([]T, error) {
	text, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	texts, err := p.Exchange(ctx, text)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal(text, &all[i]); err != nil {
			return nil, fmt.Errorf("another machine said %s: %w; are all of one version?", text, err)
		}
	}
	return all, nil
}
