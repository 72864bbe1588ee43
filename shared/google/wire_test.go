package google_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/google"
	"gcpconnect/shared/setup"
)

// The scenario's user and projects.
const (
	demo   = "demo@example.com"
	shop   = "shop-production"
	tools  = "internal-tools"
	unpaid = "dana-playground"

	constraint = "iam.allowedPolicyMemberDomains"
)

// wire is an emulated Google, over HTTP.
type wire struct {
	*emulated.Server
	google *google.Google
}

// serve serves the default scenario with no time in it, changed by change.
func serve(t *testing.T, change ...func(*emulated.Scenario)) wire {
	t.Helper()
	scenario := emulated.DefaultScenario()
	scenario.Latencies, scenario.Propagation, scenario.Quotas = emulated.Latencies{}, emulated.Propagation{}, false
	for _, f := range change {
		f(scenario)
	}
	s, err := emulated.NewServer(emulated.Options{Scenario: scenario, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	g, err := google.New(google.Options{Endpoints: google.EndpointsUnder(server.URL), Transport: server.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	return wire{s, g}
}

// minted gives tokens of one identity.
type minted struct {
	*emulated.Server
	email string
}

func (m minted) Token(context.Context) (connect.Secret, error) {
	token, err := m.MintToken(m.email)
	return connect.Secret(token), err
}

func (m minted) Renew(ctx context.Context, _ connect.Secret) (connect.Secret, error) {
	return m.Token(ctx)
}

func (w wire) as(email string) setup.Cloud { return w.google.As(minted{w.Server, email}) }

// project is a project of the scenario.
func project(s *emulated.Scenario, id string) *emulated.Project {
	i := slices.IndexFunc(s.Projects, func(p emulated.Project) bool { return p.ID == id })
	return &s.Projects[i]
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails wants an error of a class and a reason.
func fails(t *testing.T, err error, code connect.Code, reason string) {
	t.Helper()
	if connect.CodeOf(err) != code || connect.ReasonOf(err) != reason {
		t.Errorf("got %q %q, want %q %q: %v", connect.CodeOf(err), connect.ReasonOf(err), code, reason, err)
	}
}

func TestWireProjectsAndBilling(t *testing.T) {
	t.Parallel()
	w := serve(t, func(s *emulated.Scenario) { s.Pages = emulated.Pages{Size: 2, Short: true} })
	user := w.as(demo)
	projects, err := user.Projects(t.Context())
	ok(t, err)
	var ids []string
	for _, p := range projects {
		ids = append(ids, p.ID)
		if p.Number == "" || p.Name == "" || p.State != "ACTIVE" {
			t.Errorf("incomplete: %+v", p)
		}
	}
	slices.Sort(ids)
	if diff := cmp.Diff([]string{unpaid, "data-warehouse", tools, "ml-research-7", shop, "shop-staging"}, ids); diff != "" {
		t.Errorf("projects (-want +got):\n%s", diff)
	}
	for id, want := range map[string]bool{shop: true, unpaid: false} {
		if got, err := user.BillingEnabled(t.Context(), id); err != nil || got != want {
			t.Errorf("billing of %s: %v, %v", id, got, err)
		}
	}
	_, err = user.BillingEnabled(t.Context(), "not-theirs-1")
	fails(t, err, connect.Forbidden, "forbidden")

	held, err := user.TestPermissions(t.Context(), shop, []string{"resourcemanager.projects.setIamPolicy", "orgpolicy.policy.set"})
	ok(t, err)
	if diff := cmp.Diff([]string{"resourcemanager.projects.setIamPolicy"}, held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestWireAPIs(t *testing.T) {
	t.Parallel()
	w := serve(t)
	user := w.as(demo)
	apis := []string{"run.googleapis.com", "iam.googleapis.com", "cloudasset.googleapis.com"}
	missing, err := user.DisabledAPIs(t.Context(), shop, apis)
	ok(t, err)
	if diff := cmp.Diff([]string{"run.googleapis.com", "cloudasset.googleapis.com"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	for _, batch := range [][]string{missing[:1], missing} {
		operation, err := user.EnableAPIs(t.Context(), shop, batch)
		ok(t, err)
		if operation == "" {
			t.Fatal("no operation")
		}
		got, err := user.Operation(t.Context(), shop, operation)
		ok(t, err)
		if diff := cmp.Diff(setup.Operation{Done: true}, got); diff != "" {
			t.Errorf("operation (-want +got):\n%s", diff)
		}
	}
	missing, err = user.DisabledAPIs(t.Context(), shop, apis)
	ok(t, err)
	operation, err := user.EnableAPIs(t.Context(), shop, apis)
	ok(t, err)
	if len(missing) > 0 || operation != "" {
		t.Errorf("missing %q, operation %q: all are enabled", missing, operation)
	}
	operation, err = user.EnableAPIs(t.Context(), shop, apis[:1])
	ok(t, err)
	if operation != "" {
		t.Errorf("operation %q for one API that is enabled", operation)
	}
	counts := w.CallCounts().ByMethod
	if counts["serviceusage.services.enable"] != 2 || counts["serviceusage.services.batchEnable"] != 2 {
		t.Errorf("enabled singly %d times and as a batch %d times, want 2 and 2", counts["serviceusage.services.enable"], counts["serviceusage.services.batchEnable"])
	}

	ok(t, user.DisableAPI(t.Context(), shop, apis[0]))
	fails(t, user.DisableAPI(t.Context(), shop, "dns.googleapis.com"), connect.Precondition, "") // it is not enabled
	_, err = user.EnableAPIs(t.Context(), unpaid, []string{"run.googleapis.com", "compute.googleapis.com"})
	fails(t, err, connect.Precondition, setup.ReasonBillingMissing)
	_, err = user.EnableAPIs(t.Context(), shop, []string{"no-such.googleapis.com"})
	if connect.CodeOf(err) != connect.Forbidden {
		t.Errorf("an unknown API: %v", err)
	}
}

func TestWireAPIsThatCannotBeEnabled(t *testing.T) {
	t.Parallel()
	w := serve(t, func(s *emulated.Scenario) {
		project(s, shop).ServiceFailures = []emulated.ServiceFailure{
			{Service: "run.googleapis.com", At: "failures", Message: "Not here"},
			{Service: "pubsub.googleapis.com", At: "operation", Message: "Not now"},
			{Service: "cloudbuild.googleapis.com", At: "call", Code: 400, Status: "FAILED_PRECONDITION", Message: "Another activation or deactivation is in progress", Times: 1},
		}
	})
	user := w.as(demo)
	tests := []struct {
		api  string
		want setup.Operation
	}{
		{"run.googleapis.com", setup.Operation{Done: true, Failed: map[string]string{"run.googleapis.com": "Not here."}}},
		{"pubsub.googleapis.com", setup.Operation{Done: true, Message: "Not now."}},
		{"cloudbuild.googleapis.com", setup.Operation{Done: true}}, // the retry finds it free
	}
	for _, test := range tests {
		operation, err := user.EnableAPIs(t.Context(), shop, []string{test.api, "cloudasset.googleapis.com"})
		ok(t, err)
		got, err := user.Operation(t.Context(), shop, operation)
		ok(t, err)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.api, diff)
		}
	}
}

// TestWireServiceUsageWithoutCharge: a user who may see the APIs of a project
// and not charge calls to it.
func TestWireServiceUsageWithoutCharge(t *testing.T) {
	t.Parallel()
	w := serve(t, func(s *emulated.Scenario) {
		s.Roles = map[string][]string{"roles/looker": {"serviceusage.services.get"}}
		project(s, shop).Bindings = []emulated.Binding{{Role: "roles/looker", Members: []string{"user:" + demo}}}
	})
	_, err := w.as(demo).DisabledAPIs(t.Context(), shop, []string{"run.googleapis.com"})
	ok(t, err)
	if n := w.CallCounts().ByMethod["serviceusage.services.batchGet"]; n != 2 {
		t.Errorf("asked %d times, want 2: with the project charged and without", n)
	}
}

func TestWireAccounts(t *testing.T) {
	t.Parallel()
	w := serve(t, func(s *emulated.Scenario) {
		project(s, shop).ServiceAccounts = []emulated.ServiceAccount{{AccountID: "asleep", Disabled: true}}
	})
	user := w.as(demo)
	const email = "aurora-x-f@shop-production.iam.gserviceaccount.com"
	_, err := user.Account(t.Context(), shop, email)
	fails(t, err, connect.NotFound, "notFound")
	made, err := user.CreateAccount(t.Context(), shop, "aurora-x-f", "Aurora", "Made by Aurora")
	ok(t, err)
	read, err := user.Account(t.Context(), shop, email)
	ok(t, err)
	if made.Email != email || made != read {
		t.Errorf("made %+v, read %+v", made, read)
	}
	_, err = user.CreateAccount(t.Context(), shop, "aurora-x-f", "Aurora", "")
	fails(t, err, connect.Conflict, "alreadyExists")
	_, err = user.CreateAccount(t.Context(), shop, "No", "", "")
	if connect.CodeOf(err) != connect.Invalid {
		t.Errorf("a bad ID: %v", err)
	}

	const asleep = "asleep@shop-production.iam.gserviceaccount.com"
	before, err := user.Account(t.Context(), shop, asleep)
	ok(t, err)
	ok(t, user.EnableAccount(t.Context(), shop, asleep))
	after, err := user.Account(t.Context(), shop, asleep)
	ok(t, err)
	if !before.Disabled || after.Disabled {
		t.Errorf("disabled before %v, after %v", before.Disabled, after.Disabled)
	}
	ok(t, user.DisableAccount(t.Context(), shop, asleep))
	if again, err := user.Account(t.Context(), shop, asleep); err != nil || !again.Disabled {
		t.Errorf("disabled again: %+v, %v", again, err)
	}
	ok(t, user.DeleteAccount(t.Context(), shop, email))
	_, err = user.Account(t.Context(), shop, email)
	fails(t, err, connect.NotFound, "notFound")
	fails(t, user.DeleteAccount(t.Context(), shop, email), connect.NotFound, "notFound")
	fails(t, user.DisableAccount(t.Context(), shop, email), connect.NotFound, "notFound")

	// An answer that is lost after the account was made: the retry finds it.
	ok(t, w.AddFault(emulated.Fault{Method: "iam.serviceAccounts.create", Code: 503, AfterEffect: true, Count: 1}))
	_, err = user.CreateAccount(t.Context(), shop, "aurora-y-f", "", "")
	fails(t, err, connect.Conflict, "alreadyExists")
	ok(t, w.AddFault(emulated.Fault{Method: "iam.serviceAccounts.get", Reset: true, Count: 1}))
	_, err = user.Account(t.Context(), shop, asleep)
	ok(t, err)
}

func TestWirePolicies(t *testing.T) {
	t.Parallel()
	condition := &emulated.Condition{Title: "until 2030", Description: "d", Expression: `request.time < timestamp("2030-01-01T00:00:00Z")`}
	w := serve(t, func(s *emulated.Scenario) {
		p := project(s, shop)
		p.Bindings = append(p.Bindings, emulated.Binding{Role: "roles/run.admin", Members: []string{"user:eve@example.com"}, Condition: condition})
		p.ServiceAccounts[0].Bindings = []emulated.Binding{{Role: "roles/iam.serviceAccountUser", Members: []string{"user:eve@example.com"}, Condition: condition}}
	})
	user := w.as(demo)
	policy, err := user.Policy(t.Context(), shop)
	ok(t, err)
	const checkout = "serviceAccount:checkout@shop-production.iam.gserviceaccount.com"
	policy.Add("roles/run.admin", checkout)
	stale := *policy
	ok(t, user.SetPolicy(t.Context(), shop, policy))
	got, err := user.Policy(t.Context(), shop)
	ok(t, err)
	want := []setup.Binding{
		{Role: "roles/owner", Members: []string{"user:" + demo}},
		{Role: "roles/run.admin", Members: []string{checkout}},
		{Role: "roles/run.admin", Members: []string{"user:eve@example.com"}, Condition: &setup.Condition{Title: condition.Title, Description: condition.Description, Expression: condition.Expression}},
	}
	if diff := cmp.Diff(want, got.Bindings); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	fails(t, user.SetPolicy(t.Context(), shop, &stale), connect.Conflict, "aborted")
	changed, err := user.Policy(t.Context(), shop)
	ok(t, err)
	if diff := cmp.Diff(got, changed); diff != "" {
		t.Errorf("a refused write changed the policy (-before +after):\n%s", diff)
	}

	got.Add("roles/viewer", "serviceAccount:nobody@shop-production.iam.gserviceaccount.com")
	err = user.SetPolicy(t.Context(), shop, got)
	fails(t, err, connect.Invalid, setup.ReasonMemberMissing)
	if want := "Service account nobody@shop-production.iam.gserviceaccount.com does not exist."; connect.MessageOf(err) != want {
		t.Errorf("says %q", connect.MessageOf(err))
	}
	_, err = user.Policy(t.Context(), "not-theirs-1")
	fails(t, err, connect.Forbidden, "forbidden")

	const email = "checkout@shop-production.iam.gserviceaccount.com"
	own, err := user.AccountPolicy(t.Context(), shop, email)
	ok(t, err)
	own.Add("roles/iam.serviceAccountTokenCreator", "user:"+demo)
	staleOwn := *own
	ok(t, user.SetAccountPolicy(t.Context(), shop, email, own))
	fails(t, user.SetAccountPolicy(t.Context(), shop, email, &staleOwn), connect.Conflict, "aborted")
	own, err = user.AccountPolicy(t.Context(), shop, email)
	ok(t, err)
	want = []setup.Binding{
		{Role: "roles/iam.serviceAccountUser", Members: []string{"user:eve@example.com"}, Condition: &setup.Condition{Title: condition.Title, Description: condition.Description, Expression: condition.Expression}},
		{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"user:" + demo}},
	}
	byRole := cmpopts.SortSlices(func(a, b setup.Binding) bool { return a.Role < b.Role })
	if diff := cmp.Diff(want, own.Bindings, byRole); diff != "" {
		t.Errorf("policy of the account (-want +got):\n%s", diff)
	}
	own.Add("roles/iam.serviceAccountUser", "serviceAccount:nobody@shop-production.iam.gserviceaccount.com")
	fails(t, user.SetAccountPolicy(t.Context(), shop, email, own), connect.Invalid, setup.ReasonMemberMissing)
	_, err = user.AccountPolicy(t.Context(), shop, "nobody@shop-production.iam.gserviceaccount.com")
	fails(t, err, connect.NotFound, "notFound")
}

func TestWireOrgPolicies(t *testing.T) {
	t.Parallel()
	only := emulated.PolicySpec{Rules: []emulated.PolicyRule{{Values: &emulated.StringValues{AllowedValues: []string{"C03demo42"}}}}}
	w := serve(t, func(s *emulated.Scenario) {
		s.Organizations[0].OrgPolicies = map[string]emulated.PolicySpec{constraint: only}
		s.Organizations[0].Bindings = append(s.Organizations[0].Bindings, emulated.Binding{Role: "roles/orgpolicy.policyAdmin", Members: []string{"user:admin@example.com"}})
		s.Users = append(s.Users, emulated.User{Email: "admin@example.com", Sub: "104523178234567890199", Domain: "example.com"})
		p := project(s, tools)
		p.OrgPolicies = map[string]emulated.PolicySpec{constraint: only}
		lonely := project(s, unpaid)
		lonely.Parent, lonely.Bindings = "", []emulated.Binding{{Role: "roles/owner", Members: []string{"user:" + demo}}}
	})
	user, admin := w.as(demo), w.as("admin@example.com")
	for _, id := range []string{shop, tools} {
		if allowed, err := user.EffectivelyAllowsAll(t.Context(), id, constraint); err != nil || allowed {
			t.Errorf("%s: allowed %v, %v", id, allowed, err)
		}
	}
	if allowed, err := user.EffectivelyAllowsAll(t.Context(), unpaid, constraint); err != nil || !allowed {
		t.Errorf("a project without organization: allowed %v, %v", allowed, err)
	}
	_, err := user.OrgPolicy(t.Context(), shop, constraint)
	fails(t, err, connect.NotFound, "")
	fails(t, user.AllowAll(t.Context(), shop, constraint, ""), connect.Forbidden, "IAM_PERMISSION_DENIED")

	policy, err := user.Policy(t.Context(), shop)
	ok(t, err)
	policy.Add("roles/viewer", "user:stranger@elsewhere.test")
	fails(t, user.SetPolicy(t.Context(), shop, policy), connect.Precondition, setup.ReasonDomainRestricted)

	ok(t, admin.AllowAll(t.Context(), shop, constraint, ""))
	fails(t, admin.AllowAll(t.Context(), tools, constraint, ""), connect.Conflict, "")
	own, err := admin.OrgPolicy(t.Context(), tools, constraint)
	ok(t, err)
	if own.Etag == "" || !strings.Contains(own.Spec, `"allowedValues":["C03demo42"]`) {
		t.Errorf("the policy that is to be kept is %+v", own)
	}
	fails(t, admin.AllowAll(t.Context(), tools, constraint, "c3RhbGU="), connect.Conflict, "")
	ok(t, admin.AllowAll(t.Context(), tools, constraint, own.Etag))
	for _, id := range []string{shop, tools} {
		if allowed, err := user.EffectivelyAllowsAll(t.Context(), id, constraint); err != nil || !allowed {
			t.Errorf("%s: allowed %v, %v", id, allowed, err)
		}
	}

	// Back to what stood before: in one project nothing, in the other its own.
	for id, before := range map[string]string{shop: "", tools: own.Spec} {
		set, err := admin.OrgPolicy(t.Context(), id, constraint)
		ok(t, err)
		fails(t, admin.RestoreOrgPolicy(t.Context(), id, constraint, "c3RhbGU=", before), connect.Conflict, "")
		ok(t, admin.RestoreOrgPolicy(t.Context(), id, constraint, set.Etag, before))
		if allowed, err := user.EffectivelyAllowsAll(t.Context(), id, constraint); err != nil || allowed {
			t.Errorf("%s: restored it allows all: %v, %v", id, allowed, err)
		}
	}
	_, err = user.OrgPolicy(t.Context(), shop, constraint)
	fails(t, err, connect.NotFound, "")
	if restored, err := admin.OrgPolicy(t.Context(), tools, constraint); err != nil || !strings.Contains(restored.Spec, `"allowedValues":["C03demo42"]`) {
		t.Errorf("the restored policy is %+v, %v", restored, err)
	}
	fails(t, admin.RestoreOrgPolicy(t.Context(), tools, constraint, own.Etag, "no JSON"), connect.Precondition, "")
}

func TestWireImpersonationAndDiscovery(t *testing.T) {
	t.Parallel()
	const email = "checkout@shop-production.iam.gserviceaccount.com"
	w := serve(t, func(s *emulated.Scenario) {
		p := project(s, shop)
		*p.EnabledAPIs = append(*p.EnabledAPIs, "cloudasset.googleapis.com", "iamcredentials.googleapis.com")
		p.Bindings = append(p.Bindings, emulated.Binding{Role: "roles/cloudasset.viewer", Members: []string{"serviceAccount:" + email}},
			emulated.Binding{Role: "roles/serviceusage.serviceUsageConsumer", Members: []string{"serviceAccount:" + email}})
		s.Pages = emulated.Pages{Size: 4}
	})
	user := w.as(demo)
	for _, e := range []string{email, "nobody@shop-production.iam.gserviceaccount.com"} {
		_, err := user.Impersonate(t.Context(), e)
		fails(t, err, connect.Forbidden, "IAM_PERMISSION_DENIED")
	}
	policy, err := user.AccountPolicy(t.Context(), shop, email)
	ok(t, err)
	policy.Add("roles/iam.serviceAccountTokenCreator", "user:"+demo)
	ok(t, user.SetAccountPolicy(t.Context(), shop, email, policy))
	token, err := user.Impersonate(t.Context(), email)
	ok(t, err)
	if token.Value == "" || token.Expiry.IsZero() {
		t.Error("no token")
	}

	agent := w.google.As(still(token.Value))
	held, err := agent.TestPermissions(t.Context(), shop, []string{"cloudasset.assets.searchAllResources", "run.services.create"})
	ok(t, err)
	if diff := cmp.Diff([]string{"cloudasset.assets.searchAllResources"}, held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	found, pages := map[string]int{}, 0
	for next := ""; ; {
		var page []connect.Resource
		page, next, err = agent.SearchResources(t.Context(), shop, next)
		ok(t, err)
		for _, r := range page {
			found[r.Type]++
		}
		if pages++; next == "" {
			break
		}
	}
	if found["gke_cluster"] != 1 || found["compute_instance"] != 4 || found["service_account"] != 2 || pages < 2 {
		t.Errorf("found %v on %d pages", found, pages)
	}

	_, _, err = agent.SearchResources(t.Context(), tools, "")
	fails(t, err, connect.Forbidden, "") // neither chargeable nor visible
	_, _, err = w.as(demo).SearchResources(t.Context(), tools, "")
	fails(t, err, connect.Forbidden, setup.ReasonServiceDisabled)
}

// still gives one token for ever.
type still connect.Secret

func (s still) Token(context.Context) (connect.Secret, error) { return connect.Secret(s), nil }

func (s still) Renew(context.Context, connect.Secret) (connect.Secret, error) {
	return "", connect.Errorf(connect.NeedsReauth, "There is no other.")
}

func TestWireAnExpiredTokenIsRenewed(t *testing.T) {
	t.Parallel()
	w := serve(t)
	cloud := w.google.As(&aging{minted{w.Server, demo}, "ya29.long-gone"})
	_, err := cloud.BillingEnabled(t.Context(), shop)
	ok(t, err)
	_, err = w.google.As(still("ya29.long-gone")).BillingEnabled(t.Context(), shop)
	fails(t, err, connect.NeedsReauth, "")
}

// aging gives a token that Google no longer takes, until it is asked to renew.
type aging struct {
	minted
	token connect.Secret
}

func (a *aging) Token(context.Context) (connect.Secret, error) { return a.token, nil }

func (a *aging) Renew(ctx context.Context, _ connect.Secret) (connect.Secret, error) {
	token, err := a.minted.Token(ctx)
	a.token = token
	return token, err
}
