package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/volume"
)

func TestTheVerdictOnAVolumeIsTheExitCode(t *testing.T) {
	for verdict, want := range map[string]int{volume.Fit: exitFine, volume.Warnings: exitFine, volume.Unfit: exitRefused} {
		if got := exitCode(verdictError(volume.Report{Verdict: verdict})); got != want {
			t.Errorf("%s: exit %d, want %d", verdict, got, want)
		}
	}
}

func TestTheVerdictOnAVolumeNamesItsReasons(t *testing.T) {
	findings := []volume.Finding{
		{Check: "file system", Result: volume.OK}, {Check: "files", Result: volume.Failed},
		{Check: "writes", Result: volume.Failed}, {Check: "fifo", Result: volume.Warning},
	}
	for want, r := range map[string]volume.Report{
		"unfit: files, writes":     {Verdict: volume.Unfit, Findings: findings},
		"fit, with warnings: fifo": {Verdict: volume.Warnings, Findings: findings[3:]},
		"fit":                      {Verdict: volume.Fit, Findings: findings[:1]},
	} {
		if got := verdictLine(r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var out bytes.Buffer
	err := writeFinding(&out, volume.Finding{Check: "fifo", Result: volume.Warning, Text: "none", Next: "do this"})
	if lines := strings.Split(out.String(), "\n"); err != nil || len(lines) != 3 || !strings.Contains(lines[0], "warning") || strings.TrimSpace(lines[1]) != "do this" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestTheVerdictOfSeveralMachines(t *testing.T) {
	apart := volume.Joint{
		Machines: []volume.Machine{{Name: "a on host", Directory: "/v", FileSystem: "nfs4", Auto: volume.Direct}, {Name: "b on host", Directory: "/v", FileSystem: "fuse.sshfs"}},
		Verdict:  volume.Unfit, Text: "these are two different volumes", Next: "mount the same",
	}
	var out bytes.Buffer
	if got := exitCode(writeJoint(&out, apart, false)); got != exitRefused {
		t.Errorf("exit %d", got)
	}
	const want = "  machine  a on host: /v is on nfs4; auto makes it direct\n  machine  b on host: /v is on fuse.sshfs; auto refuses it\nunfit: these are two different volumes\n  mount the same\n"
	if out.String() != want {
		t.Errorf("it says %s", out.String())
	}
	if got := exitCode(writeJoint(io.Discard, volume.Joint{Verdict: volume.Fit}, true)); got != exitFine {
		t.Errorf("fit: exit %d", got)
	}
}

// Off a terminal what takes long is told in lines.
func TestStatusLine_offATerminal(t *testing.T) {
	var out bytes.Buffer
	start := time.Now()
	l := &statusLine{out: &out, start: start}
	l.print(start)
	l.say("plain: turn 3 of 160")
	l.print(start.Add(2 * time.Second))
	if out.String() != "trying plain: turn 3 of 160 (2s)\n" {
		t.Errorf("%q", out.String())
	}
}

// A Ctrl-C in the middle leaves nothing in the directory.
func TestAVolumesCheckThatIsInterruptedCleansUp(t *testing.T) {
	dir := t.TempDir()
	check := exec.Command("agent", "check-volume", dir, "--for", "1h")
	var said bytes.Buffer
	check.Stderr = &said
	out, err := check.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(first, "file system") {
		t.Errorf("it says %q, %v", first, err)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) != 1 {
		t.Errorf("while it runs the directory holds %v, %v", made, err)
	}
	if err := check.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out) //nolint:errcheck // ends with the process
	err = check.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(said.String(), "stopped before the verdict") {
		t.Errorf("%v: %s", err, said.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
