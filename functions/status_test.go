package functions_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/functions"
	"gcpconnect/shared/connect"
)

// slowStore takes a second to read a setup of user-1.
type slowStore struct {
	connect.Store
	mu    sync.Mutex
	reads int
	panic bool
}

func (s *slowStore) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.panic {
		panic("a defect")
	}
	return &connect.Setup{ID: id, UserID: "user-1", State: connect.StatePending}, nil
}

// A database that is slow is not made slower by those who ask again.
func TestPollsThatPileUpAreOneRead(t *testing.T) {
	t.Parallel()
	for name, defect := range map[string]bool{"and are all answered": false, "also by a defect": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &slowStore{panic: defect}
				status := functions.Handlers(functions.Deps{Users: functions.Local{}, Store: store, Log: slog.New(slog.DiscardHandler)})["status"]
				answers := map[string]int{}
				var mu sync.Mutex
				var group sync.WaitGroup
				ask := func(ctx context.Context, user, task string) {
					r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/gcp/setup/status/"+task, nil)
					r.Header.Set("X-User-ID", user)
					w := httptest.NewRecorder()
					status.ServeHTTP(w, r)
					mu.Lock()
					defer mu.Unlock()
					answers[user+" "+http.StatusText(w.Code)]++
				}
				leaving, leave := context.WithCancel(t.Context())
				group.Go(func() { ask(leaving, "user-1", "a") })
				synctest.Wait()
				leave()
				for range 50 {
					group.Go(func() { ask(t.Context(), "user-1", "a") })
				}
				group.Go(func() { ask(t.Context(), "user-2", "a") })
				group.Go(func() { ask(t.Context(), "user-1", "b") })
				began := time.Now()
				group.Wait()
				if took := time.Since(began); store.reads != 2 || took != time.Second {
					t.Errorf("53 polls of two setups were %d reads and took %v, want 2 and a second", store.reads, took)
				}
				want := map[string]int{"user-1 OK": 52, "user-2 Not Found": 1}
				if defect {
					want = map[string]int{"user-1 Internal Server Error": 52, "user-2 Internal Server Error": 1}
				}
				for answer, times := range want {
					if answers[answer] != times {
						t.Errorf("they were answered %v, want %v", answers, want)
					}
				}
				ask(t.Context(), "user-1", "a")
				if store.reads != 3 {
					t.Error("a poll after that was answered from before")
				}
			})
		})
	}
}
