package setup_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/google"
	"gcpconnect/shared/setup"
)

// An instance that has used up what Google allows it in a minute is not a
// failing one: steps come back when it is their turn, and even the queue's last
// delivery of a task fails nothing.
func TestAQuotaThatIsUsedUpIsNoFailure(t *testing.T) {
	t.Parallel()
	run(t, 5, func(c *chain, made *connect.Setup) {
		// 5 reads and 5 writes of policies at once, and then one each 6.7 s.
		cloud, err := google.New(google.Options{
			Endpoints: google.EndpointsUnder("http://google.test"), Transport: direct{c.google, c}, PlatformQuota: 0.02,
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 { // somebody else was here before
			if _, err := cloud.As(minted{c, ""}).Policy(c.t.Context(), "project-001"); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			if _, err := cloud.As(minted{c, ""}).Projects(c.t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.Google = cloud
		deliveries := 0
		for {
			s, err := c.store.Setup(c.t.Context(), made.ID)
			if err != nil {
				t.Fatal(err)
			}
			if s.State.Ended() {
				break
			}
			time.Sleep(time.Until(c.queue.tasks[len(c.queue.tasks)-1].At))
			deliveries++
			if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
				t.Fatalf("%+v: %v", c.due(), err)
			}
		}
		s, _ := c.store.Setup(c.t.Context(), made.ID)
		c.wantTruth(s)
		if deliveries < 10 || deliveries > 25 {
			t.Errorf("there were %d deliveries", deliveries)
		}
		for _, p := range s.Projects {
			if len(p.Errors) > 0 {
				t.Errorf("%s has %v", p.ID, p.Errors)
			}
		}
	})
}

// minted gives tokens of the user, in the name of an account of a project.
type minted struct {
	*chain
	project string
}

func (m minted) Token(context.Context) (connect.Secret, error) {
	token, err := m.google.MintToken(owner)
	return connect.Secret(token), err
}

func (m minted) Renew(ctx context.Context, _ connect.Secret) (connect.Secret, error) {
	return m.Token(ctx)
}

func (m minted) Project() string { return m.project }

// The checks of permissions are for what has not spread. One that had no turn
// is not among the two that there are.
func TestACheckWithoutATurnIsNone(t *testing.T) {
	t.Parallel()
	run(t, 3, func(c *chain, made *connect.Setup) {
		c.Settings.MaxChecks = 2
		c.until("verify-permissions")
		var group sync.WaitGroup
		for range 80 { // all of the root project's reads, for some minutes
			group.Go(func() {
				others := c.Google.As(minted{c, "project-001"})
				for range 40 {
					_, _ = others.TestPermissions(c.t.Context(), "project-001", []string{"resourcemanager.projects.get"})
					time.Sleep(time.Second)
				}
			})
		}
		time.Sleep(6 * time.Second)
		s := c.finish(made.ID)
		group.Wait()
		c.wantTruth(s)
		if executions := s.Steps[5].Attempts; executions <= c.Settings.MaxChecks || s.Propagation.Checks >= c.Settings.MaxChecks {
			t.Errorf("%d executions of %s were %d checks, want more, and fewer, than %d", executions, s.Steps[5].Name, s.Propagation.Checks, c.Settings.MaxChecks)
		}
	})
}
