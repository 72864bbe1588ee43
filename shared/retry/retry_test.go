package retry

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/shared/connect"
)

func TestDo(t *testing.T) {
	t.Parallel()
	busy := connect.Errorf(connect.Unavailable, "Google is busy.")
	after := func(d time.Duration) error { return busy.For("", d) }
	paced := busy.For("paced", 0)
	tests := map[string]struct {
		errs  []error // of the tries; the last one stays
		slow  time.Duration
		left  time.Duration // until ctx ends; 0: it does not
		tries int
		fails bool
	}{
		"success is returned":                     {errs: []error{nil}, tries: 1},
		"busy Google is asked again":              {errs: []error{busy, busy, nil}, tries: 3},
		"tries are bounded":                       {errs: []error{busy}, tries: 4, fails: true},
		"a wrapped error counts":                  {errs: []error{errors.Join(busy), nil}, tries: 2},
		"another class is not repeated":           {errs: []error{connect.Errorf(connect.Internal, "No.")}, tries: 1, fails: true},
		"an error without a class is not":         {errs: []error{context.DeadlineExceeded}, tries: 1, fails: true},
		"an excepted error is not":                {errs: []error{paced}, tries: 1, fails: true},
		"a short RetryAfter is waited for":        {errs: []error{after(maxRetryAfter), nil}, tries: 2},
		"a longer one is the caller's":            {errs: []error{after(maxRetryAfter + 1)}, tries: 1, fails: true},
		"all tries together are bounded":          {errs: []error{after(maxRetryAfter)}, tries: 3, fails: true},
		"no try begins late":                      {errs: []error{busy}, slow: maxRetrying, tries: 1, fails: true},
		"no pause begins that ctx would end":      {errs: []error{after(2 * time.Second)}, left: 2 * time.Second, tries: 1, fails: true},
		"a pause begins that ctx leaves time for": {errs: []error{after(2 * time.Second), nil}, left: 2*time.Second + 1, tries: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.left > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				p := Policy{Tries: 4, Except: func(e *connect.Error) bool { return e.Reason == "paced" }, Log: slog.New(slog.DiscardHandler)}
				var began []time.Time
				var last error
				err := p.Do(ctx, "ask", func(context.Context) error {
					time.Sleep(test.slow)
					last = test.errs[min(len(began), len(test.errs)-1)]
					began = append(began, time.Now())
					return last
				})
				if !errors.Is(err, last) || (err != nil) != test.fails {
					t.Errorf("got %v, want the last try's %v", err, last)
				}
				if len(began) != test.tries {
					t.Errorf("%d tries, want %d", len(began), test.tries)
				}
				for i := 1; i < len(began); i++ {
					e, _ := errors.AsType[*connect.Error](test.errs[min(i-1, len(test.errs)-1)])
					bound := max(min(250*time.Millisecond<<(i-1), time.Second), e.RetryAfter)
					if pause := began[i].Sub(began[i-1]); pause < e.RetryAfter || pause <= 0 || pause > bound {
						t.Errorf("pause %d is %v, want %v to %v", i, pause, e.RetryAfter, bound)
					}
				}
			})
		})
	}
}

func TestDo_CancelEndsThePause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Second, cancel)
		busy := connect.Errorf(connect.Unavailable, "Google is busy.").For("", 2*time.Second)
		began, tries := time.Now(), 0
		err := Policy{Tries: 4, Log: slog.New(slog.DiscardHandler)}.Do(ctx, "ask", func(context.Context) error {
			tries++
			return busy
		})
		if !errors.Is(err, busy) || tries != 1 || time.Since(began) != time.Second {
			t.Errorf("%d tries in %v: %v, want one in 1s and its error", tries, time.Since(began), err)
		}
	})
}
