package oauth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
)

// roundTrip is Google in one function, with no network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(code int, body string, header ...string) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code), Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

const (
	clientID = "demo-client.apps.googleusercontent.com"
	secret   = "GOCSPX-client-very-secret"
)

func newClient(t *testing.T, send roundTrip) *Client {
	t.Helper()
	c, err := New(Options{
		ClientID: clientID, ClientSecret: secret, RedirectURL: "http://127.0.0.1:8080/callback",
		Endpoints: EndpointsUnder("http://google.test"), HTTPClient: &http.Client{Transport: send},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew_RefusesMissingOptions(t *testing.T) {
	t.Parallel()
	good := Options{ClientID: "i", ClientSecret: "s", RedirectURL: "r", Endpoints: GoogleEndpoints()}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"client ID": func(o *Options) { o.ClientID = "" }, "client secret": func(o *Options) { o.ClientSecret = "" },
		"redirect URL": func(o *Options) { o.RedirectURL = "" }, "endpoints": func(o *Options) { o.Endpoints = Endpoints{} },
	} {
		opts := good
		spoil(&opts)
		if _, err := New(opts); err == nil {
			t.Errorf("made a client without its %s", name)
		}
	}
}

func TestMissingScopes(t *testing.T) {
	t.Parallel()
	tests := []struct{ granted, missing string }{
		{ScopeEmail + " openid " + ScopeCloudPlatform, ""},
		{"email profile openid " + ScopeCloudPlatform, ""},
		{"openid " + ScopeEmail, ScopeCloudPlatform},
		{ScopeCloudPlatform, ScopeEmail + " openid"},
		{"", ScopeCloudPlatform + " " + ScopeEmail + " openid"},
	}
	for _, test := range tests {
		if got := strings.Join(missingScopes(strings.Fields(test.granted)), " "); got != test.missing {
			t.Errorf("of %q misses %q, want %q", test.granted, got, test.missing)
		}
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	const (
		fresh    = `{"access_token":"ya29.new","expires_in":3599,"scope":"openid","token_type":"Bearer"}`
		rotated  = `{"access_token":"ya29.new","expires_in":3599,"refresh_token":"1//new","token_type":"Bearer"}`
		dead     = `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`
		rapt     = `{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"invalid_rapt"}`
		admin    = `{"error":"admin_policy_enforced","error_description":"Access to your account data is restricted by policies within your organization."}`
		stranger = `{"error":"invalid_client","error_description":"The OAuth client was not found."}`
	)
	type answer struct {
		code   int
		body   string
		header []string
	}
	tests := []struct {
		name    string
		answers []answer // code 0: the connection is lost
		refresh connect.Secret
		want    connect.Code
		reason  string
		message string
		kept    connect.Secret
		tries   int
	}{
		{"keeps the refresh token", []answer{{200, fresh, nil}}, "1//old", "", "", "", "1//old", 1},
		{"takes a rotated one", []answer{{200, rotated, nil}}, "1//old", "", "", "", "1//new", 1},
		{"has none", nil, "", connect.NeedsReauth, "", "No refresh token available. Please re-authenticate.", "", 0},
		{"is dead", []answer{{400, dead, nil}}, "1//old", connect.NeedsReauth, ReasonInvalidGrant, "No refresh token available. Please re-authenticate.", "", 1},
		{"has a session that ended", []answer{{400, rapt, nil}}, "1//old", connect.NeedsReauth, ReasonInvalidRapt, "Your organization's session has ended. Please re-authenticate.", "", 1},
		{"is restricted by an administrator", []answer{{400, admin, nil}}, "1//old", connect.NeedsReauth, ReasonAdminPolicy, textAdminPolicy, "", 1},
		{"is refused in a success", []answer{{200, dead, nil}}, "1//old", connect.NeedsReauth, ReasonInvalidGrant, "No refresh token available. Please re-authenticate.", "", 1},
		{"is of an unknown client", []answer{{401, stranger, nil}}, "1//old", connect.Internal, "invalid_client", "Google does not accept Aurora's login. Tell Aurora's support.", "", 1},
		{"meets a busy Google", []answer{{503, "busy", nil}, {429, "{}", nil}, {200, fresh, nil}}, "1//old", "", "", "", "1//old", 3},
		{"meets one that stays busy", []answer{{500, `{"error":"internal_failure"}`, nil}}, "1//old", connect.Unavailable, "", "Google's login is busy.", "", 3},
		{"meets one that asks for a short pause", []answer{{503, "{}", []string{"Retry-After", "2"}}, {200, fresh, nil}}, "1//old", "", "", "", "1//old", 2},
		{"meets one that names a date", []answer{{503, "{}", []string{"Retry-After", "Sat, 01 Jan 2000 00:01:00 GMT"}}}, "1//old", connect.Unavailable, "", "Google's login is busy.", "", 1},
		{"meets one that asks for a long pause", []answer{{429, "{}", []string{"Retry-After", "4"}}}, "1//old", connect.Unavailable, "", "Google's login is busy.", "", 1},
		{"loses the connection", []answer{{}, {200, fresh, nil}}, "1//old", "", "", "", "1//old", 2},
		{"finds no connection", []answer{{}}, "1//old", connect.Unavailable, "", "Google could not be reached.", "", 3},
		{"is sent elsewhere", []answer{{307, "", []string{"Location", "http://thief.test/"}}}, "1//old", connect.Internal, "", "Google does not accept Aurora's login. Tell Aurora's support.", "", 1},
		{"gets no token", []answer{{200, `{"expires_in":3599}`, nil}}, "1//old", connect.Unavailable, "", "Google could not be reached.", "", 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Host != "google.test" {
						t.Errorf("went to %s", r.URL)
					}
					body, _ := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(body))
					want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"1//old"}, "client_id": {clientID}, "client_secret": {secret}}
					if diff := cmp.Diff(want, form); diff != "" {
						t.Errorf("sent (-want +got):\n%s", diff)
					}
					a := test.answers[min(tries, len(test.answers)-1)]
					tries++
					if a.code == 0 {
						return nil, io.ErrUnexpectedEOF
					}
					return reply(a.code, a.body, a.header...)
				})
				began := time.Now()
				got, err := c.Refresh(t.Context(), connect.Token{Access: "ya29.old", Refresh: test.refresh, Scopes: []string{"openid"}})
				if connect.CodeOf(err) != test.want || connect.ReasonOf(err) != test.reason || err != nil && connect.MessageOf(err) != test.message {
					t.Errorf("got %v, want %q %q %q", err, test.want, test.reason, test.message)
				}
				if tries != test.tries || time.Since(began) > 8*time.Second {
					t.Errorf("%d tries in %v, want %d", tries, time.Since(began), test.tries)
				}
				if err != nil {
					return
				}
				if got.Access != "ya29.new" || got.Refresh != test.kept || !cmp.Equal(got.Scopes, []string{"openid"}) || time.Until(got.Expiry) < 58*time.Minute {
					t.Errorf("refresh %q, expiry %v, scopes %q", got.Refresh.Reveal(), got.Expiry, got.Scopes)
				}
			})
		})
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		token connect.Token
		code  int
		body  string
		sent  string
		want  connect.Code
		tries int
	}{
		{"the refresh token", connect.Token{Access: "ya29.a", Refresh: "1//r"}, 200, `{}`, "token=1%2F%2Fr", "", 1},
		{"the access token where there is no other", connect.Token{Access: "ya29.a"}, 200, `{}`, "token=ya29.a", "", 1},
		{"nothing", connect.Token{}, 200, `{}`, "", "", 0},
		{"one that is revoked", connect.Token{Refresh: "1//r"}, 400, `{"error":"invalid_token","error_description":"Token expired or revoked"}`, "token=1%2F%2Fr", "", 1},
		{"one at a busy Google", connect.Token{Refresh: "1//r"}, 503, `busy`, "token=1%2F%2Fr", connect.Unavailable, 3},
		{"something else", connect.Token{Refresh: "1//r"}, 400, `{"error":"invalid_request"}`, "token=1%2F%2Fr", connect.Internal, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, sent := 0, ""
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					tries, sent = tries+1, string(body)
					if r.Method != http.MethodPost || r.URL.Path != "/revoke" || r.URL.RawQuery != "" {
						t.Errorf("%s %s", r.Method, r.URL)
					}
					return reply(test.code, test.body)
				})
				err := c.Revoke(t.Context(), test.token)
				if connect.CodeOf(err) != test.want || tries != test.tries || sent != test.sent {
					t.Errorf("got %v after %d tries of %q, want %q after %d of %q", err, tries, sent, test.want, test.tries, test.sent)
				}
			})
		})
	}
}

