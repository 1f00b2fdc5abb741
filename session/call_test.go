package session

import (
	"context"
	"errors"
	"testing"
	"time"
)

// connected is a pretended session whose connection serves it.
func connected(t *testing.T) *pretend {
	p := newPretend(t)
	p.wire.granted, p.wire.heard = 10*time.Second, p.clock
	p.tap.attached.Store(true)
	return p
}

// waits tells whether Close would wait for a request.
func (p *pretend) waits() bool {
	none := make(chan struct{})
	go func() { p.requests.Wait(); close(none) }()
	return !within(50*time.Millisecond, none)
}

func TestCloseCountsEveryRequest(t *testing.T) {
	may, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, ctx := range map[string]context.Context{"may end": may, "never ends": context.Background()} {
		t.Run(name, func(t *testing.T) {
			p := connected(t)
			begun, answer, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := call(ctx, p.Session, 0, func() (int, error) { close(begun); <-answer; return 1, nil })
				ended <- err
			}()
			<-begun
			if !p.waits() {
				t.Error("Close would not wait for a request under way")
			}
			close(answer)
			if err := <-ended; err != nil || p.waits() {
				t.Errorf("%v; Close would wait for nothing", err)
			}
		})
	}
}

func TestNoRequestIsBegunAfterTheEnd(t *testing.T) {
	may, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, ctx := range map[string]context.Context{"may end": may, "never ends": context.Background()} {
		for what, end := range map[string]func(*pretend) error{
			"closing": func(p *pretend) error { p.shut = true; return ErrClosed },
			"closed":  func(p *pretend) error { p.end(ErrClosed); return ErrClosed },
			"expired": func(p *pretend) error { p.clock += 10 * time.Second; return ErrExpired },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				p := connected(t)
				want := end(p)
				_, err := call(ctx, p.Session, 0, func() (int, error) { t.Error("it was begun"); return 1, nil })
				if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
		}
	}
}

// While there is no connection, the library may be late to let go of a request.
func TestARequestThatBeginsDisconnectedEndsWithTheSession(t *testing.T) {
	p := connected(t)
	p.tap.attached.Store(false)
	begun, answer, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	defer close(answer)
	go func() {
		_, err := call(context.Background(), p.Session, 0, func() (int, error) { close(begun); <-answer; return 1, nil })
		ended <- err
	}()
	<-begun
	p.end(ErrExpired)
	select {
	case err := <-ended:
		if !errors.Is(err, ErrExpired) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the request outlasts the session")
	}
}
