package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mutate  = flag.Bool("sim.mutants", false, "leave out each guard in turn, and see the simulator find it")
	patient = flag.Int("sim.patience", often, "after how many schedules a mutant counts as one that survives")
)

// often is when a mutant that is hard to kill, or should survive, is worth trying.
const often = 200000

// TestMutantsAreUpToDate: each guard is where its mutant says, once, and the test that holds
// one that survives is there.
func TestMutantsAreUpToDate(t *testing.T) {
	tests := testsOfTheProduct(t)
	for _, m := range mutants {
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(m.survives, -1) {
			if !strings.Contains(tests, "\nfunc "+name+"(") {
				t.Errorf("%s: there is no %s", m.guard, name)
			}
		}
		for _, e := range m.edits {
			source, err := os.ReadFile(filepath.Join("../..", e.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), e.old); n != 1 {
				t.Errorf("%s: %q is %d times in %s", m.guard, e.old, n, e.file)
			}
		}
	}
}

func testsOfTheProduct(t *testing.T) string {
	files, err := filepath.Glob("../../internal/*/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	var all strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(source)
	}
	return all.String()
}

func TestMutantsDie(t *testing.T) {
	if !*mutate {
		t.Skip("builds the code anew for each guard; -sim.mutants runs it")
	}
	for _, m := range mutants {
		t.Run(m.guard, func(t *testing.T) {
			if *patient < often && (m.rare || m.survives != "") {
				t.Skipf("needs the patience of %d schedules", often)
			}
			n, how := m.run(t)
			switch {
			case n == 0 && m.survives == "":
				t.Errorf("survives %d schedules", *patient)
			case n == 0:
				t.Logf("survives %d schedules: %s", *patient, m.survives)
			case m.survives != "":
				t.Errorf("was held to be redundant (%s), and dies after %d schedules: %s", m.survives, n, how)
			default:
				t.Logf("dies after %d schedules: %s", n, how)
			}
		})
	}
}

var broke = regexp.MustCompile(`schedule (\d+) of this run breaks a promise\n\s*(.*)`)

// run builds the mutant without touching the source, and runs schedules until one fails:
// which one it was, 0 when none did.
func (m mutant) run(t *testing.T) (n int, how string) {
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range m.edits {
		file, err := filepath.Abs(filepath.Join("../..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := file
		if earlier := overlay.Replace[file]; earlier != "" {
			from = earlier
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mutated := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), e.old, e.without, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[file] = mutated
	}
	list, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-timeout", "30m", "-run", "^TestSchedules$",
		".", "-sim.schedules", fmt.Sprint(*patient), "-sim.brief", "-sim.seed", fmt.Sprint(*seed), "-sim.theme", m.theme)
	out, err := run.CombinedOutput()
	found := broke.FindStringSubmatch(string(out))
	switch {
	case err == nil:
		return 0, ""
	case found == nil:
		t.Fatalf("%v\n%s", err, out)
	}
	fmt.Sscan(found[1], &n)
	return n, found[2]
}
