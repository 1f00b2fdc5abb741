// Package api is the service's HTTP.
//
//	POST   /reserve_ticket           {"ticket_id":"…","client_id":"…"}
//	POST   /book_ticket              {"ticket_id":"…","client_id":"…"}
//	GET    /available_tickets
//	GET    /tickets/ID
//	DELETE /tickets/ID/reservation   {"client_id":"…"}
//	GET    /healthz, /readyz
//
// An answer is 200, or has a body that says why not: {"error":{"code":"…","message":"…"}}. The
// status is 400 when the customer does not get what he asked for, 404, 405, 413 and 415 as HTTP
// has them, and 503 when the database or the lock service does not answer: what was asked for
// may have been done or not. Send the same request again.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"path"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/booking"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

const (
	longest = 64 << 10         // a request's body, in bytes
	patient = 10 * time.Second // a request, with all that it waits for
)

// Reply is every answer's body. What is not said is left out.
type Reply struct {
	Ticket    string    `json:"ticket_id,omitempty"`
	Client    string    `json:"client_id,omitempty"`
	State     string    `json:"state,omitempty"`      // available, reserved or booked
	ExpiresIn float64   `json:"expires_in,omitempty"` // a reservation, in seconds
	Available *[]string `json:"available_tickets,omitempty"`
	Status    string    `json:"status,omitempty"` // of healthz and readyz
	Error     *Error    `json:"error,omitempty"`
}

// Error says why not. Code is stable, Message is for people.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Server is the handler of one instance.
type Server struct {
	service *booking.Service
	log     *zap.Logger
	mux     *http.ServeMux

	mu    sync.Mutex
	ready string // what was logged last of whether it can sell
}

// New gives the handler of one instance.
func New(service *booking.Service, log *zap.Logger) *Server {
	s := &Server{service: service, log: log, mux: http.NewServeMux()}
	for path, methods := range map[string]map[string]func(*http.Request) (Reply, error){
		"/reserve_ticket":           {http.MethodPost: s.reserve},
		"/book_ticket":              {http.MethodPost: s.book},
		"/available_tickets":        {http.MethodGet: s.available},
		"/tickets/{id}":             {http.MethodGet: s.ticket},
		"/tickets/{id}/reservation": {http.MethodDelete: s.cancel},
		"/healthz":                  {http.MethodGet: s.healthy},
		readyPath:                   {http.MethodGet: s.readyz},
		"/":                         {},
	} {
		s.mux.Handle(path, s.only(methods))
	}
	return s
}

const readyPath = "/readyz"

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The mux would send //reserve_ticket elsewhere, with a page for people.
	asked := r.URL.EscapedPath()
	if clean := path.Clean("/" + asked); asked != clean && asked != clean+"/" {
		s.answer(w, http.StatusNotFound, notHere(r))
		return
	}
	s.mux.ServeHTTP(w, r)
}

func notHere(r *http.Request) Reply {
	return failed("not_found", r.URL.Path+" is not here; try GET /available_tickets")
}

// only answers requests of certain methods.
func (s *Server) only(methods map[string]func(*http.Request) (Reply, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		do := methods[method]
		switch {
		case len(methods) == 0:
			s.answer(w, http.StatusNotFound, notHere(r))
			return
		case do == nil:
			for allowed := range methods {
				w.Header().Add("Allow", allowed)
			}
			s.answer(w, http.StatusMethodNotAllowed, failed("wrong_method", r.Method+" is not for "+r.URL.Path+"; use "+w.Header().Get("Allow")))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patient)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, longest)
		reply, err := do(r.WithContext(ctx))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.answer(w, http.StatusOK, reply)
	})
}

func (s *Server) reserve(r *http.Request) (Reply, error) {
	ask, err := read(r)
	if err != nil {
		return Reply{}, err
	}
	held, err := s.service.Reserve(r.Context(), ask.Ticket, ask.Client)
	return Reply{Ticket: ask.Ticket, Client: ask.Client, State: "reserved", ExpiresIn: seconds(held.Left)}, err
}

func (s *Server) book(r *http.Request) (Reply, error) {
	ask, err := read(r)
	if err != nil {
		return Reply{}, err
	}
	return Reply{Ticket: ask.Ticket, Client: ask.Client, State: "booked"}, s.service.Book(r.Context(), ask.Ticket, ask.Client)
}

func (s *Server) cancel(r *http.Request) (Reply, error) {
	ask, err := read(r)
	if err != nil {
		return Reply{}, err
	}
	id := r.PathValue("id")
	return Reply{Ticket: id, Client: ask.Client, State: "available"}, s.service.Cancel(r.Context(), id, ask.Client)
}

func (s *Server) available(r *http.Request) (Reply, error) {
	ids, err := s.service.Available(r.Context())
	return Reply{Available: &ids}, err
}

