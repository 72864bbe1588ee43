package google

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	crmv3 "google.golang.org/api/cloudresourcemanager/v3"
)

func TestDiffSaysWhatChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.Snapshot()
	if diff := Diff(before, r.Snapshot()); diff != nil {
		t.Errorf("without a change: %q", diff)
	}
	account := must(r.as(demo).create(shop, "connect-agent"))(t)
	bindings := append(cloneBindings(before.Projects[indexOf(before, shop)].Bindings), Binding{Role: "roles/viewer", Members: []string{"serviceAccount:" + account.Email}})
	if err := r.SetPolicy(shop, bindings); err != nil {
		t.Fatal(err)
	}
	created := Diff(before, r.Snapshot())
	if len(created) != 2 || !strings.HasPrefix(created[0], "+ "+shop+" account "+account.Email) ||
		created[1] != "+ "+shop+" binding roles/viewer serviceAccount:"+account.Email {
		t.Errorf("after a creation and a grant: %q", created)
	}
	between := r.Snapshot()
	between.Projects[indexOf(between, shop)].ServiceAccounts[0].Disabled = true
	if changed := Diff(r.Snapshot(), between); len(changed) != 1 || !strings.HasPrefix(changed[0], "~ "+shop+" account ") || !strings.Contains(changed[0], `"disabled":false`) {
		t.Errorf("after a change: %q", changed)
	}
	removed := Diff(r.Snapshot(), before)
	for i, line := range removed {
		if line != "-"+created[i][1:] {
			t.Errorf("the way back: %q, want the opposite of %q", line, created[i])
		}
	}
	if diff := cmp.Diff(created, r.Changes()); diff != "" {
		t.Errorf("since the beginning (-want +got):\n%s", diff)
	}
	// By the administrative endpoint too.
	encoded := must(json.Marshal(before))(t)
	for verb, body := range map[string]string{"POST": string(encoded), "GET": ""} {
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), verb, "/admin/diff", strings.NewReader(body)))
		if diff := cmp.Diff(map[string][]string{"changes": created}, decoded[map[string][]string](t, answer.Body.Bytes())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
	}
	r.Reset()
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/admin/diff", nil))
	if got := decoded[map[string][]string](t, answer.Body.Bytes())["changes"]; got == nil || len(got) != 0 {
		t.Errorf("after a reset: %q", got)
	}
}

