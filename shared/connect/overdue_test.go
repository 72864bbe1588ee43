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
	context.Context
	deadline time.Time
}

func (a asleep) Deadline() (time.Time, bool) { return a.deadline, true }

func TestAPassedDeadlineIsSeenBeforeItsTimer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"no deadline":                         {t.Context(), nil},
		"a deadline to come":                  {asleep{t.Context(), now.Add(time.Minute)}, nil},
		"a passed one":                        {asleep{t.Context(), now.Add(-time.Second)}, context.DeadlineExceeded},
		"a passed one by the wall clock only": {asleep{t.Context(), now.Add(-time.Second).Round(0)}, context.DeadlineExceeded},
	} {
		if err := connect.Overdue(c.ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
