package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/api"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/booking"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

func newServer(t testing.TB, kind string, l locks.Locks, db *store.Store) *httptest.Server {
	service := &booking.Service{Locks: l, Store: db, LockType: kind, Hold: time.Minute, Log: zap.NewNop()}
	server := httptest.NewServer(api.New(service, zap.NewNop()))
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, server *httptest.Server, method, path, kind, body string) (int, api.Reply) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var reply api.Reply
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		t.Fatalf("%s %s: %d, and no JSON: %v", method, path, response.StatusCode, err)
	}
	if (response.StatusCode == http.StatusOK) != (reply.Error == nil) || reply.Error != nil && (reply.Error.Code == "" || len(reply.Error.Message) < 10) {
		t.Errorf("%s %s: %d with %+v", method, path, response.StatusCode, reply.Error)
	}
	return response.StatusCode, reply
}

const json1 = "application/json"

func TestServer_aTicketFromListToSale(t *testing.T) {
	stage.Each(t, func(t *testing.T, s *stage.Stage) {
		server := newServer(t, s.Kind, s.Open("one"), stage.Store(t, s.Kind, 2))
		alice, bob := `{"ticket_id":"ticket-1","client_id":"alice"}`, `{"ticket_id":"ticket-1","client_id":"bob"}`
		for _, c := range []struct {
			method, path, body string
			status             int
			code, state        string
		}{
			{"GET", "/available_tickets", "", 200, "", ""},
			{"POST", "/book_ticket", alice, 400, "not_reserved", ""},
			{"POST", "/reserve_ticket", alice, 200, "", "reserved"},
			{"POST", "/reserve_ticket", bob, 400, "reserved", ""},
			{"GET", "/tickets/ticket-1", "", 200, "", "reserved"},
			{"DELETE", "/tickets/ticket-1/reservation", bob, 400, "not_reserved", ""},
			{"DELETE", "/tickets/ticket-1/reservation", alice, 200, "", "available"},
			{"GET", "/tickets/ticket-1", "", 200, "", "available"},
			{"POST", "/reserve_ticket", bob, 200, "", "reserved"},
			{"POST", "/book_ticket", bob, 200, "", "booked"},
			{"POST", "/book_ticket", bob, 200, "", "booked"},
			{"POST", "/book_ticket", alice, 400, "booked", ""},
			{"GET", "/tickets/ticket-1", "", 200, "", "booked"},
			{"GET", "/tickets/ticket-9", "", 404, "unknown_ticket", ""},
			{"GET", "/healthz", "", 200, "", ""},
			{"GET", "/readyz", "", 200, "", ""},
		} {
			// The blank after the content type is the users' own.
			status, reply := ask(t, server, c.method, c.path, "application/json ", c.body)
			code := ""
			if reply.Error != nil {
				code = reply.Error.Code
			}
			if status != c.status || code != c.code || reply.State != c.state {
				t.Errorf("%s %s %s: %d %q %q, want %d %q %q", c.method, c.path, c.body, status, code, reply.State, c.status, c.code, c.state)
			}
		}
		if _, reply := ask(t, server, "GET", "/available_tickets", "", ""); len(*reply.Available) != 1 || (*reply.Available)[0] != "ticket-2" {
			t.Errorf("available: %v", *reply.Available)
		}
	})
}

func TestServer_badRequestsAreNoFaultOfTheServers(t *testing.T) {
	server := newServer(t, locks.Redis, stage.New(t, locks.Redis).Open("one"), stage.Store(t, locks.Redis, 1))
	good := `{"ticket_id":"ticket-1","client_id":"alice"}`
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		code                     string
	}{
		{"POST", "/reserve_ticket", json1, "", 400, "no_body"},
		{"POST", "/reserve_ticket", json1, "{", 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `"a string"`, 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `[]`, 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `null`, 400, "bad_name"},
		{"POST", "/reserve_ticket", json1, `{}`, 400, "bad_name"},
		{"POST", "/reserve_ticket", json1, good + good, 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `{"ticket_id":1,"client_id":"alice"}`, 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `{"ticket_id":"../x","client_id":"alice"}`, 400, "bad_name"},
		{"POST", "/reserve_ticket", json1, `{"ticket_id":"ticket-1","client_id":"a\u0000b"}`, 400, "bad_name"},
		// Of two customers these would make one.
		{"POST", "/reserve_ticket", json1, "{\"ticket_id\":\"ticket-1\",\"client_id\":\"M\xfcller\"}", 400, "bad_json"},
		{"POST", "/reserve_ticket", json1, `{"ticket_id":"ticket-1","client_id":"a\ud800b"}`, 400, "bad_name"},
		{"POST", "/reserve_ticket", json1, `{"ticket_id":"ticket-2","client_id":"alice"}`, 400, "unknown_ticket"},
		{"POST", "/book_ticket", json1, `{"ticket_id":"ticket-2","client_id":"alice"}`, 400, "unknown_ticket"},
		{"POST", "/reserve_ticket", json1, strings.Repeat(" ", 100<<10), 413, "too_large"},
		{"POST", "/reserve_ticket", "text/plain", good, 415, "not_json"},
		{"POST", "/reserve_ticket", "application/json; charset=utf-8", `{"ticket_id":"ticket-1"}`, 400, "bad_name"},
		{"GET", "/reserve_ticket", "", "", 405, "wrong_method"},
		{"PUT", "/book_ticket", json1, good, 405, "wrong_method"},
		{"POST", "/available_tickets", json1, good, 405, "wrong_method"},
		{"GET", "/tickets/..%2fx", "", "", 400, "bad_name"},
		{"GET", "/tickets/" + strings.Repeat("a", 1000), "", "", 400, "bad_name"},
		{"GET", "/nowhere", "", "", 404, "not_found"},
		{"GET", "//tickets", "", "", 404, "not_found"},
		{"GET", "/./available_tickets", "", "", 404, "not_found"},
		{"POST", "/x/../book_ticket", json1, good, 404, "not_found"},
		{"GET", "/available_tickets/", "", "", 404, "not_found"},
		{"DELETE", "/tickets/ticket-1/reservation", json1, "", 400, "no_body"},
		{"DELETE", "/tickets/ticket-1/reservation", json1, "{", 400, "bad_json"},
	} {
		status, reply := ask(t, server, c.method, c.path, c.kind, c.body)
		if status != c.status || reply.Error == nil || reply.Error.Code != c.code {
			t.Errorf("%s %s %.60q: %d %+v, want %d %s", c.method, c.path, c.body, status, reply.Error, c.status, c.code)
			continue
		}
		// A DELETE names the ticket in its path. Go's words are for the log.
		if says := reply.Error.Message; strings.Contains(says, "ticket_id") && c.method == "DELETE" || strings.Contains(says, "api.ask") || strings.Contains(says, "json:") {
			t.Errorf("%s %s %.60q: %s", c.method, c.path, c.body, says)
		}
	}
}

