package google

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
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

// The same seed, clock and calls give the same log, faults by chance included.
func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	play := func(seed uint64) []string {
		scenario, clock := DefaultScenario(), newClock()
		scenario.Faults = []Fault{{Code: 503, Probability: 0.5}}
		r := serveRig(t, Options{Scenario: scenario, Clock: clock, Seed: seed}, clock)
		token := must(r.MintToken(demo))(t)
		for range 40 {
			r.status(t, shop, token)
		}
		var lines []string
		for _, c := range r.Calls() {
			lines = append(lines, c.String())
		}
		return lines
	}
	first := play(7)
	if diff := cmp.Diff(first, play(7)); diff != "" {
		t.Errorf("the same seed gave another run:\n%s", diff)
	}
	if cmp.Equal(first, play(8)) {
		t.Error("another seed gave the same run")
	}
	if !strings.HasPrefix(first[0], "2026-03-01T12:00:00.000Z ") || !strings.Contains(strings.Join(first, "\n"), "(fault)") ||
		!strings.Contains(first[0], "cloudresourcemanager.projects.getIamPolicy in "+shop+" by "+demo) {
		t.Errorf("a line of the log is %q", first[0])
	}
}

// Fact (OAuth): the keys of id_tokens are rotated, and the key before stays
// published so that tokens outlive a rotation.
func TestTokensOutliveARotationOfKeysAndNotTwo(t *testing.T) {
	t.Parallel()
	scenario := DefaultScenario()
	scenario.Latencies = Latencies{}
	r := serveRig(t, Options{Scenario: scenario, Issuer: "http://google.test", PublicURL: "http://google.test"}, nil)
	good := func(token string) bool {
		ctx := oidc.ClientContext(t.Context(), r.http)
		provider := must(oidc.NewProvider(ctx, r.base))(t) // anew: it has no keys yet
		_, err := provider.Verifier(&oidc.Config{ClientID: "aud"}).Verify(ctx, token)
		return err == nil
	}
	sign := func() string { return must(r.IDToken("queue@p.iam.gserviceaccount.com", "aud"))(t) }
	old := sign()
	r.RotateKeys()
	young := sign()
	for name, token := range map[string]string{"before": old, "after": young} {
		if !good(token) {
			t.Errorf("a token of %s the rotation is refused", name)
		}
	}
	r.RotateKeys()
	if good(old) || !good(young) || !good(sign()) {
		t.Error("after a second rotation the first key must be gone, and the second not")
	}
}