func (s *Server) ticket(r *http.Request) (Reply, error) {
	t, err := s.service.State(r.Context(), r.PathValue("id"))
	return Reply{Ticket: t.Ticket, State: t.State, ExpiresIn: seconds(t.Left)}, err
}

func (s *Server) healthy(*http.Request) (Reply, error) { return Reply{Status: "alive"}, nil }

func (s *Server) readyz(r *http.Request) (Reply, error) {
	return Reply{Status: "ready"}, s.Ready(r.Context())
}

// Ready tells whether the instance can sell, and logs when that has changed: it is asked each
// second.
func (s *Server) Ready(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, 2*time.Second) // who asks does not wait longer
	defer cancel()
	err := s.service.Ready(soon)
	if ctx.Err() != nil { // whoever asked has gone: that says nothing of us
		return err
	}
	now := "can sell"
	if err != nil {
		now = "cannot sell: " + s.unavailable(err).Message
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now != s.ready && err != nil {
		s.log.Warn(now, zap.Error(err))
	} else if now != s.ready {
		s.log.Info(now)
	}
	s.ready = now
	return err
}

type ask struct {
	Ticket string `json:"ticket_id"`
	Client string `json:"client_id"`
}

// badRequest is a request that cannot be read.
type badRequest struct {
	status int
	why    Error
}

func (b *badRequest) Error() string { return b.why.Message }

func bad(status int, code, message string) error {
	return &badRequest{status, Error{code, message}}
}

// example is a body that asks for a method.
func example(method string) string {
	if method == http.MethodDelete { // its path names the ticket
		return `{"client_id":"alice"}`
	}
	return `{"ticket_id":"ticket-1","client_id":"alice"}`
}

func read(r *http.Request) (a ask, err error) {
	if kind := r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return a, bad(http.StatusUnsupportedMediaType, "not_json", "the content type is "+kind+": send the header Content-Type: application/json")
		}
	}
	body, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	like := "; it looks like " + example(r.Method)
	switch {
	case errors.As(err, &long):
		return a, bad(http.StatusRequestEntityTooLarge, "too_large", "the body has more than 64 KiB"+like)
	case err != nil:
		return a, bad(http.StatusBadRequest, "bad_body", "the body ended early; send it again")
	case len(body) == 0:
		return a, bad(http.StatusBadRequest, "no_body", "there is no body"+like)
	}
	if !utf8.Valid(body) { // what is no character would become the same one for all
		return a, bad(http.StatusBadRequest, "bad_json", "the body is not in UTF-8")
	}
	if err := json.Unmarshal(body, &a); err != nil {
		want := "the strings ticket_id and client_id"
		if r.Method == http.MethodDelete {
			want = "the string client_id"
		}
		return a, bad(http.StatusBadRequest, "bad_json", "the body is not a JSON object with "+want+like)
	}
	return a, nil
}

// refuse answers with what an error means to a customer.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *booking.Refusal
	var unread *badRequest
	switch {
	case errors.As(err, &unread):
		s.answer(w, unread.status, Reply{Error: &unread.why})
		return
	case errors.As(err, &refusal):
		status := http.StatusBadRequest
		if refusal.Code == booking.Unknown && r.Method == http.MethodGet {
			status = http.StatusNotFound
		}
		s.answer(w, status, failed(refusal.Code, refusal.Why))
		return
	}
	if r.URL.Path != readyPath { // Ready has logged it
		s.log.Warn("a request failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
	w.Header().Set("Retry-After", "1")
	why := s.unavailable(err)
	if why.Code == "unavailable" {
		why.Message += "; send the same request again"
	}
	s.answer(w, http.StatusServiceUnavailable, Reply{Error: &why})
}

// unavailable is what customers hear of an error that is none of theirs. Hosts, users and what
// the drivers say is for the log.
func (s *Server) unavailable(err error) Error {
	lockService := "Redis"
	if s.service.LockType == locks.ZooKeeper {
		lockService = "ZooKeeper"
	}
	switch {
	case errors.Is(err, booking.ErrOtherType):
		return Error{"other_lock_type", err.Error()}
	case errors.Is(err, store.ErrNotReady):
		return Error{"not_set_up", "the database has no tables: run `tickets init`"}
	case errors.Is(err, locks.ErrEpoch):
		return Error{"unavailable", "the lock service (" + lockService + ") begins anew"}
	case errors.Is(err, locks.ErrUnavailable):
		return Error{"unavailable", "the lock service (" + lockService + ") does not answer"}
	}
	return Error{"unavailable", "the database does not answer"}
}

func failed(code, message string) Reply { return Reply{Error: &Error{code, message}} }

func (s *Server) answer(w http.ResponseWriter, status int, reply Reply) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(reply); err != nil {
		s.log.Debug("an answer was not sent", zap.Error(err)) // its customer has gone
	}
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
