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
	joins := strings.Contains(path, "/queue-")
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

// Multi is a commit, the beginning of a file, which keeps the place, the deletion of
// turns that are on disk; or nothing of the holder's.
func (s *failSession) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	step, about := describe(ops)
	if step == "" {
		return s.Session.Multi(ctx, ops...)
	}
	if err := s.at(step+".before", about); err != nil {
		return nil, err
	}
	results, err := s.Session.Multi(ctx, ops...)
	if err != nil {
		return results, err
	}
	return results, s.at(step+".after", about)
}

// describe tells what a transaction is, "" when it is nothing of ours.
func describe(ops []any) (step string, about event) {
	for _, op := range ops {
		var data []byte
		switch op := op.(type) {
		case *zk.CheckVersionRequest: // keeps its place
			step = "begin"
		case *zk.SetDataRequest:
			data = op.Data
		case *zk.CreateRequest:
			data = op.Data
		case *zk.DeleteRequest:
			if step == "" && strings.Contains(op.Path, "/turns/") {
				step = "drop"
			}
		}
		if head, err := frame.ParseHead(data); err == nil {
			about.Turn, about.Token = head.Turn, head.Token.String()
			if step != "begin" {
				step = "commit"
			}
		}
	}
	if step == "begin" && about.Token == "" {
		return "", about // a write that changes nothing
	}
	return step, about
}

func (s *failSession) at(name string, about event) error {
	if f := s.points.take(name); f != nil {
		return s.points.do(*f, about)
	}
	return nil
}
