package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// wired starts a fleet each of whose agents has wires of its own to the servers.
func (r *round) wired(children, plain int) error {
	for i := range children + plain {
		s := r.add(i >= children)
		for _, server := range r.ensemble.servers {
			l, err := r.toxi.link(r.ctx, fmt.Sprintf("%s-%s-%d", r.fleet, s.name, server.id), "127.0.0.1:0", server.addr)
			if err != nil {
				return err
			}
			s.links = append(s.links, l)
			r.cleanup(func() { _ = l.remove(context.WithoutCancel(r.ctx)) }) // it goes with toxiproxy at the latest
		}
	}
	for _, s := range r.slots {
		if err := r.spawn(s); err != nil {
			return err
		}
	}
	return r.warm()
}

// each does something to all wires of a slot.
func (s *slot) each(do func(link) error) error {
	for _, l := range s.links {
		if err := do(l); err != nil {
			return err
		}
	}
	return nil
}

// poison and cure put toxics on all wires of a slot and take them away.
func (r *round) poison(s *slot, toxics ...toxic) error {
	for _, t := range toxics {
		if err := s.each(func(l link) error { return l.add(r.ctx, t) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) cure(s *slot, toxics ...toxic) error {
	for _, t := range toxics {
		if err := s.each(func(l link) error { return l.drop(r.ctx, t) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) cut(s *slot) error {
	return s.each(func(l link) error { return l.enable(r.ctx, false) })
}

func (r *round) mend(s *slot) error {
	return s.each(func(l link) error { return l.enable(r.ctx, true) })
}

func (r *round) anyone() *proc {
	all := r.live()
	return all[r.rng.IntN(len(all))]
}

// connectionWords are in the log of an agent that lost a connection.
var connectionWords = []string{"connection to ZooKeeper lost", "session is over"}

// notices waits until an agent says one of these; else the fault did not reach it.
func (r *round) notices(p *proc, mark int64, limit time.Duration, words ...string) error {
	return within(r.ctx, limit, fmt.Sprintf("%s says %q; the end of its log: %s", p.id, words[0], p.lastWords()), func() bool { return p.said(mark, words...) })
}

// deadlineSlack is how much later than its session's timeout a starved agent may say
// that the session is over.
const deadlineSlack = 20 * time.Second

// netCut: row 5. Shorter and longer than a session.
func netCut(r *round) error {
	if err := r.wired(2, 2); err != nil {
		return err
	}
	for i := range 4 {
		p := r.anyone()
		mark := p.mark()
		if err := r.cut(p.slot); err != nil {
			return err
		}
		if err := r.notices(p, mark, 10*time.Second, connectionWords...); err != nil {
			return orRejected(err)
		}
		step := "cut, short"
		if i%2 == 1 {
			step = "cut, longer than the session"
			if err := r.notices(p, mark, r.timeout+deadlineSlack, "session is over"); err != nil {
				return err
			}
			if err := r.progressOf(r.others(p), 2); err != nil {
				return err
			}
		}
		r.fire(step)
		if err := r.mend(p.slot); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// netHalfOpen: row 5. The connection stays and carries nothing.
func netHalfOpen(r *round) error {
	if err := r.wired(2, 2); err != nil {
		return err
	}
	for range 3 {
		p := r.anyone()
		toxics := []toxic{dropped("upstream"), dropped("downstream")}
		if n := r.rng.IntN(3); n < 2 {
			toxics = toxics[n : n+1]
		}
		if err := r.poison(p.slot, toxics...); err != nil {
			return err
		}
		if err := within(r.ctx, r.timeout+deadlineSlack, p.id+" has no session", p.sessionless); err != nil {
			return err
		}
		if err := r.progressOf(r.others(p), 2); err != nil {
			return err
		}
		r.fire(fmt.Sprintf("half-open, %d directions", len(toxics)))
		if err := r.cure(p.slot, toxics...); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// netReset: row 5. Every connection of the fleet is reset, again and again.
func netReset(r *round) error {
	if err := r.wired(2, 2); err != nil {
		return err
	}
	reset := toxic{"reset_peer", "downstream", map[string]any{"timeout": 0}}
	for range 6 {
		var procs []*proc
		for _, p := range r.live() {
			if r.rng.IntN(3) > 0 {
				procs = append(procs, p)
			}
		}
		marks := map[*proc]int64{}
		for _, p := range procs {
			marks[p] = p.mark()
			if err := r.poison(p.slot, reset); err != nil {
				return err
			}
		}
		for _, p := range procs {
			if err := r.notices(p, marks[p], r.timeout+deadlineSlack, connectionWords...); err != nil {
				return orRejected(err)
			}
		}
		for _, p := range procs {
			if err := r.cure(p.slot, reset); err != nil {
				return err
			}
		}
		if len(procs) > 0 {
			r.fire(fmt.Sprintf("reset of %d", len(procs)))
		}
		if err := r.progress(1); err != nil {
			return err
		}
	}
	return nil
}

// netLatency: row 5. Answers take about as long as a session may.
func netLatency(r *round) error {
	if err := r.wired(2, 2); err != nil {
		return err
	}
	for range 3 {
		p := r.anyone()
		late := int(r.timeout.Milliseconds()) * (30 + r.rng.IntN(80)) / 100
		toxics := []toxic{
			{"latency", "downstream", map[string]any{"latency": late, "jitter": late / 4}},
			{"slicer", "upstream", map[string]any{"average_size": 16, "size_variation": 8, "delay": 200}},
		}
		mark, before := p.mark(), time.Now()
		if err := r.poison(p.slot, toxics...); err != nil {
			return err
		}
		// Either it gets there, slowly, or its session ends of it.
		_, from, err := p.acked()
		if err != nil {
			return err
		}
		err = until(r.ctx, patience, func() (bool, error) {
			_, now, err := p.acked()
			return now >= from+2 && time.Since(before) > time.Duration(late)*time.Millisecond || p.said(mark, connectionWords...), err
		})
		if err != nil {
			return fmt.Errorf("%s with answers %d ms late: %w", p.id, late, err)
		}
		r.fire("latency and slices")
		if err := r.cure(p.slot, toxics...); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// silentServer: row 7. Something takes connections and says nothing.
func silentServer(r *round) error {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	heard := make(chan struct{}, 1024)
	go func() { // ends with the listener
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			heard <- struct{}{}
		}
	}()
	r.cleanup(func() { silent.Close() })
	addr := silent.Addr().String()
	if err := r.working(2, 1); err != nil {
		return err
	}
	for i := range 3 { // beside one that speaks: it is passed over, by those who try it first
		s := r.add(true)
		s.links = []link{{listen: addr}, {listen: r.ensemble.servers[i%len(r.ensemble.servers)].addr}}
		if err := r.spawn(s); err != nil {
			return err
		}
	}
	if err := r.progress(2); err != nil {
		return err
	}
	for n := len(heard); n > 0; n-- {
		<-heard
		r.fire("a silent server among others")
	}
	began := time.Now() // and alone
	out, code, err := r.command("run", "--turns", "1", "--data", r.data(), "--fleet", r.fleet, "--zookeeper", addr, "--connect-timeout", "3s")
	if err != nil {
		return err
	}
	if took := time.Since(began); code != exitFailed || !contains(out, "no ZooKeeper server answers", addr) || took > 30*time.Second {
		return fmt.Errorf("an agent whose only server is silent: exit %d after %v: %s", code, took, out)
	}
	r.fire("a silent server alone")
	return r.progress(2)
}
