package intake_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/intake"
)

// all reads to the end.
func all(t testing.TB, r *intake.Reader) (records []string, err error) {
	t.Helper()
	for {
		line, err := r.Next()
		if err != nil {
			return records, err
		}
		for _, record := range line.Records {
			if err := frame.CheckRecord(record); err != nil {
				t.Errorf("%.60q is no record: %v", record, err)
			}
			records = append(records, string(record))
		}
	}
}

// back is what records were made from.
func back(records []string) string {
	var text strings.Builder
	for _, record := range records {
		raw, ends := intake.Decode([]byte(record))
		if text.Write(raw); ends {
			text.WriteByte('\n')
		}
	}
	return text.String()
}

func TestReader_escapeMakesEveryLineARecord(t *testing.T) {
	for _, c := range []struct{ line, record string }{
		{"plain", "plain"},
		{"", ""},
		{`C:\new "and so on" \x41`, `C:\new "and so on" \x41`},
		{"windows\r", `#escaped windows\x0d`},
		{"\x1b[31mred\x1b[0m", `#escaped \x1b[31mred\x1b[0m`},
		{"10%\r20%\r30%", `#escaped 10%\x0d20%\x0d30%`},
		{"caf\xe9", `#escaped caf\xe9`},
		{"a\x00b", `#escaped a\x00b`},
		{`a\b` + "\a", `#escaped a\\b\x07`},
		{"grüße\u0085", `#escaped grüße\xc2\x85`},
		{"#escaped by itself", "#escaped #escaped by itself"},
		{"#continues by itself", "#escaped #continues by itself"},
		{`#escaped-continues \`, `#escaped #escaped-continues \\`},
		{"#turn 1 agent-1 lines=1", "#turn 1 agent-1 lines=1"},
	} {
		r := intake.New(strings.NewReader(c.line+"\n"), intake.Options{Bad: intake.Escape})
		records, err := all(t, r)
		if !errors.Is(err, io.EOF) || len(records) != 1 || records[0] != c.record {
			t.Errorf("%q: %q, %v; want %q", c.line, records, err, c.record)
		}
		if back(records) != c.line+"\n" {
			t.Errorf("%q is had back as %q", c.line, back(records))
		}
		if n := r.Counts().Escaped; (n == 1) != strings.HasPrefix(c.record, intake.Escaped) {
			t.Errorf("%q: %d were counted", c.line, n)
		}
	}
}

func TestReader_splitsALongLine(t *testing.T) {
	for name, c := range map[string]struct {
		line   string
		counts intake.Counts
	}{
		"the longest":        {strings.Repeat("a", frame.MaxRecord), intake.Counts{}},
		"one more":           {strings.Repeat("a", frame.MaxRecord+1), intake.Counts{Split: 1}},
		"characters of two":  {"x" + strings.Repeat("é", frame.MaxRecord), intake.Counts{Split: 1}},
		"characters of four": {"x" + strings.Repeat("🙂", frame.MaxRecord), intake.Counts{Split: 1}},
		"backslashes":        {strings.Repeat(`\`, 3*frame.MaxRecord), intake.Counts{Split: 1}},
		"no characters":      {strings.Repeat("\xff", frame.MaxRecord), intake.Counts{Escaped: 1}},
		"a bad end":          {strings.Repeat("a", 2*frame.MaxRecord) + "\r", intake.Counts{Split: 1}},
	} {
		r := intake.New(strings.NewReader(c.line+"\nnext"), intake.Options{Bad: intake.Escape})
		records, err := all(t, r)
		if !errors.Is(err, io.EOF) || records[len(records)-1] != "next" || back(records) != c.line+"\nnext\n" {
			t.Errorf("%s: %d records, and what is had back differs: %v", name, len(records), err)
		}
		if r.Counts() != c.counts {
			t.Errorf("%s: counted %+v, want %+v", name, r.Counts(), c.counts)
		}
		if c.counts == (intake.Counts{Split: 1}) && strings.HasPrefix(name, "characters") {
			for _, record := range records[:len(records)-1] {
				if strings.Contains(record, `\x`) {
					t.Errorf("%s: a character was cut in two", name)
				}
			}
		}
	}
}

func TestReader_skipLeavesOutAndCounts(t *testing.T) {
	var first *intake.RecordError
	text := "1\n2\x01\n" + strings.Repeat("x", 5*frame.MaxRecord) + "\n4\n\xff\n6"
	r := intake.New(strings.NewReader(text), intake.Options{Bad: intake.Skip, First: func(e *intake.RecordError) { first = e }})
	records, err := all(t, r)
	if !errors.Is(err, io.EOF) || strings.Join(records, ",") != "1,4,6" {
		t.Errorf("%q, %v", records, err)
	}
	if n := r.Counts(); n != (intake.Counts{Skipped: 3}) || first == nil || first.Line != 2 {
		t.Errorf("%+v, first %v", n, first)
	}
}

func TestReader_stopNamesTheLineAndGivesTheRest(t *testing.T) {
	long := strings.Repeat("x", 3*frame.MaxRecord)
	for bad, rest := range map[string]string{"2\x01\n": "2\x01\n3\n4", "\xff": "\xff3\n4", long + "\n": long + "\n3\n4"} {
		text := "1\n" + bad + "3\n4"
		in := strings.NewReader(text)
		r := intake.New(in, intake.Options{})
		records, err := all(t, r)
		var refused *intake.RecordError
		if !errors.As(err, &refused) || refused.Line != 2 || strings.Join(records, ",") != "1" {
			t.Errorf("%q, %v", records, err)
		}
		unread, _ := io.ReadAll(in)
		if got := string(r.Rest()) + string(unread); got != rest {
			t.Errorf("the rest is %.20q (%d bytes), want %.20q", got, len(got), rest)
		}
		if _, again := r.Next(); !errors.Is(again, err) {
			t.Errorf("then %v", again)
		}
	}
}

func TestReader_tellsTheFirstOnce(t *testing.T) {
	said := 0
	r := intake.New(strings.NewReader("a\nb\r\nc\r\n"+strings.Repeat("d", 1<<20)), intake.Options{
		Bad: intake.Escape, First: func(e *intake.RecordError) {
			if said++; e.Line != 2 || !strings.Contains(e.Error(), "carriage return") {
				t.Error(e)
			}
		}})
	if _, err := all(t, r); !errors.Is(err, io.EOF) || said != 1 || r.Counts() != (intake.Counts{Escaped: 2, Split: 1}) {
		t.Errorf("%v, told %d times, %+v", err, said, r.Counts())
	}
}

func TestReader_saysWhatBeginsAGroup(t *testing.T) {
	r := intake.New(strings.NewReader("2026 one\n\tat a\n\tat b\n2026 two\n"), intake.Options{Start: regexp.MustCompile(`^\d`)})
	var begins []bool
	for {
		line, err := r.Next()
		if err != nil {
			break
		}
		begins = append(begins, line.Begins)
	}
	if fmt.Sprint(begins) != "[true false false true]" {
		t.Error(begins)
	}
}

func TestReader_anErrorOfTheInput(t *testing.T) {
	broken := errors.New("the disk is gone")
	r := intake.New(io.MultiReader(strings.NewReader("1\n2"), iotest.ErrReader(broken)), intake.Options{Bad: intake.Escape})
	records, err := all(t, r)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") || strings.Join(records, ",") != "1" || string(r.Rest()) != "2" {
		t.Errorf("%q, %v, rest %q", records, err, r.Rest())
	}
}

// TestInput_drain: what is in the pipe is read, what comes at once too, and then no more is
// waited for. An unfinished line is the rest.
func TestInput_drain(t *testing.T) {
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	defer from.Close()
	in, err := intake.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	r := intake.New(in, intake.Options{Bad: intake.Escape})
	ended := make(chan []string)
	go func() {
		records, err := all(t, r)
		if !errors.Is(err, intake.ErrUnfinished) {
			t.Error(err)
		}
		ended <- records
	}()
	fmt.Fprint(to, "before\n")
	in.Drain()
	fmt.Fprint(to, "last words\npar")
	if records := <-ended; strings.Join(records, ",") != "before,last words" || string(r.Rest()) != "par" {
		t.Errorf("%q, rest %q", records, r.Rest())
	}
	in.Close()
}

// TestReader_toldToStopWithinALongLine: its beginning is handed out, or left out, and so is what
// there is of the rest.
func TestReader_toldToStopWithinALongLine(t *testing.T) {
	for _, policy := range []intake.Policy{intake.Escape, intake.Skip} {
		text := strings.Repeat("x", 3*frame.MaxRecord)
		r := intake.New(io.MultiReader(strings.NewReader(text), iotest.ErrReader(intake.ErrUnfinished)), intake.Options{Bad: policy})
		records, err := all(t, r)
		if !errors.Is(err, intake.ErrUnfinished) || len(r.Rest()) != 0 {
			t.Errorf("%s: %v, and %d bytes are left", policy, err, len(r.Rest()))
		}
		if policy == intake.Escape && back(records) != text+"\n" {
			t.Errorf("%d records are not the line", len(records))
		}
	}
}

// TestInput_drainHasAnEnd: somebody writes on and on.
func TestInput_drainHasAnEnd(t *testing.T) {
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan struct{})
	go func() { // ends when the pipe is closed
		defer close(wrote)
		for {
			if _, err := to.Write(bytes.Repeat([]byte("on and on\n"), 100)); err != nil {
				return
			}
		}
	}()
	began := time.Now()
	in.Drain()
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, intake.ErrUnfinished) {
		t.Error(err)
	}
	if took := time.Since(began); took < intake.Longest/2 { // it was not left early
		t.Errorf("it ended after %v", took)
	}
	in.Close()
	from.Close()
	<-wrote
	to.Close()
}

// TestInput_aFileIsNotDrained: it can be read again.
func TestInput_aFileIsNotDrained(t *testing.T) {
	path := t.TempDir() + "/input"
	if err := os.WriteFile(path, []byte("1\n2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in, err := intake.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.Drain()
	if n, err := in.Read(make([]byte, 10)); n != 0 || !errors.Is(err, intake.ErrUnfinished) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// FuzzReader feeds arbitrary bytes through each policy, cut into arbitrary reads.
func FuzzReader(f *testing.F) {
	for _, text := range []string{"", "a\n", "\n\n", "a\r\nb", "\xff\x00\n", `#escaped \x41` + "\n", "#continues \n", strings.Repeat("ab\xc3", 40000), "\xe2\x82"} {
		f.Add([]byte(text), uint16(7))
		f.Add([]byte(text), uint16(0))
	}
	f.Fuzz(func(t *testing.T, text []byte, chunk uint16) {
		open := func(bad intake.Policy) *intake.Reader {
			var in io.Reader = bytes.NewReader(text)
			if chunk > 0 {
				in = &chunks{text, int(chunk)}
			}
			return intake.New(in, intake.Options{Bad: bad})
		}
		want := string(text)
		if len(want) > 0 && !strings.HasSuffix(want, "\n") {
			want += "\n" // a last line has its end, in the file
		}
		records, err := all(t, open(intake.Escape))
		if !errors.Is(err, io.EOF) || back(records) != want {
			t.Errorf("escape: %q, had back as %q: %v", want, back(records), err)
		}

		var fine []string
		bad := 0
		for _, line := range strings.SplitAfter(want, "\n") {
			line, ended := strings.CutSuffix(line, "\n")
			switch {
			case !ended: // behind the last
			case frame.CheckRecord([]byte(line)) == nil:
				fine = append(fine, line)
			default:
				bad++
			}
		}
		skip := open(intake.Skip)
		records, err = all(t, skip)
		if !errors.Is(err, io.EOF) || strings.Join(records, "\n") != strings.Join(fine, "\n") || skip.Counts().Skipped != bad {
			t.Errorf("skip: %q, want %q; %d left out, want %d: %v", records, fine, skip.Counts().Skipped, bad, err)
		}

		stop := open(intake.Stop)
		records, err = all(t, stop)
		var refused *intake.RecordError
		if errors.As(err, &refused) != (bad > 0) {
			t.Errorf("stop: %v", err)
		}
		if bad == 0 && strings.Join(records, "\n") != strings.Join(fine, "\n") {
			t.Errorf("stop: %q", records)
		}
		done := ""
		for _, record := range records {
			done += record + "\n"
		}
		if !strings.HasPrefix(want, done+string(stop.Rest())) && !strings.HasPrefix(want+"\n", done+string(stop.Rest())) {
			t.Errorf("stop: %q and the rest %q are not how %q begins", done, stop.Rest(), want)
		}
	})
}

// chunks gives a text in pieces.
type chunks struct {
	text []byte
	most int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.most)], c.text)
	c.text = c.text[n:]
	return n, nil
}
