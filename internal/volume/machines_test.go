package volume

import (
	"context"
	"fmt"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/meeting"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// brisk is enough for what is told of two pages.
var brisk = effort{turns: 40, larges: 2}

// machine is one that takes part in a check.
type machine struct {
	disk    disk
	on      string // the line of mountinfo; "" is a local file system
	dir     string
	setting string
	kernel  string
	sess    *session.Session
	peers   func(Peers) Peers // in place of what the meeting gives
	spawned func(process) process

	got Joint
	err error
}

// machines are two, each with a kernel of its own and one directory.
func machines(t *testing.T, disks ...disk) []*machine {
	dir := t.TempDir()
	all := make([]*machine, 2)
	for i := range all {
		all[i] = &machine{disk: osDisk{}, dir: dir, setting: Auto, kernel: fmt.Sprint(i)}
		if len(disks) > 0 {
			all[i].disk = disks[i]
		}
	}
	return all
}

// check has them meet and check, and looks whether anything is left behind.
func check(t *testing.T, patience time.Duration, all []*machine) {
	t.Helper()
	where := path.Join(zktest.Root(t), "check-volume", "it")
	addr := zktest.Shared(t)
	var group sync.WaitGroup
	for i, m := range all {
		m.sess = recipetest.Dial(t, addr, 10*time.Second)
		group.Go(func() {
			who := queue.Member{Agent: string(rune('a' + i)), Host: "host"}
			g, err := meeting.Meeting{Sess: m.sess, Dir: where, Size: len(all), Who: who}.Begin(recipetest.Background(t))
			if err != nil {
				m.err = err
				return
			}
			defer g.Leave()
			j := &joint{
				JointOptions: JointOptions{
					Dir: m.dir, Volume: m.setting, ID: g.ID, Index: g.Index, Kernel: m.kernel, Peers: g,
					Names: []string{g.Name(0), g.Name(1)}, Patience: patience,
				},
				mount: (&liar{on: m.on}).mountOf, now: time.Now, effort: brisk,
			}
			if m.peers != nil {
				j.Peers = m.peers(g)
			}
			j.spawn = func(context.Context) (process, error) {
				p := process(thread{newWorker(m.disk)})
				if m.spawned != nil {
					p = m.spawned(p)
				}
				return p, nil
			}
			m.got, m.err = j.check(recipetest.Background(t))
		})
	}
	group.Wait()
	for _, m := range all {
		if _, err := os.Stat(m.dir); err == nil {
			mustBeEmpty(t, m.dir)
		}
	}
}

func (r Joint) way(t testing.TB, mode string) Way {
	t.Helper()
	for _, w := range r.Ways {
		if w.Mode == mode {
			return w
		}
	}
	t.Fatalf("%s was not tried: %+v", mode, r.Ways)
	return Way{}
}

func caching(noDirect bool) []disk {
	return []disk{&client{noDirect: noDirect}, &client{noDirect: noDirect}}
}
