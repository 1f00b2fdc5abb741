package main

import (
	"context"
	"fmt"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/session"
)

// candidate is a place in an election, for people and scripts.
type candidate struct {
	Agent string      `json:"agent"`
	Host  string      `json:"host"`
	Since time.Time   `json:"since"` // it has been a candidate, by ZooKeeper's clock
	Token frame.Token `json:"token"`
	Place string      `json:"place"`
}

// election is one as `elect ls` and `elect show` tell it.
type election struct {
	Name       string      `json:"name"`
	Leader     *candidate  `json:"leader"`     // null when nobody stands
	Candidates []candidate `json:"candidates"` // who waits, in order
	Foreign    []string    `json:"foreign"`    // nodes that are no candidacies, and ignored
}

// elections are what `elect ls` and `elect show` tell of.
var elections = named[election]{"election", electionDir, lookAtElection, election.line, election.text}

func lookAtElection(ctx context.Context, sess *session.Session, dir, name string) (election, error) {
	e := election{Name: name, Candidates: []candidate{}, Foreign: []string{}}
	entries, err := elect.Look(ctx, sess, dir)
	for _, entry := range entries {
		who := candidate{entry.Agent, entry.Host, entry.Since, frame.Token(entry.Token), entry.Place}
		switch {
		case entry.Foreign:
			e.Foreign = append(e.Foreign, entry.Place)
		case e.Leader == nil:
			e.Leader = &who
		default:
			e.Candidates = append(e.Candidates, who)
		}
	}
	return e, err
}

// line is the election in a few words.
func (e election) line() string {
	leader := "nobody"
	if e.Leader != nil {
		leader = fmt.Sprintf("%s on %s", e.Leader.Agent, e.Leader.Host)
	}
	return fmt.Sprintf("%-16s  led by %s, waiting: %d\n", e.Name, leader, len(e.Candidates))
}

func (e election) text() string {
	text := fmt.Sprintf("election  %s\n", e.Name)
	line := func(c candidate) string {
		return fmt.Sprintf("%s on %s, a candidate since %s", c.Agent, c.Host, c.Since.Format(time.RFC3339))
	}
	if e.Leader == nil {
		text += "leader    nobody\n"
	} else {
		text += fmt.Sprintf("leader    %s, token %s\n", line(*e.Leader), e.Leader.Token)
	}
	for i, c := range e.Candidates {
		text += fmt.Sprintf("%8d  %s\n", i+1, line(c))
	}
	for _, name := range e.Foreign {
		text += fmt.Sprintf("?         %q is no candidacy of ours and ignored\n", name)
	}
	return text
}
