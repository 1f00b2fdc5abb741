// Package client talks to running instances of the service.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/api"
)

// Client is one customer's way to one instance, or to what stands before several.
type Client struct {
	URL  string // http://host:port
	HTTP *http.Client
}

// New gives a client. patience bounds each request.
func New(url string, patience time.Duration) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100
	return &Client{strings.TrimRight(url, "/"), &http.Client{Timeout: patience, Transport: transport}}
}

// Answer is what came. It says what was asked, for people.
type Answer struct {
	Asked  string
	Status int
	Body   string
	Reply  api.Reply
}

// Code is the reason why not; empty on success.
func (a Answer) Code() string {
	if a.Reply.Error == nil {
		return ""
	}
	return a.Reply.Error.Code
}

// Ask sends a request. An error says that no answer is known: it may have been carried out.
func (c *Client) Ask(ctx context.Context, method, path, ticket, customer string) (a Answer, err error) {
	var body []byte
	if customer != "" {
		if body, err = json.Marshal(map[string]string{"ticket_id": ticket, "client_id": customer}); err != nil {
			return a, err
		}
	}
	a.Asked = strings.TrimSpace(fmt.Sprintf("%s %s %s", method, path, body))
	request, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return a, err
	}
	a.Status, a.Body = response.StatusCode, strings.TrimSpace(string(text))
	if err := json.Unmarshal(text, &a.Reply); err != nil {
		return a, fmt.Errorf("%s %s answers %d and no JSON: %.200s", method, c.URL+path, a.Status, text)
	}
	return a, nil
}

// Reserve asks for a reservation.
func (c *Client) Reserve(ctx context.Context, ticket, customer string) (Answer, error) {
	return c.Ask(ctx, http.MethodPost, "/reserve_ticket", ticket, customer)
}

// Book asks for a booking.
func (c *Client) Book(ctx context.Context, ticket, customer string) (Answer, error) {
	return c.Ask(ctx, http.MethodPost, "/book_ticket", ticket, customer)
}

// Available asks for the tickets that are there for anybody.
func (c *Client) Available(ctx context.Context) (Answer, error) {
	return c.Ask(ctx, http.MethodGet, "/available_tickets", "", "")
}

// Ticket asks how it stands with a ticket.
func (c *Client) Ticket(ctx context.Context, ticket string) (Answer, error) {
	return c.Ask(ctx, http.MethodGet, "/tickets/"+ticket, "", "")
}

// Ready tells whether the instance says that it can sell.
func (c *Client) Ready(ctx context.Context) error {
	a, err := c.Ask(ctx, http.MethodGet, "/readyz", "", "")
	switch {
	case err == nil && a.Reply.Error != nil:
		err = fmt.Errorf("%s answers %d %s: %s", c.URL, a.Status, a.Code(), a.Reply.Error.Message)
	case err == nil && a.Status != http.StatusOK:
		err = fmt.Errorf("%s/readyz answers %d: %.200s", c.URL, a.Status, a.Body)
	}
	return err
}
