package stack_test

import (
	"fmt"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

// contractLatencies are those under which the original was measured: reads
// 80 ms, IAM writes 250 ms, account creation 500 ms, batchEnable 250 ms and a
// 15 s operation, 60 s propagation.
func contractLatencies(s *google.Scenario) {
	ms := func(n int) google.Duration { return google.Duration(time.Duration(n) * time.Millisecond) }
	s.Latencies = google.Latencies{Read: ms(80), IAMWrite: ms(250), CreateAccount: ms(500), BatchEnable: ms(250), OAuth: ms(80), Operation: seconds(15)}
	for i := range s.Projects[1:] {
		s.Projects[1+i].EnabledAPIs = &[]string{"serviceusage.googleapis.com"} // two batches to enable
	}
}

// measure connects n projects and returns how long it took, until discovery
// was done, and the calls to Google.
func measure(y *system, n int) (time.Duration, google.Counts) {
	y.t.Helper()
	started := time.Now()
	y.wantSuccess(y.complete(), n, n)
	took := time.Since(started)
	if err := y.Idle(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
	return took, y.Google.CallCounts()
}

func TestCostOfASetup(t *testing.T) {
	t.Parallel()
	var times []time.Duration
	for _, n := range []int{1, 5, 20} {
		run(t, scenario(n, contractLatencies), map[string]string{"MAX_AUTO_PROJECTS": "20"}, func(y *system) {
			took, counts := measure(y, n)
			times = append(times, took)
			if perProject := float64(counts.Total) / float64(n); n == 20 && perProject > 12 {
				t.Errorf("%d projects took %d calls, %.1f a project: %v", n, counts.Total, perProject, counts.ByMethod)
			}
			y.t.Logf("%d projects: %v, %d calls: %v", n, took, counts.Total, counts.ByMethod)
		})
	}
	if times[2] > times[0]*110/100 {
		t.Errorf("20 projects take %v, 1 takes %v", times[2], times[0])
	}
}

// BenchmarkSetup reports what a setup costs: seconds on the bubble's clock,
// calls to Google, and operations of the embedded store and queue. Its own time
// is what the connector and everything emulated burn.
func BenchmarkSetup(b *testing.B) {
	for _, n := range []int{1, 5, 20, 50} {
		b.Run(fmt.Sprintf("projects=%d", n), func(b *testing.B) {
			for b.Loop() {
				var took time.Duration
				var counts google.Counts
				var state stack.Counts
				t := new(testing.T) // synctest takes no benchmark
				run(t, scenario(n, contractLatencies), map[string]string{"MAX_AUTO_PROJECTS": "50"}, func(y *system) {
					took, counts = measure(y, n)
					state = y.Counts()
				})
				if t.Failed() || counts.Total == 0 {
					b.Fatal("the setup failed: TestCostOfASetup says why")
				}
				b.ReportMetric(took.Seconds(), "virtual-s/setup")
				b.ReportMetric(float64(counts.Total), "calls/setup")
				b.ReportMetric(float64(counts.Total)/float64(n), "calls/project")
				reportState(b, state)
			}
		})
	}
}

func reportState(b *testing.B, c stack.Counts) {
	b.Helper()
	b.ReportMetric(float64(c.Transactions), "transactions/setup")
	b.ReportMetric(float64(c.Reads), "reads/setup")
	b.ReportMetric(float64(c.Writes), "writes/setup")
	b.ReportMetric(float64(c.Tasks), "tasks/setup")
	b.ReportMetric(float64(c.VaultCalls), "vault-calls/setup")
}

// BenchmarkRealSetup reports the same over the real services: operations of
// Firestore, Vault and Cloud Tasks as they go over the wire, from login to the
// end of discovery. Google takes no time; what is left of a setup's is the
// services', and the waiting for what Google would have to do.
func BenchmarkRealSetup(b *testing.B) {
	shared := services{partstest.Firestore(b), partstest.Vault(b)}
	for _, n := range []int{1, 5, 50} {
		b.Run(fmt.Sprintf("projects=%d", n), func(b *testing.B) {
			for b.Loop() {
				environment := shared.environment()
				environment["MAX_AUTO_PROJECTS"], environment["VERIFY_INTERVAL"] = "50", "30s"
				s := scenario(n, contractLatencies)
				runReal(b, stack.Options{Environment: environment}, s, func(y *system) {
					y.poll = 5 * time.Second // as the frontend does: each look is a read
					began := time.Now()
					final := y.complete()
					y.wantSuccess(final, n, n)
					b.ReportMetric(time.Since(began).Seconds(), "s/setup")
					if err := y.Idle(b.Context()); err != nil {
						b.Fatal(err)
					}
					executions := n // of discover-project
					for _, step := range final.Steps {
						executions += step.Attempts
					}
					reportState(b, y.Counts())
					b.ReportMetric(float64(executions), "executions/setup")
				})
			}
		})
	}
}
