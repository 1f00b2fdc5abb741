package main

import (
	"context"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// failSession is a session with failpoints around the requests that change something.
type failSession struct {
	fleet.Session
	points *failpoints
}

func (s *failSession) Create(ctx context.Context, path string, data []byte, flags int32) (string, error) {
	joins := strings.Contains(path, "/queue/")
	if joins {
		if err := s.points.reach("join.create.before"); err != nil {
			return "", err
		}
	}
	made, err := s.Session.Create(ctx, path, data, flags)
	if joins && err == nil {
		err = s.points.reach("join.create.after")
	}
	return made, err
}

// Multi is a commit, or the publishing of an incarnation, which keeps the place; or
// nothing of the holder's, when head is not in it.
func (s *failSession) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	step, about, heads := "commit", event{}, false
	for _, op := range ops {
		var data []byte
		switch op := op.(type) {
		case *zk.CheckVersionRequest: // keeps its place
			step = "publish"
		case *zk.SetDataRequest:
			data = op.Data
		case *zk.CreateRequest:
			data = op.Data
		}
		if head, err := frame.ParseHead(data); err == nil {
			about.Turn, about.Token, heads = head.Turn, head.Token.String(), true
		}
	}
	if !heads {
		return s.Session.Multi(ctx, ops...)
	}
	if err := s.at(step+".before", about); err != nil {
		return nil, err
	}
	results, err := s.Session.Multi(ctx, ops...)
	if err != nil {
		return results, err
	}
	s.points.atReceipt(step == "commit")
	return results, s.at(step+".after", about)
}

func (s *failSession) at(name string, about event) error {
	if f := s.points.take(name); f != nil {
		return s.points.do(*f, about)
	}
	return nil
}
