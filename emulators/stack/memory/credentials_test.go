package memory_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
)

// Instances that refresh a user's token at the same moment all get a token that
// Google accepts. One successor is stored, and its refresh token works: at Google,
// where a refresh token stays, and at an authorization server that accepts each one
// once.
func TestCredentials_ConcurrentRefreshesLoseNothing(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]bool{"refresh token stays": false, "refresh token rotates": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { refreshAtOnce(t, rotate) })
		})
	}
}

// direct sends requests to a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func refreshAtOnce(t *testing.T, rotate bool) {
	t.Helper()
	const instances, rounds, googleURL = 4, 10, "http://google.test"
	vault := memory.NewVault()
	scenario := googletest.Scenario(1, googletest.Instant, func(s *google.Scenario) { s.Clients[0].RotateRefresh = rotate })
	server, err := google.NewServer(google.Options{Scenario: scenario, PublicURL: googleURL})
	if err != nil {
		t.Fatal(err)
	}
	transport, app := direct{server}, scenario.Clients[0]
	client, err := oauth.New(oauth.Options{
		ClientID: app.ID, ClientSecret: connect.Secret(app.Secret), RedirectURL: app.RedirectURIs[0],
		Endpoints: oauth.EndpointsUnder(googleURL), HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	logins, err := oauth.NewLogins(oauth.LoginOptions{
		ClientID: app.ID, RedirectURL: app.RedirectURIs[0], AuthURL: oauth.EndpointsUnder(googleURL).Auth,
		Key: oauth.LoginKey{Value: "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="},
	})
	if err != nil {
		t.Fatal(err)
	}
	state := oauth.NewState()
	consent, keyVersion := logins.Begin(state)
	proof, err := logins.Proof(t.Context(), state, keyVersion)
	if err != nil {
		t.Fatal(err)
	}
	back, err := server.Authorize(consent, google.Answer{User: owner})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := client.Exchange(t.Context(), connect.Secret(back.Query().Get("code")), proof)
	if err != nil {
		t.Fatal(err)
	}
	ref := connect.TokenRef(connect.NewID())
	version, err := vault.Put(t.Context(), ref, grant.Token, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*setup.Credentials, instances)
	for i := range all {
		all[i] = setup.NewCredentials(vault, client, nil, slog.New(slog.DiscardHandler))
	}
	for round := range rounds {
		stored, _, err := vault.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		stored.Expiry = time.Now().Add(-time.Minute)
		if version, err = vault.Put(t.Context(), ref, stored, version); err != nil {
			t.Fatal(err)
		}
		before := server.CallCounts().ByMethod["oauth.token"]
		var group sync.WaitGroup
		for _, c := range all {
			for range 3 {
				group.Go(func() {
					token, err := c.User(ref).Token(t.Context())
					if err == nil {
						err = accepts(t, transport, googleURL, token)
					}
					if err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
		}
		group.Wait()
		if asked := server.CallCounts().ByMethod["oauth.token"] - before; asked < 1 || asked > len(all) {
			t.Errorf("round %d: Google was asked %d times, want once for an instance at most", round, asked)
		}
		after, now, err := vault.Get(t.Context(), ref)
		if err != nil || now != version+1 || (after.Refresh != stored.Refresh) != rotate || after.Refresh == "" {
			t.Fatalf("round %d: the Vault holds version %d after version %d, with another refresh token: %t, want %t; %v", round, now, version, after.Refresh != stored.Refresh, rotate, err)
		}
		version = now
	}
}

// accepts returns an error unless Google accepts a token.
func accepts(t *testing.T, transport http.RoundTripper, googleURL string, token connect.Secret) error {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, googleURL+"/cloudresourcemanager/v3/projects/project-001", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("google answers the token %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}
