package booking

import (
	"fmt"
	"regexp"
	"unicode"
	"unicode/utf8"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// Refusal says why a customer does not get what he asked for. Code is stable; Why is a
// sentence for people.
type Refusal struct{ Code, Why string }

func (r *Refusal) Error() string { return r.Why }

// The codes of a Refusal.
const (
	BadName     = "bad_name"
	Unknown     = "unknown_ticket"
	Reserved    = "reserved"         // by somebody else
	Booked      = "booked"           // by somebody else, or by this customer already
	NotReserved = "not_reserved"     // by this customer
	Expired     = "expired"          // this customer's reservation
	Lost        = "reservation_lost" // its lock went before its time
)

func refuse(code, format string, args ...any) error {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

func reserved(ticket string) error {
	return refuse(Reserved, "%s is reserved by somebody else; try again later, or take another", ticket)
}

func booked(t store.Ticket, client string) error {
	if t.BookedBy == client {
		return refuse(Booked, "%s is sold to you already", t.ID)
	}
	return refuse(Booked, "%s is sold", t.ID)
}

// ticketName is what may name a ticket: it becomes a key, and a node.
var ticketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func named(ticket, client string) error {
	if ticket == "" {
		return refuse(BadName, "ticket_id is missing")
	}
	if client == "" {
		return refuse(BadName, "client_id is missing")
	}
	if !ticketName.MatchString(ticket) {
		return refuse(BadName, "ticket_id %.80q is no ticket's name: 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first", ticket)
	}
	if n := utf8.RuneCountInString(client); n > 128 || !utf8.ValidString(client) {
		return refuse(BadName, "client_id must have 1 to 128 characters")
	}
	for _, r := range client {
		// JSON's half characters, as \ud800, become this one: of two customers they would make one.
		if r == utf8.RuneError {
			return refuse(BadName, "client_id must not have the character U+FFFD, which stands for one that could not be read")
		}
		if !unicode.IsGraphic(r) {
			return refuse(BadName, "client_id must have characters that can be printed")
		}
	}
	return nil
}
