package memory_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
)

// Instances that refresh one user's token at the same moment all come away with
// a token that Google takes, and leave one successor in the Vault whose refresh
// token works: at Google, where a refresh token stays, and at an authorization
// server that takes each one once.
func TestInstancesThatRefreshAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	shared := memory.NewVault()
	for _, rotate := range []bool{false, true} {
		race(t, 10, []connect.Vault{shared, shared, shared, shared}, rotate)
	}
}

func race(t *testing.T, rounds int, vaults []connect.Vault, rotate bool) {
	t.Helper()
	scenario := googletest.Scenario(1, func(s *google.Scenario) { s.Clients[0].RotateRefresh = rotate })
	scenario.Latencies, scenario.Propagation = google.Latencies{}, google.Propagation{}
	at := httptest.NewServer(nil)
	defer at.Close()
	server, err := google.NewServer(google.Options{Scenario: scenario, PublicURL: at.URL})
	if err != nil {
		t.Fatal(err)
	}
	at.Config.Handler = server
	client, err := oauth.New(oauth.Options{
		ClientID: scenario.Clients[0].ID, ClientSecret: connect.Secret(scenario.Clients[0].Secret),
		RedirectURL: scenario.Clients[0].RedirectURIs[0], Endpoints: oauth.EndpointsUnder(at.URL),
	})
	if err != nil {
		t.Fatal(err)
	}
	logins, err := oauth.NewLogins(oauth.LoginOptions{
		ClientID: scenario.Clients[0].ID, RedirectURL: scenario.Clients[0].RedirectURIs[0], AuthURL: oauth.EndpointsUnder(at.URL).Auth,
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
	version, err := vaults[0].Put(t.Context(), ref, grant.Token, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*setup.Credentials, len(vaults))
	for i, v := range vaults {
		all[i] = setup.NewCredentials(v, client, nil, slog.New(slog.DiscardHandler))
	}
	for round := range rounds {
		stored, _, err := vaults[0].Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		stored.Expiry = time.Now().Add(-time.Minute)
		if version, err = vaults[0].Put(t.Context(), ref, stored, version); err != nil {
			t.Fatal(err)
		}
		before := server.CallCounts().ByMethod["oauth.token"]
		var group sync.WaitGroup
		for _, c := range all {
			for range 3 {
				group.Go(func() {
					token, err := c.User(ref).Token(t.Context())
					if err == nil {
						err = works(t, at.URL, token)
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
		after, now, err := vaults[0].Get(t.Context(), ref)
		if err != nil || now != version+1 || (after.Refresh != stored.Refresh) != rotate || after.Refresh == "" {
			t.Fatalf("round %d: the Vault holds version %d after version %d, with another refresh token: %t, want %t; %v", round, now, version, after.Refresh != stored.Refresh, rotate, err)
		}
		version = now
	}
}

// works asks Google whether it takes a token.
func works(t *testing.T, googleURL string, token connect.Secret) error {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, googleURL+"/cloudresourcemanager/v3/projects/project-001", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("google answers the token %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}
