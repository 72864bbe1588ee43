package google

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

const (
	account  = `{"email":"a@p.iam.gserviceaccount.com","uniqueId":"123"}`
	busy     = `{"error":{"code":503,"message":"The service is currently unavailable.","status":"UNAVAILABLE"}}`
	slow     = `{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}`
	expired  = `{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}`
	disabled = `{"error":{"code":403,"message":"Disabled.","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}`
	notTheir = `{"error":{"code":403,"message":"Denied.","status":"PERMISSION_DENIED","details":[{"reason":"USER_PROJECT_DENIED"}]}}`
	refused  = `{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}`
)

func reset() (*http.Response, error) { return nil, errors.New("read: connection reset by peer") }

func TestRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers []func() (*http.Response, error)
		want    connect.Code // "": success
		tries   int
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"a success is asked for once", []func() (*http.Response, error){answering(200, account)}, "", 1, 0, 0},
		{"a busy Google is asked again", []func() (*http.Response, error){answering(503, busy), answering(429, busy), answering(500, "<html>"), answering(200, account)}, "", 4, 0, 1750 * time.Millisecond},
		{"a lost connection is made again", []func() (*http.Response, error){reset, answering(200, account)}, "", 2, 0, 250 * time.Millisecond},
		{"four tries are enough", []func() (*http.Response, error){answering(503, busy)}, connect.Unavailable, 4, 0, 1750 * time.Millisecond},
		{"a wait that the details ask for as well", []func() (*http.Response, error){answering(429, slow), answering(200, account)}, "", 2, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"the longest wait that is kept", []func() (*http.Response, error){answering(503, busy, "Retry-After", "3"), answering(200, account)}, "", 2, 3 * time.Second, 3 * time.Second},
		{"a date to wait for", []func() (*http.Response, error){answering(503, busy, "Retry-After", "Sat, 01 Jan 2000 00:00:02 GMT"), answering(200, account)}, "", 2, 2 * time.Second, 2 * time.Second},
		{"a short wait that Google asks for is kept", []func() (*http.Response, error){answering(429, busy, "Retry-After", "2"), answering(200, account)}, "", 2, 2 * time.Second, 2 * time.Second},
		{"a long one is left to the caller", []func() (*http.Response, error){answering(429, busy, "Retry-After", "30")}, connect.Unavailable, 1, 0, 0},
		{"short waits add up to some seconds only", []func() (*http.Response, error){answering(503, busy, "Retry-After", "3")}, connect.Unavailable, 3, 6 * time.Second, 8 * time.Second},
		{"a refusal stands", []func() (*http.Response, error){answering(403, refused)}, connect.Forbidden, 1, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				send, requests := answers(test.answers...)
				began := time.Now()
				_, err := as(t, send, nil).Account(t.Context(), "p", "a@p.iam.gserviceaccount.com")
				if got := connect.CodeOf(err); got != test.want {
					t.Errorf("got %q, want %q: %v", got, test.want, err)
				}
				if len(*requests) != test.tries {
					t.Errorf("tried %d times, want %d", len(*requests), test.tries)
				}
				if took := time.Since(began); took < test.atLeast || took > test.atMost {
					t.Errorf("took %v, want %v to %v", took, test.atLeast, test.atMost)
				}
			})
		})
	}
}

// TestPausesGrow: each pause is random, up to a bound that doubles to a second.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		send := roundTrip(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return reply(503, busy)
		})
		differ := map[time.Duration]bool{}
		for range 20 {
			at = nil
			_, _ = as(t, send, nil).Account(t.Context(), "p", "a")
			for i, bound := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second} {
				pause := at[i+1].Sub(at[i])
				if differ[pause] = true; pause <= 0 || pause > bound {
					t.Errorf("pause %d is %v, want at most %v", i, pause, bound)
				}
			}
		}
		if len(differ) < 30 {
			t.Errorf("60 pauses have %d lengths: instances would come back all at once", len(differ))
		}
	})
}

func TestALongWaitIsTheCallers(t *testing.T) {
	t.Parallel()
	send, requests := answers(answering(429, busy, "Retry-After", "4"))
	_, err := as(t, send, nil).Account(t.Context(), "p", "a")
	e, _ := errors.AsType[*connect.Error](err)
	if e == nil || e.Code != connect.Unavailable || e.RetryAfter != 4*time.Second || len(*requests) != 1 {
		t.Errorf("%d tries: %+v", len(*requests), e)
	}
}