// TestServer_withoutItsServices: nothing is known to have happened, and it can be asked again.
func TestServer_withoutItsServices(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // nobody answers there
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	redis, err := locks.OpenRedis("redis://" + nobody + "/0")
	if err != nil {
		t.Fatal(err)
	}
	for what, start := range map[string]func() *httptest.Server{ // one after the other: they may share a database
		"no Redis": func() *httptest.Server { return newServer(t, locks.Redis, redis, stage.Store(t, locks.Redis, 1)) },
		"no ZooKeeper": func() *httptest.Server {
			return newServer(t, locks.ZooKeeper, notThere(t, nobody), stage.Store(t, locks.ZooKeeper, 1))
		},
		"another type": func() *httptest.Server { return newServer(t, locks.Redis, redis, stage.Store(t, locks.ZooKeeper, 1)) },
		"no tables":    func() *httptest.Server { return newServer(t, locks.Redis, redis, noTables(t)) },
	} {
		server := start()
		status, reply := ask(t, server, "POST", "/reserve_ticket", json1, `{"ticket_id":"ticket-1","client_id":"alice"}`)
		want := map[string]string{"another type": "other_lock_type", "no tables": "not_set_up"}[what]
		if want == "" {
			want = "unavailable"
		}
		if status != http.StatusServiceUnavailable || reply.Error.Code != want {
			t.Errorf("%s: %d %+v, want 503 %s", what, status, reply.Error, want)
		}
		if says := reply.Error.Message; strings.Contains(says, nobody) || strings.Contains(says, "dial") || strings.Contains(says, "table:") {
			t.Errorf("%s: customers hear of hosts or drivers: %s", what, says)
		}
		if status, _ := ask(t, server, "GET", "/readyz", "", ""); status != http.StatusServiceUnavailable {
			t.Errorf("%s: readyz says %d", what, status)
		}
		if status, _ := ask(t, server, "GET", "/healthz", "", ""); status != http.StatusOK {
			t.Errorf("%s: healthz says %d", what, status)
		}
	}
}

func notThere(t *testing.T, addr string) locks.Locks {
	l := locks.OpenZooKeeper([]string{addr}, time.Second, "one", zap.NewNop())
	t.Cleanup(l.Close)
	return l
}

func noTables(t *testing.T) *store.Store {
	db, err := store.Open("sqlite:" + t.TempDir() + "/empty.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// BenchmarkReserveAndBook: a hundred customers at once reserve and book a ticket each, again and
// again, through three instances. The unit is requests a second: two for each ticket.
func BenchmarkReserveAndBook(b *testing.B) {
	for _, kind := range []string{locks.Redis, locks.ZooKeeper} {
		b.Run(kind, func(b *testing.B) {
			s := stage.New(b, kind)
			db := stage.Store(b, kind, b.N)
			var servers []*httptest.Server
			for _, name := range []string{"one", "two", "three"} {
				servers = append(servers, newServer(b, kind, s.Open(name), db))
			}
			benchCustomers(b, servers)
		})
	}
}

func benchCustomers(b *testing.B, servers []*httptest.Server) {
	const customers = 100
	next := make(chan int)
	done := make(chan error, customers)
	http := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: customers}}
	for range customers {
		go func() { // ends when next is closed
			var err error
			for n := range next {
				for _, what := range []string{"/reserve_ticket", "/book_ticket"} {
					if err == nil {
						err = benchOne(http, servers[n%len(servers)].URL+what, n+1)
					}
				}
			}
			done <- err
		}()
	}
	b.ResetTimer()
	for n := range b.N {
		next <- n
	}
	close(next)
	for range customers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func benchOne(c *http.Client, url string, n int) error {
	body, err := json.Marshal(map[string]string{"ticket_id": ticketName(n), "client_id": "customer"})
	if err != nil {
		return err
	}
	response, err := c.Post(url, json1, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var reply api.Reply
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return err
	}
	if reply.Error != nil {
		return errors.New(url + ": " + reply.Error.Message)
	}
	return nil
}

func ticketName(n int) string { return fmt.Sprintf("ticket-%d", n) }
