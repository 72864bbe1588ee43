package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gcpconnect/emulators/stack"
)

// ServiceUse is what a setup asks of the real services.
type ServiceUse struct {
	Projects, Executions int // executions of steps
	Seconds              float64
	State                stack.Counts
}

// measureServices connects projects over the real services, from the login to the end of
// discovery, and counts the operations on the wire.
func (b *bench) measureServices(ctx context.Context) error {
	for _, n := range []int{1, 5, 50} {
		used, err := b.measureServiceUse(ctx, n)
		if err != nil {
			return fmt.Errorf("%d projects: %w", n, err)
		}
		b.report.Real = append(b.report.Real, used)
	}
	return nil
}

// measureServiceUse has Google take no time. The seconds are those of the services, and of the
// waiting for what Google would have to do.
func (b *bench) measureServiceUse(ctx context.Context, n int) (m ServiceUse, err error) {
	environment := b.services.environment()
	environment["MAX_AUTO_PROJECTS"], environment["VERIFY_INTERVAL"] = "50", "30s"
	y, err := startSystem(ctx, stack.Options{
		Real: true, Scenario: instantScenario(n), Environment: environment, Logs: b.dir,
	})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, y.Stop(ctx)) }()
	began := time.Now()
	task, err := login(ctx, y.user, "")
	if err != nil {
		return m, err
	}
	final, err := awaitFull(ctx, y.user, task, n, poll) // each poll is a read
	if err != nil {
		return m, err
	}
	m = ServiceUse{Projects: n, Seconds: time.Since(began).Seconds(), Executions: n} // of discoveries
	if err := y.Idle(ctx); err != nil {
		return m, err
	}
	for _, step := range final.Steps {
		m.Executions += step.Attempts
	}
	m.State = y.Counts()
	return m, nil
}