func decoded[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

// TestDiffHasALineForEachKindOfThing goes through all that can come, go and
// change.
func TestDiffHasALineForEachKindOfThing(t *testing.T) {
	t.Parallel()
	member := []string{"user:a@example.com"}
	before := Snapshot{Projects: []ProjectSnapshot{
		{ID: "project-1", State: "ACTIVE", BillingEnabled: true, EnabledAPIs: []string{"dns.googleapis.com"},
			Bindings: []Binding{{Role: "roles/viewer", Members: member}},
			ServiceAccounts: []AccountSnapshot{
				{Email: "old@p", UniqueID: "1"},
				{Email: "kept@p", UniqueID: "2", Bindings: []Binding{{Role: "roles/iam.serviceAccountUser", Members: member}}},
			},
			OrgPolicies: map[string]PolicySpec{"c.one": {Rules: []PolicyRule{{DenyAll: true}}}}},
		{ID: "project-2", State: "ACTIVE"},
	}}
	after := Snapshot{Projects: []ProjectSnapshot{
		{ID: "project-1", State: "ACTIVE", EnabledAPIs: []string{"run.googleapis.com"},
			Bindings: []Binding{
				{Role: "roles/viewer", Members: member, Condition: &Condition{Title: "soon", Expression: "true"}},
			},
			ServiceAccounts: []AccountSnapshot{{Email: "kept@p", UniqueID: "2", Disabled: true}},
			OrgPolicies:     map[string]PolicySpec{"c.one": {Rules: []PolicyRule{{AllowAll: true}}}}},
	}, Consents: []ConsentSnapshot{{User: "a@example.com", Project: "project-1", Scopes: []string{"openid"}, RefreshTokens: 1}}}
	want := []string{
		`+ consent a@example.com project-1 openid, 1 refresh tokens`,
		`~ project-1 account kept@p {"description":"","disabled":false,"displayName":"","uniqueId":"2"} -> {"description":"","disabled":true,"displayName":"","uniqueId":"2"}`,
		`- project-1 account kept@p binding roles/iam.serviceAccountUser user:a@example.com`,
		`- project-1 account old@p {"description":"","disabled":false,"displayName":"","uniqueId":"1"}`,
		`- project-1 api dns.googleapis.com`,
		`+ project-1 api run.googleapis.com`,
		`+ project-1 binding roles/viewer if {"title":"soon","expression":"true"} user:a@example.com`,
		`- project-1 binding roles/viewer user:a@example.com`,
		`~ project-1 policy c.one {"rules":[{"denyAll":true}]} -> {"rules":[{"allowAll":true}]}`,
		`~ project-1 project ACTIVE, billing true -> ACTIVE, billing false`,
		`- project-2 project ACTIVE, billing false`,
	}
	if diff := cmp.Diff(want, Diff(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheLogHasALineACall(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Latencies.Read = Duration(80 * time.Millisecond)
		s.Faults = []Fault{{Method: "iam.*", Reset: true}}
	})
	user := r.as(demo)
	must(user.v1.Projects.List().Do())(t)
	must(user.v3.Projects.Get("projects/210448675301").Do())(t)
	r.raw(t, "GET", "/cloudresourcemanager/v1/projects/no-such-project", "unknown", "")
	user.create(shop, "connect-agent")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/admin/log", nil))
	want := `2026-03-01T12:00:00.000Z 200     80ms cloudresourcemanager.projects.list by demo@example.com
2026-03-01T12:00:00.080Z 200     80ms cloudresourcemanager.projects.get in shop-production by demo@example.com
2026-03-01T12:00:00.160Z 401     80ms cloudresourcemanager.projects.get in no-such-project
2026-03-01T12:00:00.240Z   0       0s iam.serviceAccounts.create in shop-production by demo@example.com (fault)
`
	if diff := cmp.Diff(want, w.Body.String()); diff != "" || w.Header().Get("Content-Type") != "text/plain; charset=UTF-8" {
		t.Errorf("%s (-want +got):\n%s", w.Header().Get("Content-Type"), diff)
	}
	w = httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/admin/calls?detail=true", nil))
	if diff := cmp.Diff(r.Calls(), decoded[struct{ Calls []Call }](t, w.Body.Bytes()).Calls); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
}

func indexOf(s Snapshot, id string) int {
	for i, p := range s.Projects {
		if p.ID == id {
			return i
		}
	}
	return -1
}

// TestTheSameSeedGivesTheSameRun: with seed and clock given, a run with all
// that is left to chance (faults, short pages, IDs, names of operations) gives
// the same log, state and changes again.
func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	type run struct {
		Log, Changes, Operations []string
		Pages                    []int
		State                    Snapshot
	}
	play := func(seed uint64) (out run) {
		scenario, clock := DefaultScenario(), newClock()
		manyProjects(scenario)
		scenario.Pages = Pages{Size: 20, Short: true}
		scenario.Faults = []Fault{{Method: "*.projects.get*", Code: 503, Probability: 0.5}, {Method: "iam.*", Delay: Duration(time.Second), Probability: 0.5}}
		r := serveRig(t, Options{Scenario: scenario, Clock: clock, Seed: seed}, clock)
		user, token := r.as(demo), must(r.MintToken(demo))(t)
		if err := user.v3.Projects.Search().Pages(t.Context(), func(page *crmv3.SearchProjectsResponse) error {
			out.Pages = append(out.Pages, len(page.Projects))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		services := strings.Fields("run pubsub dns redis spanner file composer dataflow")
		for n := range 40 {
			r.status(t, shop, token)
			if n%10 == 0 {
				a := must(user.create(shop, fmt.Sprintf("account-%d", n)))(t)
				user.allow(t, a, "user:"+demo)
				out.Operations = append(out.Operations, must(user.batch(shop, services[n/5], services[n/5+1]))(t).Name)
			}
		}
		r.login(t, Answer{}, oauth2.AccessTypeOffline)
		clock.Advance(time.Minute) // operations end
		for _, c := range r.Calls() {
			out.Log = append(out.Log, c.String())
		}
		out.Changes, out.State = r.Changes(), r.Snapshot()
		return out
	}
	first := play(7)
	if diff := cmp.Diff(first, play(7)); diff != "" {
		t.Errorf("the same seed gave another run:\n%s", diff)
	}
	other := play(8)
	if cmp.Equal(first.Log, other.Log) || cmp.Equal(first.Pages, other.Pages) || cmp.Equal(first.Operations, other.Operations) || cmp.Equal(first.Changes, other.Changes) {
		t.Error("another seed gave the same run")
	}
	log, changes := strings.Join(first.Log, "\n"), strings.Join(first.Changes, "\n")
	for kind, there := range map[string]bool{
		"faults": strings.Contains(log, "(fault)"), "delays": strings.Contains(log, "1.5s iam.serviceAccounts.create in "+shop), // 1 s and its own
		"accounts": strings.Count(changes, "+ "+shop+" account account-") == 8, "services": strings.Contains(changes, "+ "+shop+" api dns.googleapis.com"),
		"consents": strings.Contains(changes, "+ consent "+demo),
	} {
		if !there {
			t.Errorf("the run has no %s:\n%s\n%s", kind, log, changes)
		}
	}
}

// TestTokensOutliveARotationOfKeysAndNotTwo: no fact is noted of the rotation;
// it follows the discovery document's jwks_uri, under which Google publishes
// the key before beside the one in use. A verifier that has been running all
// the time sees a key it does not know, and looks again.
func TestTokensOutliveARotationOfKeysAndNotTwo(t *testing.T) {
	t.Parallel()
	scenario := DefaultScenario()
	scenario.Latencies = Latencies{}
	r := serveRig(t, Options{Scenario: scenario, Issuer: "http://google.test", PublicURL: "http://google.test"}, nil)
	ctx := oidc.ClientContext(t.Context(), r.http)
	verifier := func() *oidc.IDTokenVerifier {
		return must(oidc.NewProvider(ctx, r.base))(t).Verifier(&oidc.Config{ClientID: oauthConfig(r).ClientID})
	}
	sign := func() string {
		text, _ := r.login(t, Answer{}).Extra("id_token").(string)
		return text
	}
	valid := func(v *oidc.IDTokenVerifier, tokens ...string) (out []bool) {
		for _, token := range tokens {
			_, err := v.Verify(ctx, token)
			out = append(out, err == nil)
		}
		return out
	}
	running := verifier()
	first := sign()
	if !valid(running, first)[0] {
		t.Fatal("a token is refused before any rotation")
	}
	r.RotateKeys()
	second := sign()
	for name, v := range map[string]*oidc.IDTokenVerifier{"running": running, "new": verifier()} {
		if diff := cmp.Diff([]bool{true, true}, valid(v, first, second)); diff != "" {
			t.Errorf("after one rotation, by a %s verifier, old and new token (-want +got):\n%s", name, diff)
		}
	}
	w := httptest.NewRecorder() // the second, by the administrative endpoint
	if r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/admin/keys/rotate", nil)); w.Code != 200 {
		t.Errorf("rotating answers %d %s", w.Code, w.Body)
	}
	third := sign()
	if diff := cmp.Diff([]bool{false, true, true}, valid(verifier(), first, second, third)); diff != "" {
		t.Errorf("after two rotations, all three tokens (-want +got):\n%s", diff)
	}
	w = httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/oauth2/v3/certs", nil))
	if keys := decoded[struct{ Keys []struct{ Kid string } }](t, w.Body.Bytes()).Keys; len(keys) != 2 || keys[0].Kid == keys[1].Kid {
		t.Errorf("published are %v", keys)
	}
}

// TestTheFirstKeyIsMadeOnce: many who sign at once before there is a key get
// tokens that all verify.
func TestTheFirstKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := must(NewServer(Options{}))(t)
	kids := make(chan string, 8)
	for range cap(kids) {
		go func() {
			header, _, _ := strings.Cut(s.keys.sign(map[string]any{}), ".")
			kids <- header
		}()
	}
	first := <-kids
	for range cap(kids) - 1 {
		if other := <-kids; other != first {
			t.Errorf("signed by %s and by %s", first, other)
		}
	}
}
