package memory

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

func TestClosureRunsAgainOnFreshCopiesWhenWhatItReadHasChanged(t *testing.T) {
	ctx, s := t.Context(), NewStore()
	raise := func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		c.Generation++
		return nil, nil
	}
	runs := 0
	c, err := s.UpdateConnection(ctx, "user", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		if runs++; runs < 3 {
			if _, err := s.UpdateConnection(ctx, "user", raise); err != nil {
				t.Error(err)
			}
		}
		c.Generation++
		c.Scopes = append(c.Scopes, "scope")
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs != 3 {
		t.Errorf("the closure ran %d times, want 3", runs)
	}
	want := &connect.Connection{UserID: "user", Generation: 3, Scopes: []string{"scope"}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("connection (-want +got):\n%s", diff)
	}
}

func TestRepeatingATransactionEndsWithItsContext(t *testing.T) {
	s := NewStore()
	ctx, cancel := context.WithCancel(t.Context())
	runs := 0
	_, err := s.UpdateConnection(ctx, "user", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		if runs++; runs == 5 {
			cancel()
		}
		_, err := s.UpdateConnection(context.Background(), "user", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			c.Generation++
			return nil, nil
		})
		return nil, err
	})
	if connect.CodeOf(err) != connect.Unavailable || runs != 5 {
		t.Errorf("%d runs ended with %v", runs, err)
	}
}

func TestCountsAreDocuments(t *testing.T) {
	ctx, s := t.Context(), NewStore()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	counted := func(what string, want Counts, do func()) {
		t.Helper()
		before := s.Counts()
		do()
		after := s.Counts()
		got := Counts{
			Transactions: after.Transactions - before.Transactions, Reads: after.Reads - before.Reads,
			Writes: after.Writes - before.Writes, Deletes: after.Deletes - before.Deletes,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("counts of %s (-want +got):\n%s", what, diff)
		}
	}
	counted("creating a login", Counts{Transactions: 1, Writes: 1}, func() {
		must(s.CreateLogin(ctx, connecttest.Login(t, "user", "state", "browser", time.Now())))
	})
	counted("consuming it", Counts{Transactions: 1, Reads: 1, Writes: 1}, func() {
		_, err := s.ConsumeLogin(ctx, connect.Hash("state"), time.Now())
		must(err)
	})
	counted("making a setup", Counts{Transactions: 1, Reads: 1, Writes: 2}, func() {
		_, err := s.UpdateConnection(ctx, "user", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			c.SetupID = "setup"
			return &connect.Setup{ID: "setup", UserID: "user"}, nil
		})
		must(err)
	})
	counted("a commit that changes the setup only", Counts{Transactions: 1, Reads: 2, Writes: 1}, func() {
		_, _, err := s.UpdateSetup(ctx, "setup", func(_ *connect.Connection, setup *connect.Setup) error {
			setup.Attempt++
			return nil
		})
		must(err)
	})
	counted("updates that change nothing", Counts{Transactions: 3, Reads: 6}, func() {
		_, err := s.UpdateConnection(ctx, "user", func(*connect.Connection, *connect.Setup) (*connect.Setup, error) { return nil, nil })
		must(err)
		_, _, err = s.UpdateSetup(ctx, "setup", func(*connect.Connection, *connect.Setup) error { return nil })
		must(err)
		_, _, err = s.UpdateDiscovery(ctx, "user", "project", func(*connect.Connection, *connect.Discovery) error { return nil })
		must(err)
	})
	counted("reading a status", Counts{Reads: 1}, func() {
		_, err := s.Setup(ctx, "setup")
		must(err)
	})
	counted("resources", Counts{Reads: 2, Writes: 3, Deletes: 3}, func() {
		must(s.SaveResources(ctx, "user", []connect.Resource{{ID: "a"}, {ID: "b"}, {ID: "c"}}))
		_, _, err := s.Resources(ctx, "user", connect.ResourceQuery{PageSize: 2})
		must(err)
		must(s.DeleteResources(ctx, "user", connect.ResourceFilter{}))
	})
}

func TestExpiredDocumentsAreForgottenInTheEnd(t *testing.T) {
	ctx, s, now := t.Context(), NewStore(), time.Now()
	for i := range 3 * sweepFrom {
		old := connecttest.Login(t, "user", fmt.Sprint("old", i), "", now.Add(-48*time.Hour))
		if err := s.CreateLogin(ctx, old); err != nil {
			t.Fatal(err)
		}
		_, err := s.UpdateConnection(ctx, "user", func(*connect.Connection, *connect.Setup) (*connect.Setup, error) {
			return &connect.Setup{ID: fmt.Sprint("old", i), UserID: "user", ExpireAt: now.Add(-time.Hour)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 * sweepFrom {
		if err := s.CreateLogin(ctx, connecttest.Login(t, "user", fmt.Sprint("new", i), "", now)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.logins.rows); n != 4*sweepFrom {
		t.Errorf("%d logins are kept, want the %d new ones", n, 4*sweepFrom)
	}
	if n := len(s.setups.rows); n > sweepFrom {
		t.Errorf("%d expired setups are kept, want at most %d", n, sweepFrom)
	}
}

// BenchmarkDiscovery saves, replaces and reads 50 resources in each of 1,000
// projects, the largest connection there may be. The cost per resource must
// not grow with their number.
func BenchmarkDiscovery(b *testing.B) {
	for _, projects := range []int{100, connect.MaxProjects} {
		b.Run(fmt.Sprint(projects), func(b *testing.B) {
			ctx := b.Context()
			for b.Loop() {
				s := NewStore()
				for _, run := range []string{"one", "two"} {
					for p := range projects {
						project := fmt.Sprintf("project-%04d", p)
						var found []connect.Resource
						for r := range 50 {
							found = append(found, connect.Resource{ID: fmt.Sprint(project, "/", r), ProjectID: project, Run: run})
						}
						if err := s.SaveResources(ctx, "user", found); err != nil {
							b.Fatal(err)
						}
						if err := s.DeleteResources(ctx, "user", connect.ResourceFilter{ProjectID: project, NotRun: run}); err != nil {
							b.Fatal(err)
						}
					}
				}
				for token := ""; ; {
					_, next, err := s.Resources(ctx, "user", connect.ResourceQuery{PageToken: token})
					if err != nil {
						b.Fatal(err)
					}
					if token = next; token == "" {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(projects*50), "ns/resource")
		})
	}
}