// TestARefusalIsNotRepeated: what is wrong stays wrong, however Google says so.
func TestARefusalIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 402, 403, 404, 405, 409, 410, 411, 412, 413, 416, 422} {
		for _, body := range []string{"", "<html>", fmt.Sprintf(`{"error":{"code":%d,"message":"No."}}`, code)} {
			send, requests := answers(answering(code, body, "Retry-After", "1"))
			_, err := as(t, send, nil).Account(t.Context(), "p", "a")
			if connect.CodeOf(err) == connect.Unavailable || len(*requests) != 1 {
				t.Errorf("%d %s: %d tries, %v", code, body, len(*requests), err)
			}
		}
	}
}

func TestATryThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		send := roundTrip(func(r *http.Request) (*http.Response, error) {
			tries++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		began := time.Now()
		_, err := as(t, send, nil).Account(t.Context(), "p", "a")
		if connect.CodeOf(err) != connect.Unavailable || connect.MessageOf(err) != "Google did not answer in time." {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != callTimeout || tries != 1 {
			t.Errorf("took %v and %d tries, want one of %v", took, tries, callTimeout)
		}
	})
}

func TestACallerThatLeavesIsNotKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		leave func(context.Context) (context.Context, context.CancelFunc)
		kept  time.Duration
	}{
		{"no time for another try", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, 0},
		{"gone before", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, 0},
		{"gone while waiting", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				send, requests := answers(answering(503, busy, "Retry-After", "3"))
				ctx, cancel := test.leave(t.Context())
				defer cancel()
				began := time.Now()
				_, err := as(t, send, nil).Account(ctx, "p", "a")
				if connect.CodeOf(err) != connect.Unavailable || len(*requests) != 1 || time.Since(began) != test.kept {
					t.Errorf("%d tries in %v, want one in %v: %v", len(*requests), time.Since(began), test.kept, err)
				}
				if e, _ := errors.AsType[*connect.Error](err); e == nil || e.RetryAfter != 3*time.Second {
					t.Errorf("what Google said is lost: %v", err)
				}
				synctest.Wait()
			})
		})
	}
}

func TestARejectedTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	dead := connect.Errorf(connect.NeedsReauth, "No refresh token available. Please re-authenticate.")
	vault := connect.Errorf(connect.Unavailable, "The Vault is sealed.")
	tests := []struct {
		name     string
		source   tokens
		answers  []func() (*http.Response, error)
		want     connect.Code
		same     error // the error must hold this very one
		bearers  []string
		rejected []connect.Secret
	}{
		{
			name: "and the call made again", source: tokens{secrets: []connect.Secret{"one", "two"}},
			answers: []func() (*http.Response, error){answering(401, expired), answering(200, account)},
			bearers: []string{"Bearer one", "Bearer two"}, rejected: []connect.Secret{"one"},
		},
		{
			name: "and not twice", source: tokens{secrets: []connect.Secret{"one", "two", "three"}},
			answers: []func() (*http.Response, error){answering(401, expired)}, want: connect.Unauthenticated,
			bearers: []string{"Bearer one", "Bearer two"}, rejected: []connect.Secret{"one"},
		},
		{
			name: "also in the last try, which stays the last", source: tokens{secrets: []connect.Secret{"one", "two"}},
			answers: []func() (*http.Response, error){answering(503, busy), answering(503, busy), answering(503, busy), answering(401, expired), answering(503, busy)}, want: connect.Unavailable,
			bearers: []string{"Bearer one", "Bearer one", "Bearer one", "Bearer one", "Bearer two"}, rejected: []connect.Secret{"one"},
		},
		{
			name: "unless that fails", source: tokens{secrets: []connect.Secret{"one"}, renewErr: dead},
			answers: []func() (*http.Response, error){answering(401, expired)}, want: connect.NeedsReauth, same: dead,
			bearers: []string{"Bearer one"},
		},
		{
			name: "and a source without a token is left alone", source: tokens{secrets: []connect.Secret{""}, err: vault},
			answers: []func() (*http.Response, error){answering(200, account)}, want: connect.Unavailable, same: vault,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				send, requests := answers(test.answers...)
				_, err := as(t, send, &test.source).Account(t.Context(), "p", "a")
				if got := connect.CodeOf(err); got != test.want {
					t.Errorf("got %q, want %q: %v", got, test.want, err)
				}
				if test.same != nil && !errors.Is(err, test.same) {
					t.Errorf("got %v, want the source's own error", err)
				}
				var bearers []string
				for _, r := range *requests {
					bearers = append(bearers, r.Header.Get("Authorization"))
				}
				if diff := cmp.Diff(test.bearers, bearers); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if !cmp.Equal(test.rejected, test.source.rejected) {
					t.Errorf("rejected %d tokens, want %d", len(test.source.rejected), len(test.rejected))
				}
			})
		})
	}
}