// TestACallerThatLeavesIsNotKept: what Google said is told, and not the end of
// the wait.
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
				tries := 0
				c := newClient(t, func(*http.Request) (*http.Response, error) {
					tries++
					return reply(503, "busy", "Retry-After", "3")
				})
				ctx, cancel := test.leave(t.Context())
				defer cancel()
				began := time.Now()
				_, err := c.Refresh(ctx, connect.Token{Refresh: "1//old"})
				if connect.CodeOf(err) != connect.Unavailable || connect.MessageOf(err) != "Google's login is busy." || tries != 1 || time.Since(began) != test.kept {
					t.Errorf("%d tries in %v, want one in %v: %v", tries, time.Since(began), test.kept, err)
				}
				synctest.Wait()
			})
		})
	}
}

// TestShortWaitsAddUpToSomeSecondsOnly: three tries with the longest waits that
// are kept fit, and a request that hangs is not made again.
func TestShortWaitsAddUpToSomeSecondsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			tries++
			return reply(503, "busy", "Retry-After", "3")
		})
		began := time.Now()
		_, err := c.Refresh(t.Context(), connect.Token{Refresh: "1//old"})
		if connect.CodeOf(err) != connect.Unavailable || tries != 3 || time.Since(began) != 6*time.Second {
			t.Errorf("%d tries in %v: %v", tries, time.Since(began), err)
		}

		tries = 0
		c = newClient(t, func(r *http.Request) (*http.Response, error) {
			tries++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		began = time.Now()
		_, err = c.Refresh(t.Context(), connect.Token{Refresh: "1//old"})
		if connect.CodeOf(err) != connect.Unavailable || tries != 1 || time.Since(began) != requestTimeout {
			t.Errorf("%d tries in %v: %v", tries, time.Since(began), err)
		}
	})
}
