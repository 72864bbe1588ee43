package connect_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// asleep is a context whose timers have not had their turn.
type asleep struct {
	context.Context //nolint:containedctx // it is one
	deadline        time.Time
}

func (a asleep) Deadline() (time.Time, bool) { return a.deadline, true }

func TestAPassedDeadlineIsSeenBeforeItsTimer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if err := connect.Overdue(t.Context()); err != nil {
		t.Errorf("no deadline: %v", err)
	}
	for name, c := range map[string]struct {
		deadline time.Time
		want     error
	}{
		"to come":                         {now.Add(time.Minute), nil},
		"passed":                          {now.Add(-time.Second), context.DeadlineExceeded},
		"passed by the clock on the wall": {now.Add(-time.Second).Round(0), context.DeadlineExceeded},
	} {
		if err := connect.Overdue(asleep{t.Context(), c.deadline}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
