package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// fake is a service that says yes to everything.
func fake(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"state":"booked","expires_in":60,"available_tickets":["a","b","c"]}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
