package zkdev

import (
	"flag"
	"os/exec"
	"testing"
)

var otherClients = flag.Bool("zkdev.clients", false, "run kazoo, zkCli and Curator (Debian's packages) against zkdev")

// TestClientsOfOtherPeople runs test/zk-clients, which also takes a real
// server's address.
func TestClientsOfOtherPeople(t *testing.T) {
	if !*otherClients {
		t.Skip("set -zkdev.clients")
	}
	s := RunT(t)
	out, err := exec.Command("../../test/zk-clients/run.sh", s.Addr()).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	// zkCli does not close the session of a single command, on any server.
	if st := s.Stats(); st.Connections+st.Watches != 0 {
		t.Errorf("left behind: %+v", st)
	}
}
