package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

func newAudit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Stand for the fleet's auditor, without writing",
		Long: `Stand for the fleet's auditor until told to stop (Ctrl-C or SIGTERM). One is elected, of
all who stand and of the agents that run with --audit. It verifies the file once from its
beginning, and then turn by turn as it grows; ` + "`agent status`" + ` shows its verdict.
When it ends, the next takes over at once. A turn that is committed and not in the file yet
is awaited: the verdict stops before it. Bytes that are changed after it has judged them
are found by the next auditor, or by ` + "`agent verify`" + `.

Exit 3 when the last verdict was that the file is not whole.`,
		Example: `  agent audit --data /data/audit.log
  agent elect show auditor      who is the auditor, who is next`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			return runAudit(cmd, c)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "data", "log")
	return cmd
}

func runAudit(cmd *cobra.Command, c config.Config) error {
	ctx, log := cmd.Context(), newLog(c.Log, cmd.ErrOrStderr())
	if err := canRead(c.Data.File); err != nil {
		return err
	}
	who, err := thisMember(c)
	if err != nil {
		return err
	}
	// At the door: later on, that no server answers is waited out.
	if err := withSession(ctx, c, log, func(*session.Session) error { return nil }); err != nil {
		return err
	}
	auditor := newAuditor(c, who, log)
	auditor.Run(ctx)
	if v := auditor.Last(); v != nil && v.Verdict == audit.Faults {
		return silentError{exitFaults}
	}
	return nil
}

// canRead finds out before anything else whether the file can be read. It need not be
// there yet.
func canRead(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err = os.Stat(filepath.Dir(path)); err == nil {
			return nil
		}
	}
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			return f.Close()
		}
	}
	return usageError{fmt.Errorf("data.file %q: %w; give the shared file (--data, TURNSTILE_DATA_FILE)", path, err)}
}

func newAuditor(c config.Config, who queue.Member, log *zap.Logger) *audit.Auditor {
	return audit.New(audit.Options{
		Dial:  electDial(c, log),
		Root:  rootOf(c),
		File:  c.Data.File,
		Who:   who,
		Open:  openToVerify(c),
		Lives: lifeline.Dir(c.Data.File + ".alive"),
		Log:   log,
	})
}

// auditBeside lets an agent that runs stand for auditor too, with a session of its own,
// once it has a name; nothing that befalls the auditor touches the agent. stop returns
// when the auditor has resigned.
func auditBeside(ctx context.Context, c config.Config, log *zap.Logger, me *identity) (stop func()) {
	if !c.Audit {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		select {
		case <-me.named:
			newAuditor(c, me.member(), log.With(zap.String("part", "auditor"))).Run(ctx)
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// describeAudit is the auditor's line of the status, empty when nobody ever audited.
func describeAudit(s overview, ago func(time.Time) string) string {
	if s.Audit == nil {
		return ""
	}
	v := s.Audit.Verdict
	if v == nil {
		return "audit   no verdict yet\n"
	}
	var b strings.Builder
	b.WriteString("audit   ")
	switch v.Verdict {
	case audit.Fine:
		fmt.Fprintf(&b, "fine up to turn %d", v.Turn)
	case audit.Faults:
		fmt.Fprintf(&b, "NOT WHOLE up to turn %d (faults: %d)", v.Turn, v.Faults)
	case audit.Checking:
		b.WriteString("reading the file from its beginning")
		if v.Of > 0 {
			fmt.Fprintf(&b, ", %d%%", v.Offset*100/v.Of)
		}
	default:
		fmt.Fprintf(&b, "%s: %s", v.Verdict, v.Error)
	}
	fmt.Fprintf(&b, ", by %s, %s ago", v.Auditor, ago(v.At))
	if v.Verdict == audit.Fine && s.Head != nil && s.Head.Turn > v.Turn {
		fmt.Fprintf(&b, ", %d turns behind", s.Head.Turn-v.Turn)
	}
	if s.Audit.Auditors == 0 {
		b.WriteString("; nobody audits now")
	}
	if v.First != nil {
		fmt.Fprintf(&b, "\n        %s at byte %d: %s", v.First.Kind, v.First.Offset, v.First.Text)
	}
	b.WriteByte('\n')
	return b.String()
}
