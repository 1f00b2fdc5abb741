package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// What agent send would not have let in comes from elsewhere, and is a dead letter.
func TestDeadLettersAreShownRetriedAndDropped(t *testing.T) {
	servers := zktest.Shared(t)
	fleet := "dead" + time.Now().Format("150405")
	agent := func(args ...string) (code int, said string) {
		var out, errs bytes.Buffer
		args = append(args, "--zookeeper", servers, "--fleet", fleet, "--log-level", "error")
		code = execute(t.Context(), args, strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	want := func(pattern string, args ...string) {
		t.Helper()
		if code, said := agent(args...); code != exitFine || !regexp.MustCompile(pattern).MatchString(said) {
			t.Errorf("agent %v: %d, %s", args, code, said)
		}
	}
	sess, err := session.Dial(t.Context(), session.Options{Servers: strings.Split(servers, ","), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	dir := inbox.Dir("/turnstile/" + fleet + "/inbox")
	if err := inbox.Ensure(context.Background(), sess, dir); err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{"bell\a", "\xff\xfe"} {
		if _, err := sess.Create(t.Context(), dir.Messages()+"/2-", []byte(record), zk.FlagSequence); err != nil {
			t.Fatal(err)
		}
	}
	want("^$", "send", "fine")
	data := t.TempDir() + "/data.txt"
	want("^$", "run", "--source", "inbox", "--turns", "1", "--data", data)
	want(`dead      2, see .agent inbox dead.`, "inbox")
	want(`(?s)^2-0000000000  .* by agent-1: the control character U\+0007 at byte 5\n +"bell\\a"\n2-0000000001 .*UTF-8`, "inbox", "dead")
	want(`"reason":.*"record":"bell\\u0007"}\n.*"record_base64":"//4="}`, "inbox", "dead", "--json")
	want("^put back: 1\n", "inbox", "retry", "2-0000000000")
	want("waiting   1, ", "inbox")
	want("^dropped: 1\n", "inbox", "drop", "2-0000000001", "--yes")
	want("^no dead letters\n", "inbox", "dead")
	want("^put back: 0\n", "inbox", "retry", "--all")
	if code, said := agent("send", "--limit", "1", "--try", "more"); code != exitBusy {
		t.Errorf("a full inbox: %d, %s", code, said)
	}
	if code, said := agent("send", "bell\a"); code != exitUsage {
		t.Errorf("a bad message: %d, %s", code, said)
	}
}
