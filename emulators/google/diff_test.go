package google

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

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
	// By the administrative endpoint too.
	encoded := must(json.Marshal(before))(t)
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/admin/diff", strings.NewReader(string(encoded))))(t)
	resp := must(r.http.Do(req))(t)
	defer resp.Body.Close()
	var answer struct{ Changes []string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(created, answer.Changes); diff != "" {
		t.Errorf("the endpoint's answer (-want +got):\n%s", diff)
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
	if !strings.HasPrefix(first[0], "12:00:00.000 ") || !strings.Contains(strings.Join(first, "\n"), "(fault)") ||
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
