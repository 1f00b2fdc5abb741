package session_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// endSession takes a session over with its own connect request and closes it, as an
// operator or a server would.
func endSession(t testing.TB, address string, connect []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	exchange := func(packet []byte) error {
		if _, err := conn.Write(packet); err != nil {
			return err
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head)))
		return err
	}
	if err := exchange(connect); err != nil {
		t.Fatal(err)
	}
	err = exchange([]byte{0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5}) // xid 1, opcode -11
	if err != nil && !errors.Is(err, io.EOF) {                             // the server closes what had the session, answered or not
		t.Fatal(err)
	}
}
