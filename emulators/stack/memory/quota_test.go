package memory_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

// crowdCost is what a crowd takes, in virtual time.
type crowdCost struct {
	p99     time.Duration // from the login to the end of the setup, of the users with few projects
	large   time.Duration // of the user with many
	refused int           // calls that Google refused for quota
}

// crowd is how many users come within a minute, and how many projects each has;
// many is how many has one more who comes with them, if any.
type crowd struct{ users, projects, many int }

func crowdUser(i int) string { return fmt.Sprintf("user-%03d@example.com", i) }

// crowded is a Google where each of many users has some projects of their own, and
// the first user of all has many.
func (c crowd) scenario() *google.Scenario {
	s := googletest.Scenario(max(c.many, 1), likeTheOriginal)
	s.Quotas = true
	for i := range c.users {
		s.Users = append(s.Users, google.User{Email: crowdUser(i), Sub: fmt.Sprint(200_000_000_000_000_000 + i)})
		for k := range c.projects {
			s.Projects = append(s.Projects, google.Project{
				ID: fmt.Sprintf("own-%03d-%d", i, k), Number: fmt.Sprint(500_000_000_000 + 10*i + k), BillingAccount: "01A2B3-C4D5E6-F70819",
				Bindings: []google.Binding{{Role: "roles/owner", Members: []string{"user:" + crowdUser(i)}}}, EnabledAPIs: &[]string{"serviceusage.googleapis.com"},
			})
		}
	}
	return s
}

// run connects the crowd.
func (c crowd) run(t *testing.T) (cost crowdCost) {
	t.Helper()
	stacktest.Run(t, c.scenario(), map[string]string{"MAX_AUTO_PROJECTS": "1000"}, func(y *stacktest.System) {
		var group sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		connect := func(u *demo.User, account string) (time.Duration, error) {
			began := time.Now()
			ending, task, err := u.Connect(y.T.Context(), demo.Choice{Account: account})
			if err != nil || ending != "gcp_setup_pending" {
				return 0, fmt.Errorf("%s: login ended with %q, %w", account, ending, err)
			}
			for range 400 {
				var status demo.Status
				answer, err := u.Call(y.T.Context(), http.MethodGet, "/gcp/setup/status/"+task, nil)
				if err == nil {
					err = answer.Decode(&status)
				}
				switch {
				case err != nil:
					return 0, err
				case status.Result != nil && status.Result.Propagation == "FULL":
					return time.Since(began), nil
				case status.Complete:
					return 0, fmt.Errorf("%s: the setup ended with %s", account, stacktest.Show(status))
				}
				time.Sleep(5 * time.Second)
			}
			return 0, fmt.Errorf("%s: the setup did not end", account)
		}
		if c.many > 0 {
			group.Go(func() {
				d, err := connect(y.User, owner)
				if err != nil {
					t.Error(err)
				}
				cost.large = d
			})
		}
		for i := range c.users {
			u := y.NewUser(fmt.Sprint("crowd-", i))
			group.Go(func() {
				time.Sleep(time.Duration(i) * time.Minute / time.Duration(c.users))
				d, err := connect(u, crowdUser(i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			})
		}
		group.Wait()
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}
		if len(took) != c.users {
			t.Fatalf("%d of %d users were connected", len(took), c.users)
		}
		slices.Sort(took)
		cost.p99 = took[(c.users-1)*99/100]
		for _, call := range y.Google.Calls() {
			if call.Status == http.StatusTooManyRequests {
				cost.refused++
			}
		}
	})
	return cost
}

// Google's quotas slow a crowd down and fail nobody, and one user's many projects
// do not keep the others waiting. (`make bench` has the crowd of 200.)
func TestSetup_CrowdStaysWithinQuotas(t *testing.T) {
	t.Parallel()
	alone, beside := crowd{40, 5, 0}.run(t), crowd{40, 5, 60}.run(t)
	t.Logf("alone %+v, beside one with many %+v", alone, beside)
	if beside.p99 > alone.p99+time.Minute {
		t.Errorf("beside one with 60 projects, 99 %% of the users take %v, without %v", beside.p99, alone.p99)
	}
	if n := alone.refused + beside.refused; n > 0 {
		t.Errorf("Google refused %d calls", n)
	}
}