func TestWhoPaysForACall(t *testing.T) {
	t.Parallel()
	search := func(ctx context.Context, c setup.Cloud) error {
		_, _, err := c.SearchResources(ctx, "p", "")
		return err
	}
	apis := func(ctx context.Context, c setup.Cloud) error {
		_, err := c.DisabledAPIs(ctx, "p", []string{"run.googleapis.com"})
		return err
	}
	policy := func(ctx context.Context, c setup.Cloud) error { _, err := c.Policy(ctx, "p"); return err }
	tests := []struct {
		name    string
		call    func(context.Context, setup.Cloud) error
		answers []func() (*http.Response, error)
		want    connect.Code
		payers  []string
	}{
		{"Service Usage is charged to the project", apis, []func() (*http.Response, error){answering(200, `{}`)}, "", []string{"p"}},
		{"unless the user may not charge it", apis, []func() (*http.Response, error){answering(403, notTheir), answering(200, `{}`)}, "", []string{"p", ""}},
		{"or it has Service Usage switched off", apis, []func() (*http.Response, error){answering(403, disabled), answering(200, `{}`)}, "", []string{"p", ""}},
		{"and that is tried once", apis, []func() (*http.Response, error){answering(403, notTheir)}, connect.Forbidden, []string{"p", ""}},
		{"a retry remembers it", apis, []func() (*http.Response, error){answering(403, notTheir), answering(503, busy), answering(200, `{}`)}, "", []string{"p", "", ""}},
		{"searches are charged to the project", search, []func() (*http.Response, error){answering(200, `{}`)}, "", []string{"p"}},
		{"and where the Asset API is not enabled, that is the answer", search, []func() (*http.Response, error){answering(403, disabled)}, connect.Forbidden, []string{"p"}},
		{"policies are not", policy, []func() (*http.Response, error){answering(200, `{"etag":"BwY="}`)}, "", []string{""}},
		{"and are refused only once", policy, []func() (*http.Response, error){answering(403, notTheir)}, connect.Forbidden, []string{""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				send, requests := answers(test.answers...)
				if got := connect.CodeOf(test.call(t.Context(), as(t, send, nil))); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
				var payers []string
				for _, r := range *requests {
					payers = append(payers, r.Header.Get("X-Goog-User-Project"))
				}
				if diff := cmp.Diff(test.payers, payers); diff != "" {
					t.Errorf("charged (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestWhichCallsNameTheirPayer is about all methods: these two APIs are
// enabled, or were enabled by the setup, where their calls are counted.
func TestWhichCallsNameTheirPayer(t *testing.T) {
	t.Parallel()
	want := map[string]string{"DisabledAPIs": "p", "EnableAPIs": "p", "DisableAPI": "p", "Operation": "p", "SearchResources": "p"}
	for _, method := range methods() {
		t.Run(method.name, func(t *testing.T) {
			t.Parallel()
			send, requests := answers(answering(200, `{}`))
			_ = method.call(t.Context(), as(t, send, nil)) // an empty answer is not good enough for each
			if len(*requests) != 1 {
				t.Fatalf("asked %d times", len(*requests))
			}
			header := (*requests)[0].Header
			if got := header.Get("X-Goog-User-Project"); got != want[method.name] {
				t.Errorf("names %q, want %q", got, want[method.name])
			}
			if got := header["Authorization"]; !cmp.Equal(got, []string{"Bearer ya29.first"}) {
				t.Errorf("is authorized by %q", got)
			}
		})
	}
}

// The clients log requests with their headers when this variable is set, as
// somebody may do to find a fault.
func TestNothingIsLoggedByTheClients(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = write
	defer func() { os.Stderr = stderr }()
	send, _ := answers(answering(200, account))
	_, err = as(t, send, nil).Account(t.Context(), "p", "a")
	os.Stderr = stderr
	write.Close()
	logged, readErr := io.ReadAll(read)
	if err != nil || readErr != nil {
		t.Fatal(err, readErr)
	}
	if len(logged) > 0 {
		t.Errorf("logged %s", logged)
	}
}
