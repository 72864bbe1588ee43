package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack"
)

// Crowd is how long users took who connected within a minute, with Google's quotas in force.
type Crowd struct {
	What              string
	Users, Projects   int     // projects of each
	P50, P99, Longest float64 // seconds from the login to the end of the setup
	Calls, Refused    int     // of Google, for quota
}

// crowd is a number of users who connect within a minute, and the projects of each.
type crowd struct {
	what            string
	users, projects int
	large           int  // the projects of one more user; 0: there is none
	platformPays    bool // Aurora's project is charged for all calls
}

var allCrowds = []crowd{
	{"200 users, customers' projects pay", 200, 5, 0, false},
	{"beside one user with 200 projects", 200, 5, 200, false},
	{"6 users, customers' projects pay", 6, 5, 0, false},
	{"6 users, Aurora's project pays for all", 6, 5, 0, true},
}

func crowdEmail(i int) string { return fmt.Sprintf("user-%03d@example.com", i) }

// scenario returns a Google in which each user of the crowd has projects of their own.
func (c crowd) scenario() *google.Scenario {
	s := newScenario(max(c.large, 1))
	s.Quotas = true
	for i := range c.users {
		s.Users = append(s.Users,
			google.User{Email: crowdEmail(i), Sub: fmt.Sprint(200_000_000_000_000_000 + i)})
		for k := range c.projects {
			id, number := fmt.Sprintf("own-%03d-%d", i, k), fmt.Sprint(500_000_000_000+10*i+k)
			s.Projects = append(s.Projects, newProject(id, number, crowdEmail(i)))
		}
	}
	return s
}

// measure connects the crowd with everything in memory.
func (c crowd) measure(ctx context.Context) (m Crowd, err error) {
	network := newInterceptor(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if c.platformPays {
			r = r.Clone(r.Context())
			r.Header.Del("X-Goog-User-Project")
		}
		return next.RoundTrip(r)
	})
	y, err := startSystem(ctx, stack.Options{
		Scenario: c.scenario(), Network: network,
		Environment: map[string]string{"MAX_AUTO_PROJECTS": "1000"},
	})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, y.Stop(ctx)) }()
	users := make([]*demo.User, c.users)
	for i := range users {
		if users[i], err = y.newUser(fmt.Sprint("crowd-", i)); err != nil {
			return m, err
		}
	}
	durations := make([]time.Duration, c.users)
	group, connecting := errgroup.WithContext(ctx)
	if c.large > 0 {
		group.Go(func() error {
			_, err := connectUser(connecting, y.user, owner, c.large)
			return err
		})
	}
	for i, user := range users {
		group.Go(func() (err error) {
			arrival := time.Duration(i) * time.Minute / time.Duration(c.users)
			if err := sleep(connecting, arrival); err != nil {
				return err
			}
			durations[i], err = connectUser(connecting, user, crowdEmail(i), c.projects)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return m, err
	}
	if err := y.Idle(ctx); err != nil {
		return m, err
	}
	slices.Sort(durations)
	m = Crowd{What: c.what, Users: c.users, Projects: c.projects}
	m.Calls = y.Google.CallCounts().Total
	m.P50 = percentile(durations, 0.5).Seconds()
	m.P99 = percentile(durations, 0.99).Seconds()
	m.Longest = percentile(durations, 1).Seconds()
	for _, call := range y.Google.Calls() {
		if call.Status == http.StatusTooManyRequests {
			m.Refused++
		}
	}
	return m, nil
}

// connectUser connects a user with n projects and returns how long that takes.
func connectUser(
	ctx context.Context, user *demo.User, account string, n int,
) (time.Duration, error) {
	began := time.Now()
	task, err := login(ctx, user, account)
	if err != nil {
		return 0, err
	}
	_, err = awaitFull(ctx, user, task, n, poll)
	return time.Since(began), err
}

// percentile returns the duration below which the part of all lies. The durations are sorted.
func percentile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(part*float64(len(sorted)-1))]
}
