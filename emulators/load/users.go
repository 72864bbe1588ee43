package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"gcpconnect/emulators/demo"
)

// setup is a setup that a user awaits.
type setup struct{ user, task string }

// largeUser is the user with many projects. Their first setup asks for a selection.
const largeUser = "large"

// runUsers connects all users at once and polls their setups while these run. The function that it
// returns awaits the setups and then measures polls with nothing beside them.
func (l *load) runUsers(ctx context.Context) (await func() error, err error) {
	if _, err := l.connect(ctx, largeUser, ownerEmail); err != nil { // makes what is made once
		return nil, err
	}
	before, err := l.functions.memory(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var connecting, setups sync.WaitGroup
	connected := make([]setup, l.size.users)
	connectTimes := make([]time.Duration, l.size.users)
	setupTimes := make([]time.Duration, l.size.users)
	connecting.Add(l.size.users)
	for i := range l.size.users {
		setups.Go(func() {
			id := fmt.Sprint("user-", i)
			asked := time.Now()
			task, err := l.connect(ctx, id, email(i))
			connected[i], connectTimes[i] = setup{id, task}, time.Since(asked)
			connecting.Done()
			if err != nil {
				l.problem("%w", err)
				return
			}
			l.awaitFull(ctx, connected[i], 1)
			setupTimes[i] = time.Since(asked)
		})
	}
	connecting.Wait()
	l.printf("%d users connected within %v: %s", l.size.users,
		time.Since(began).Round(time.Millisecond), percentiles(connectTimes))
	if err := l.poll(ctx, connected); err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	process := l.functions.cmd
	return func() error {
		setups.Wait()
		l.printf("%d setups ended: %s", l.size.users, percentiles(setupTimes))
		if err := l.system.Idle(ctx); err != nil {
			return err
		}
		if l.functions.cmd != process {
			return nil // another process: there is nothing to compare its memory with
		}
		after, err := l.functions.memory(ctx)
		if err != nil {
			return err
		}
		// The functions keep a token of each user's account for an hour.
		kept := uint64(8<<20 + 8<<10*l.size.users) //nolint:gosec // not negative
		l.checkMemory("the users", before, after, kept, 100)
		l.checkCounts("after the users")
		if err := l.poll(ctx, connected); err != nil {
			return err
		}
		polled, err := l.functions.memory(ctx)
		if err != nil {
			return err
		}
		l.checkMemory("polls", after, polled, 2<<20, 20)
		return nil
	}, nil
}

// connect connects a user, who comes back when told to, 30 times at most.
func (l *load) connect(ctx context.Context, id, email string) (task string, err error) {
	user, err := demo.NewUser(id, l.system.URL, l.client)
	if err != nil {
		return "", err
	}
	for range 30 {
		var ending string
		ending, task, err = user.Connect(ctx, demo.Choice{Account: email})
		if err == nil && ending == "gcp_setup_pending" {
			return task, nil
		}
		err = errors.Join(err, fmt.Errorf("the login ended with %q", ending))
		if ctx.Err() != nil || sleep(ctx, time.Second) != nil {
			break
		}
	}
	return "", fmt.Errorf("%s cannot connect: %w", email, err)
}

// await polls a setup until it is complete, 900 times at most.
func (l *load) await(ctx context.Context, s setup) (*demo.Status, error) {
	user, err := demo.NewUser(s.user, l.system.URL, l.client)
	if err != nil {
		return nil, err
	}
	for range 900 {
		var status *demo.Status
		status, err = user.Status(ctx, s.task)
		if err == nil && status.Complete {
			return status, nil
		}
		if stopped := sleep(ctx, l.size.look); stopped != nil {
			return nil, stopped
		}
	}
	return nil, fmt.Errorf("the setup of %s does not end: %w", s.user, err)
}

// awaitFull awaits a setup. It is a problem unless n projects are verified.
func (l *load) awaitFull(ctx context.Context, s setup, n int) *demo.Status {
	final, err := l.await(ctx, s)
	if err != nil {
		l.problem("%w", err)
		return nil
	}
	if r := final.Result; r == nil || r.Propagation != "FULL" || r.Verified != n {
		l.problem("the setup of %s ended with %s: %+v", s.user, final.Status, r)
	}
	return final
}

// maxInFlight bounds the polls that wait for an answer. A poll beyond it is not sent, and counted.
const (
	maxInFlight = 4000
	notSent     = "not sent"
)

// poll asks for the status of setups at a constant rate, however long the answers take.
func (l *load) poll(ctx context.Context, setups []setup) error {
	n := l.size.polls
	profiled := l.startProfile(ctx)
	before, err := l.functions.memory(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	latencies, counts := make([]time.Duration, 0, n), map[string]int{}
	target := l.functions.at.Load().Functions // the gateway is no part of the system
	slots := make(chan struct{}, maxInFlight)
	var group sync.WaitGroup
	own := processorTime()
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(l.size.rate))
		if err := sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		default:
			mu.Lock()
			counts[notSent]++
			mu.Unlock()
			continue
		}
		s := setups[rand.IntN(len(setups))] //nolint:gosec // no secret
		group.Go(func() {
			status := l.pollOnce(ctx, target, s)
			duration := time.Since(due)
			mu.Lock()
			latencies = append(latencies, duration)
			counts[status]++
			mu.Unlock()
			<-slots
		})
	}
	sent := time.Since(began)
	group.Wait()
	answered := time.Since(began)
	own = processorTime() - own
	after, err := l.functions.memory(ctx)
	if err != nil {
		return err
	}
	each := func(cpu time.Duration) time.Duration {
		return (cpu / time.Duration(n)).Round(time.Microsecond)
	}
	l.printf("processor time per poll, with all else that ran: %v in the functions, "+
		"%v in the load and the emulated Google", each(after.CPU-before.CPU), each(own))
	l.printf("%d polls sent in %v, %.0f a second, answered at %.0f a second: %s, %v",
		n, sent.Round(time.Millisecond), float64(n)/sent.Seconds(),
		float64(len(latencies))/answered.Seconds(), percentiles(latencies), counts)
	for status := range counts {
		if status != "200" && status != comeBack {
			l.problem("polls were answered %v", counts)
			break
		}
	}
	return <-profiled
}

// pollOnce polls a setup and returns the answer as it is counted.
func (l *load) pollOnce(ctx context.Context, target string, s setup) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	address := target + "/gcp/setup/status/" + s.task
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("X-User-ID", s.user)
	response, err := l.functions.transport.RoundTrip(r)
	if err != nil {
		return "no answer"
	}
	defer func() { _ = response.Body.Close() }()
	buffer := make([]byte, 4<<10)
	for err == nil {
		_, err = response.Body.Read(buffer)
	}
	return describe(response)
}

// startProfile starts a CPU profile of the functions, if one is wanted. The channel yields the
// result.
func (l *load) startProfile(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	if l.profile == "" {
		result <- nil
		return result
	}
	go func() {
		content, err := l.functions.get(ctx, "/debug/pprof/profile?seconds=30")
		if err == nil {
			err = os.WriteFile(l.profile, content, 0o600)
		}
		result <- err
	}()
	return result
}
