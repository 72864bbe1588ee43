package google_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/google"
	"gcpconnect/shared/setup"
)

// handed hands requests to a handler with no network between, so that all time
// that passes is that of a testing/synctest bubble.
type handed struct{ http.Handler }

func (h handed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// inBubble is the default scenario with its latencies and quotas.
func inBubble(t *testing.T, change func(*emulated.Scenario)) wire {
	t.Helper()
	scenario := emulated.DefaultScenario()
	change(scenario)
	s, err := emulated.NewServer(emulated.Options{Scenario: scenario, Seed: 1})
	ok(t, err)
	g, err := google.New(google.Options{Endpoints: google.EndpointsUnder("http://google.test"), Transport: handed{s}})
	ok(t, err)
	return wire{s, g}
}

func TestTimeOfAnOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		user := inBubble(t, func(*emulated.Scenario) {}).as(demo)
		operation, err := user.EnableAPIs(t.Context(), shop, []string{"run.googleapis.com", "pubsub.googleapis.com"})
		ok(t, err)
		for _, want := range []setup.Operation{{}, {Done: true}} {
			got, err := user.Operation(t.Context(), shop, operation)
			ok(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("operation (-want +got):\n%s", diff)
			}
			time.Sleep(15 * time.Second)
		}
	})
}

// TestTimeOfAGrant: a role that was given is not there at once, and what was
// refused until then says so.
func TestTimeOfAGrant(t *testing.T) {
	t.Parallel()
	const email = "checkout@shop-production.iam.gserviceaccount.com"
	synctest.Test(t, func(t *testing.T) {
		user := inBubble(t, func(*emulated.Scenario) {}).as(demo)
		policy, err := user.AccountPolicy(t.Context(), shop, email)
		ok(t, err)
		policy.Add("roles/iam.serviceAccountTokenCreator", "user:"+demo)
		ok(t, user.SetAccountPolicy(t.Context(), shop, email, policy))
		began := time.Now()
		_, err = user.Impersonate(t.Context(), email)
		fails(t, err, connect.Forbidden, "IAM_PERMISSION_DENIED")
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v: what has not spread is not for this adapter to wait for", took)
		}
		time.Sleep(time.Minute)
		token, err := user.Impersonate(t.Context(), email)
		ok(t, err)
		if left := time.Until(token.Expiry); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the token is good for %v", left)
		}
	})
}

// TestTimeOfAQuota: calls are held to a customer's quota, which is the
// customer's own project's, so that Google refuses none.
func TestTimeOfAQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inBubble(t, func(s *emulated.Scenario) {
			s.Latencies, s.Quotas = emulated.Latencies{}, true
		})
		user := w.as(demo)
		apis := []string{"run.googleapis.com", "pubsub.googleapis.com"}
		for range 7 { // 7 times 5 of 60 writes at once
			_, err := user.EnableAPIs(t.Context(), shop, apis)
			ok(t, err)
		}
		_, err := user.EnableAPIs(t.Context(), shop, apis)
		fails(t, err, connect.Unavailable, setup.ReasonPaced)
		_, err = user.EnableAPIs(t.Context(), tools, apis)
		ok(t, err)
		for range 20 { // five minutes: each comes when it was told to
			e, is := errors.AsType[*connect.Error](err)
			if is {
				time.Sleep(e.RetryAfter)
			}
			if _, err = user.EnableAPIs(t.Context(), shop, apis); err != nil {
				if connect.ReasonOf(err) != setup.ReasonPaced {
					t.Fatal(err)
				}
			}
		}
	})
}
