package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/stack"
)

// A setup of two projects in memory is measured, rendered, written and read again. The parts that
// need real services or programs of their own are not run here.
func TestBench_SmallestSetup(t *testing.T) {
	t.Parallel()
	s := instantScenario(2)
	for i := range s.Projects[1:] {
		s.Projects[1+i].EnabledAPIs = &enabled // an operation is not polled for 10 s
	}
	m, err := measureSetup(t.Context(), s, 2, false, map[string]string{"VERIFY_INTERVAL": "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if m.Projects != 2 || m.Calls == 0 || m.Writes == 0 || m.Writes > m.Calls ||
		m.ByMethod["cloudresourcemanager.projects.setIamPolicy"] < 2 ||
		m.State.Writes == 0 || m.State.Tasks < 7+2 || m.Busy <= 0 {
		t.Errorf("measured %+v", m)
	}
	b := &bench{report: Report{Setups: []Setup{m}, SecondRun: m, Cost: costOf(m)}}
	for _, p := range allParts() {
		if p.name != "setups" {
			t.Logf("not run: %s", p.name)
		}
	}
	var chosen []part
	if err := b.measure(t.Context(), chosen, t.Output()); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := b.report.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"A setup ", "2 projects ", "2 again ", "State of a setup ", "Cost of a setup ",
		"Not measured ", "throughput ", "coldstart ",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &text)
		}
	}
	file := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := b.report.write(file); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read Report
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, b.report) {
		t.Errorf("read %+v, wrote %+v", read, b.report)
	}
}

// enabled are the APIs that a setup enables.
var enabled = strings.Fields(strings.ReplaceAll(`cloudresourcemanager. compute. container. run.
	cloudfunctions. storage. sqladmin. cloudbilling. iam. serviceusage. iamcredentials. cloudasset.
	orgpolicy. bigquery. artifactregistry. cloudbuild. eventarc. pubsub. secretmanager. logging.
	monitoring. cloudtrace. dns. servicenetworking. vpcaccess.`, ".", ".googleapis.com"))

func TestReport_EveryTableIsPrinted(t *testing.T) {
	t.Parallel()
	r := Report{
		Setups: []Setup{{Projects: 5, Seconds: 62.5, Floor: 61.15, Original: 321, Faster: 5.1}},
		Crowds: []Crowd{{What: "a crowd"}}, Real: []ServiceUse{{Projects: 50}},
		Overhead:   []Overhead{{Over: overMemory, Projects: 200}},
		Throughput: []Throughput{{What: "status", PerSecond: 5000}},
		ColdStart:  []Start{{Function: "login", Milliseconds: 9, Ratio: 2}},
		Binary:     29_500_000, Hello: 7_700_000, Resident: Memory{23_000_000, 63_000_000},
		NotMeasured: []Skipped{{"overhead", "not chosen"}},
	}
	var text strings.Builder
	if err := r.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"321 s", "5.1 times", "a crowd", "50 projects", "200 projects over memory",
		"23 MB at rest, 63 MB after 200", "status ", "login ", "29.5 MB", "not chosen",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &text)
		}
	}
}

// The prices of known counts: 10 s of an instance, 1,000 reads, 100,000 writes, 100 tasks.
func TestCost_OfKnownCounts(t *testing.T) {
	t.Parallel()
	costs := costOf(Setup{
		Seconds: 60, Busy: 9.7, Original: 300,
		State: stack.Counts{Reads: 1000, Writes: 100_000, Tasks: 100},
	})
	const perSecond = 0.024 + 0.00125 // of 1,000 instances
	for i, want := range []float64{
		10*perSecond + 1000*(0.0006+0.18+100*0.4e-6+115*0.4e-6), // 100 tasks, 12 polls and 3 more
		60*perSecond + 1000*(0.0006+0.18),
		300 * perSecond,
	} {
		if got := costs[i].DollarsPerThousandSetups; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s costs %v, want %v", costs[i].What, got, want)
		}
	}
}

// The floor is the sum that README.md states.
func TestFloor_IsTheLongestChain(t *testing.T) {
	t.Parallel()
	if got, want := floor(), 61_150*time.Millisecond; got != want {
		t.Errorf("the floor is %v, want %v", got, want)
	}
}

func TestChoose_RefusesUnknownParts(t *testing.T) {
	t.Parallel()
	if chosen, err := choose("setups,coldstart"); err != nil || len(chosen) != 2 {
		t.Errorf("chose %v, %v", chosen, err)
	}
	if chosen, err := choose(""); err != nil || len(chosen) != len(allParts()) {
		t.Errorf("chose %v, %v", chosen, err)
	}
	if _, err := choose("setups,none"); err == nil {
		t.Error("an unknown part was chosen")
	}
}

// The programs in testdata are no part of ./..., so that only this test checks them.
func TestPrograms_Compile(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "vet",
		helloProgram, linkedProgram, bareProgram, callsProgram)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
