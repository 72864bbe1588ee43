package google

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"
	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	crmv3 "google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/serviceusage/v1"

	"gcpconnect/shared/setup"
)

const checkout = "checkout@shop-production.iam.gserviceaccount.com"

func seconds60() *Duration { d := Duration(time.Minute); return &d }

func policyOf(t *testing.T, v *view, project string, version int64) *crmv1.Policy {
	t.Helper()
	return must(v.v1.Projects.GetIamPolicy(project, &crmv1.GetIamPolicyRequest{Options: &crmv1.GetPolicyOptions{RequestedPolicyVersion: version}}).Do())(t)
}

func setPolicyOf(v *view, project string, p *crmv1.Policy) (*crmv1.Policy, error) {
	return v.v1.Projects.SetIamPolicy(project, &crmv1.SetIamPolicyRequest{Policy: p}).Do()
}

// Fact (Resource Manager): a missing or forbidden project answers 403, never
// 404.
func TestForbiddenAndMissingProjectsLookTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Users = append(s.Users, User{Email: "eve@example.org", Sub: "77"}) })
	eve := r.as("eve@example.org")
	for _, project := range []string{shop, "no-such-project"} {
		_, err := eve.v1.Projects.Get(project).Do()
		mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "", "The caller does not have permission"})
		_, err = eve.v3.Projects.Get("projects/" + project).Do()
		mustRefuse(t, err, denied)
		_, err = eve.v3.Projects.GetIamPolicy("projects/"+project, &crmv3.GetIamPolicyRequest{}).Do()
		mustRefuse(t, err, denied)
		_, err = eve.billing.Projects.GetBillingInfo("projects/" + project).Do()
		mustRefuse(t, err, denied)
		_, err = eve.usage.Services.Get("projects/" + project + "/services/run.googleapis.com").Do()
		mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "AUTH_PERMISSION_DENIED"})
		_, err = eve.org.Projects.Policies.Get("projects/" + project + "/policies/iam.allowedPolicyMemberDomains").Do()
		mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "IAM_PERMISSION_DENIED"})
		_, err = eve.asset.V1.SearchAllResources("projects/" + project).Do()
		mustRefuse(t, err, denied)
	}
}

// Fact (Resource Manager): every set changes the etag, and a stale one gets
// 409 ABORTED.
func TestEtags(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	first := policyOf(t, user, shop, 3)
	if raw, err := base64.StdEncoding.DecodeString(first.Etag); err != nil || len(raw) != 8 {
		t.Errorf("etag %q is not base64 of 8 bytes", first.Etag)
	}
	second := must(setPolicyOf(user, shop, first))(t)
	if second.Etag == first.Etag {
		t.Error("setting does not change the etag")
	}
	if first.Version != 1 || second.Version != 1 {
		t.Errorf("versions %d, %d; without conditions both are 1", first.Version, second.Version)
	}
	_, err := setPolicyOf(user, shop, first)
	mustRefuse(t, err, refusal{409, "ABORTED", "", "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."})
	second.Version = 3
	if third := must(setPolicyOf(user, shop, second))(t); third.Version != 1 {
		t.Errorf("version 3 without conditions comes back as %d", third.Version)
	}
}

// Fact (Resource Manager): without requestedPolicyVersion 3 and the etag,
// conditions can be lost; bindings are kept by role and condition.
func TestConditionalBindings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	whole := policyOf(t, user, staging, 3)
	if whole.Version != 3 || whole.Bindings[1].Condition == nil || whole.Bindings[1].Condition.Title != "until 2027" {
		t.Errorf("version 3 shows %+v", whole.Bindings[1])
	}
	old := policyOf(t, user, staging, 1)
	if old.Version != 1 || old.Bindings[1].Condition != nil || !strings.HasPrefix(old.Bindings[1].Role, "roles/run.viewer_withcond_") {
		t.Errorf("version 1 shows %+v", old.Bindings[1])
	}
	old.Bindings = append(old.Bindings[:1], &crmv1.Binding{Role: "roles/viewer", Members: []string{"user:" + demo}})
	_, err := setPolicyOf(user, staging, old)
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	old.Etag = ""
	must(setPolicyOf(user, staging, old))(t)
	if p := policyOf(t, user, staging, 3); p.Version != 1 || len(p.Bindings) != 2 {
		t.Errorf("without etag the condition must be lost, got %+v", p)
	}
	whole.Etag = ""
	back := must(setPolicyOf(user, staging, whole))(t)
	if diff := cmp.Diff("request.time < timestamp(\"2027-01-01T00:00:00Z\")", back.Bindings[1].Condition.Expression); diff != "" {
		t.Errorf("expression (-want +got):\n%s", diff)
	}
	back.Version = 1
	_, err = setPolicyOf(user, staging, back)
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
}

// Fact (Resource Manager): bindings are told apart by role and condition, so a
// member of a conditional one holds the role only while the condition does.
func TestConditionsAboutTimeHoldByTheClock(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Users = append(s.Users, User{Email: "contractor@example.com", Sub: "78"})
	})
	for condition, want := range map[string]string{ // before, on and after the first of April
		`request.time < timestamp("2026-04-01T00:00:00Z")`:                                                     "yes no no",
		`request.time <= timestamp('2026-04-01T00:00:00Z')`:                                                    "yes yes no",
		`request.time > timestamp("2026-04-01T00:00:00Z")`:                                                     "no no yes",
		`request.time >= timestamp("2026-04-01T00:00:00Z")`:                                                    "no yes yes",
		`request.time > timestamp("2026-03-15T00:00:00Z") && request.time < timestamp("2026-04-01T00:00:00Z")`: "yes no no",
		`request.time < timestamp("never")`:                                                                    "no no no",
		`resource.name.startsWith("projects/_/buckets/b")`:                                                     "no no no",
	} {
		r.clock.set(newClock().now)
		r.Reset()
		if err := r.SetPolicy(staging, []Binding{{Role: "roles/run.viewer", Members: []string{"user:contractor@example.com"}, Condition: &Condition{Title: "t", Expression: condition}}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range []time.Time{
			time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC),
		} {
			r.clock.set(at)
			held := must(r.as("contractor@example.com").v1.Projects.TestIamPermissions(staging, &crmv1.TestIamPermissionsRequest{Permissions: []string{"run.services.list"}}).Do())(t)
			got = append(got, map[int]string{0: "no", 1: "yes"}[len(held.Permissions)])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", condition, got, want)
		}
	}
}

// Fact (Resource Manager): as above. What a condition about something else
// than time would say is not known here, so the scenario says it.
func TestOtherConditionsGiveNothingUnlessTheScenarioSaysSo(t *testing.T) {
	t.Parallel()
	for _, hold := range []bool{false, true} {
		r := newRig(t, func(s *Scenario) {
			s.ConditionsHold = hold
			s.Users = append(s.Users, User{Email: "contractor@example.com", Sub: "78"})
			s.Projects[2].Bindings = []Binding{{Role: "roles/run.viewer", Members: []string{"user:contractor@example.com"}, Condition: &Condition{Title: "t", Expression: `resource.type == "x"`}}}
		})
		held := must(r.as("contractor@example.com").v1.Projects.TestIamPermissions(staging, &crmv1.TestIamPermissionsRequest{Permissions: []string{"run.services.list"}}).Do())(t)
		if got := len(held.Permissions) == 1; got != hold {
			t.Errorf("conditionsHold %v: held %v", hold, got)
		}
	}
}

// Fact (Resource Manager): at most 1,500 principals in a policy. Each
// appearance counts, also of one who has a role already.
func TestAPolicyHolds1500PrincipalsAndNoMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	p := policyOf(t, user, shop, 3) // one principal is there, the owner
	viewers := &crmv1.Binding{Role: "roles/viewer"}
	for i := range maxPrincipals - 2 {
		viewers.Members = append(viewers.Members, fmt.Sprintf("user:u%d@example.com", i))
	}
	again := &crmv1.Binding{Role: "roles/browser", Members: viewers.Members[:1:1]}
	p.Bindings = append(p.Bindings, viewers, again)
	p = must(setPolicyOf(user, shop, p))(t)
	for _, b := range p.Bindings {
		if b.Role == "roles/browser" {
			b.Members = append(b.Members, viewers.Members[1])
		}
	}
	_, err := setPolicyOf(user, shop, p)
	mustRefuse(t, err, refusal{400, "INVALID_ARGUMENT", "", "(1501)"})
}

// Fact (Resource Manager): members that do not exist, too many principals,
// allUsers on a project and foreign owners are refused with 400 and their
// reasons.
func TestPoliciesAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]string, 1501)
	for i := range many {
		many[i] = fmt.Sprintf("user:u%d@example.com", i)
	}
	tests := map[string]struct {
		role    string
		members []string
		project string
		change  func(*Scenario)
		want    refusal
	}{
		"with an unknown role":              {"roles/nonsense", []string{"user:" + demo}, shop, nil, refusal{400, "INVALID_ARGUMENT", "", "Role roles/nonsense is not supported for this resource."}},
		"with a role of organizations":      {"roles/orgpolicy.policyAdmin", []string{"user:" + demo}, shop, nil, refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"with a malformed member":           {"roles/viewer", []string{demo}, shop, nil, refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"with a missing service account":    {"roles/viewer", []string{"serviceAccount:nobody@shop-production.iam.gserviceaccount.com"}, shop, nil, refusal{400, "INVALID_ARGUMENT", "", "Service account nobody@shop-production.iam.gserviceaccount.com does not exist."}},
		"with everybody":                    {"roles/viewer", []string{"allUsers"}, shop, nil, refusal{Code: 400, Status: "INVALID_ARGUMENT", Reason: "PROJECT_SET_IAM_DISALLOWED_MEMBER_TYPE"}},
		"with an outside owner":             {"roles/owner", []string{"user:eve@example.org"}, shop, nil, refusal{Code: 400, Status: "INVALID_ARGUMENT", Reason: "ORG_MUST_INVITE_EXTERNAL_OWNERS"}},
		"with a new owner, no organization": {"roles/owner", []string{"user:eve@example.org"}, shop, func(s *Scenario) { s.Projects[1].Parent = "" }, refusal{Code: 400, Status: "INVALID_ARGUMENT", Reason: "SOLO_MUST_INVITE_OWNERS"}},
		"with more than 1,500 principals":   {"roles/viewer", many, shop, nil, refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"by domain-restricted sharing":      {"roles/viewer", []string{"user:eve@example.org"}, shop, restrictDomains, refusal{400, "FAILED_PRECONDITION", "", customerNotPermittedMsg}},
		"because of a member that was there": {"roles/viewer", []string{"user:" + demo}, shop, func(s *Scenario) {
			restrictDomains(s)
			s.Projects[1].Bindings = append(s.Projects[1].Bindings, Binding{Role: "roles/editor", Members: []string{"user:old@example.net"}})
		}, refusal{Code: 400, Status: "FAILED_PRECONDITION"}},
		"by the managed constraint": {"roles/viewer", []string{"user:eve@example.org"}, shop, func(s *Scenario) {
			s.Organizations[0].OrgPolicies = map[string]PolicySpec{managedMembers: {Rules: []PolicyRule{{Enforce: true, Parameters: []byte(`{"allowedPrincipalSets":["//cloudresourcemanager.googleapis.com/organizations/518204713966"]}`)}}}}
		}, refusal{Code: 400, Status: "FAILED_PRECONDITION"}},
		"not for an owner from within":       {"roles/owner", []string{"user:colleague@example.com"}, shop, nil, refusal{}},
		"not for a service account as owner": {"roles/owner", []string{"serviceAccount:" + checkout}, shop, restrictDomains, refusal{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) {
				if test.change != nil {
					test.change(s)
				}
			})
			user := r.as(demo)
			p := policyOf(t, user, test.project, 3)
			p.Bindings = append(p.Bindings, &crmv1.Binding{Role: test.role, Members: test.members})
			_, err := setPolicyOf(user, test.project, p)
			mustRefuse(t, err, test.want)
		})
	}
}

func restrictDomains(s *Scenario) {
	s.Organizations[0].OrgPolicies = map[string]PolicySpec{domainRestricted: {Rules: []PolicyRule{{Values: &StringValues{AllowedValues: []string{"is:C03demo42"}}}}}}
}

// Fact (IAM): a policy change takes minutes to be seen, in each project its
// own time.
func TestGrantsSpreadInTime(t *testing.T) {
	t.Parallel()
	never := Never
	r := newRig(t, func(s *Scenario) {
		s.Propagation.Project = seconds60()
		s.Propagation.Removal = seconds60()
		s.Projects[2].Propagation = &GrantDelays{Project: &never}
	})
	user := r.as(demo)
	sees := func(project string) bool {
		held := must(r.as(checkout).v1.Projects.TestIamPermissions(project, &crmv1.TestIamPermissionsRequest{Permissions: []string{"resourcemanager.projects.get"}}).Do())(t)
		return len(held.Permissions) == 1
	}
	// checkout's own project is its consumer: both APIs are enabled there.
	grantRole(t, user, shop, "roles/viewer", "serviceAccount:"+checkout)
	grantRole(t, user, staging, "roles/run.viewer", "serviceAccount:"+checkout)
	if sees(shop) {
		t.Error("the grant has effect at once")
	}
	r.clock.Advance(30 * time.Second)
	grantRole(t, user, shop, "roles/run.viewer", "user:"+demo) // another set must not delay the first
	r.clock.Advance(30 * time.Second)
	if !sees(shop) {
		t.Error("the grant has no effect after its delay")
	}
	grantRole(t, user, shop, "roles/pubsub.viewer", "user:"+demo)
	if !sees(shop) {
		t.Error("a kept member went backwards")
	}
	p := policyOf(t, user, shop, 3)
	for _, b := range p.Bindings {
		if b.Role == "roles/viewer" {
			b.Members = []string{"user:" + demo}
		}
	}
	must(setPolicyOf(user, shop, p))(t)
	if !sees(shop) {
		t.Error("the removal has effect at once")
	}
	r.clock.Advance(time.Minute)
	if sees(shop) {
		t.Error("the removal has no effect after its delay")
	}
	r.clock.Advance(1000 * time.Hour)
	if sees(staging) {
		t.Error("what never spreads has spread")
	}
}

// Fact (IAM): through groups a policy change takes longer, up to hours.
func TestGrantsThroughGroupsSpreadLater(t *testing.T) {
	t.Parallel()
	hours := Duration(3 * time.Hour)
	r := newRig(t, func(s *Scenario) {
		s.Users = append(s.Users, User{Email: "member@example.com", Sub: "80"}, User{Email: "alone@example.com", Sub: "81"})
		s.Groups = []Group{{Email: "team@example.com", Members: []string{"member@example.com"}}}
		s.Propagation.Project, s.Propagation.Group = seconds60(), &hours
		s.Projects[2].Propagation = &GrantDelays{Group: seconds60()} // in one project it is fast
	})
	for _, project := range []string{shop, staging} {
		grantRole(t, r.as(demo), project, "roles/browser", "group:team@example.com")
		grantRole(t, r.as(demo), project, "roles/browser", "user:alone@example.com")
	}
	sees := func() string {
		var out []string
		for _, who := range []string{"alone@example.com", "member@example.com"} {
			for _, project := range []string{shop, staging} {
				if _, err := r.as(who).v1.Projects.Get(project).Do(); err == nil {
					out = append(out, strings.TrimSuffix(who, "@example.com")+" "+project)
				}
			}
		}
		return strings.Join(out, ", ")
	}
	got := []string{sees()}
	r.clock.Advance(time.Minute)
	got = append(got, sees())
	r.clock.Advance(3*time.Hour - time.Minute)
	got = append(got, sees())
	want := []string{"", "alone shop-production, alone shop-staging, member shop-staging", "alone shop-production, alone shop-staging, member shop-production, member shop-staging"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seen at once, after a minute, after three hours (-want +got):\n%s", diff)
	}
}

// Fact (IAM): a policy change takes its time, and so does its removal. What is
// removed before it was effective never becomes so.
func TestWhatIsTakenBackInTimeNeverHolds(t *testing.T) {
	t.Parallel()
	longer := Duration(time.Hour)
	r := newRig(t, func(s *Scenario) { s.Propagation.Project, s.Propagation.Removal = seconds60(), &longer })
	user := r.as(demo)
	before := policyOf(t, user, shop, 3)
	grantRole(t, user, shop, "roles/browser", "serviceAccount:"+runner)
	r.clock.Advance(30 * time.Second)
	before.Etag = ""
	must(setPolicyOf(user, shop, before))(t)
	for range 10 {
		r.clock.Advance(15 * time.Second)
		_, err := r.as(runner).v1.Projects.Get(shop).Do()
		mustRefuse(t, err, denied)
	}
}

// TestKeptGrantsNeverGoBackwards: whatever else happens to a policy, and
// however long changes take, who stays in it keeps what was effective once.
// Fact (IAM): a policy change takes its time; nothing says that it takes back.
func TestKeptGrantsNeverGoBackwards(t *testing.T) {
	t.Parallel()
	const kept, other = "user:kept@example.com", "user:other@example.com"
	property := func(steps []uint16) bool {
		now := newClock().now
		w := newWorld(&Scenario{}, nil, now)
		p := w.newPolicy(nil, nil)
		who := &principal{members: map[string]bool{kept: true}}
		held := false
		for _, step := range steps {
			now = now.Add(time.Duration(step%8) * 20 * time.Second)
			bindings := []Binding{{Role: "roles/viewer", Members: []string{kept}}}
			if step&8 != 0 {
				bindings[0].Members = append(bindings[0].Members, other)
			}
			if step&16 != 0 {
				bindings = append(bindings, Binding{Role: "roles/viewer", Members: []string{kept}, Condition: &Condition{Title: "t", Expression: "x"}})
			}
			if step&32 != 0 {
				bindings = append(bindings, Binding{Role: "roles/browser", Members: []string{kept, other}})
			}
			delays := spread{grant: Duration(time.Duration(step>>6%8) * 20 * time.Second), removal: Duration(time.Duration(step>>9%8) * 20 * time.Second)}
			w.replace(p, bindings, now, delays)
			for range 3 {
				if holds := w.allowed(who, "run.services.list", []*policy{p}, now); held && !holds {
					return false
				} else {
					held = holds
				}
				now = now.Add(15 * time.Second)
			}
		}
		return true
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

// Fact (Service Usage, Org Policy, IAM): Owner and Editor may use a project for
// its quota; neither may set organization policies or mint tokens. The other
// roles are those that a setup grants, with what Google's reference says of
// each: some of what it holds, and what its neighbours hold and it does not.
func TestRolesOfASetupHoldWhatGoogleSays(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ holds, lacks string }{
		"roles/owner":  {"resourcemanager.projects.setIamPolicy iam.serviceAccounts.setIamPolicy serviceusage.services.use serviceusage.services.enable orgpolicy.policy.get run.services.setIamPolicy", "orgpolicy.policy.set iam.serviceAccounts.getAccessToken iam.serviceAccounts.signJwt"},
		"roles/editor": {"serviceusage.services.use serviceusage.services.enable iam.serviceAccounts.create iam.serviceAccounts.actAs compute.instances.create", "resourcemanager.projects.setIamPolicy iam.serviceAccounts.setIamPolicy run.services.setIamPolicy orgpolicy.policy.set iam.serviceAccounts.getAccessToken secretmanager.versions.access"},
		"roles/viewer": {"resourcemanager.projects.get resourcemanager.projects.getIamPolicy run.services.list compute.instances.get cloudasset.assets.searchAllResources serviceusage.services.list iam.serviceAccounts.list",
			"serviceusage.services.use serviceusage.services.enable resourcemanager.projects.setIamPolicy storage.objects.get secretmanager.versions.access iam.serviceAccounts.actAs"},
		"roles/container.admin":                   {"container.clusters.create container.pods.exec resourcemanager.projects.get", "iam.serviceAccounts.actAs compute.instances.create resourcemanager.projects.setIamPolicy"},
		"roles/run.admin":                         {"run.services.create run.services.setIamPolicy run.jobs.run", "iam.serviceAccounts.actAs cloudfunctions.functions.create"},
		"roles/compute.admin":                     {"compute.instances.create compute.firewalls.create compute.networks.delete", "iam.serviceAccounts.actAs container.clusters.create"},
		"roles/storage.admin":                     {"storage.buckets.create storage.buckets.setIamPolicy storage.objects.get storage.objects.delete", "bigquery.datasets.create resourcemanager.projects.setIamPolicy"},
		"roles/cloudfunctions.admin":              {"cloudfunctions.functions.create cloudfunctions.functions.setIamPolicy", "iam.serviceAccounts.actAs storage.buckets.create"},
		"roles/bigquery.admin":                    {"bigquery.datasets.create bigquery.jobs.create bigquery.tables.getData", "storage.objects.get"},
		"roles/cloudsql.admin":                    {"cloudsql.instances.create cloudsql.instances.connect cloudsql.users.create", "compute.instances.create"},
		"roles/artifactregistry.admin":            {"artifactregistry.repositories.create artifactregistry.repositories.setIamPolicy", "cloudbuild.builds.create"},
		"roles/cloudbuild.builds.editor":          {"cloudbuild.builds.create cloudbuild.builds.update cloudbuild.operations.get", "cloudbuild.builds.approve artifactregistry.repositories.create"},
		"roles/iam.serviceAccountUser":            {"iam.serviceAccounts.actAs iam.serviceAccounts.get iam.serviceAccounts.list", "iam.serviceAccounts.getAccessToken iam.serviceAccounts.create iam.serviceAccounts.setIamPolicy"},
		"roles/iam.securityReviewer":              {"resourcemanager.projects.getIamPolicy iam.serviceAccounts.list iam.roles.list iam.serviceAccounts.getIamPolicy", "resourcemanager.projects.setIamPolicy iam.serviceAccounts.actAs storage.objects.get"},
		"roles/cloudasset.viewer":                 {"cloudasset.assets.searchAllResources serviceusage.services.use", "cloudasset.feeds.create run.services.list"},
		"roles/serviceusage.serviceUsageConsumer": {"serviceusage.services.use serviceusage.services.get", "serviceusage.services.enable serviceusage.services.disable"},
		"roles/monitoring.viewer":                 {"monitoring.timeSeries.list monitoring.alertPolicies.get", "monitoring.alertPolicies.create monitoring.timeSeries.create"},
		"roles/logging.viewer":                    {"logging.logEntries.list logging.sinks.get", "logging.privateLogEntries.list logging.sinks.create"},
	}
	for _, granted := range slices.Concat(setup.DefaultAgentRoles(), setup.DefaultAskRoles()) {
		test, known := tests[granted.Name]
		if !known {
			t.Errorf("nothing is said of %s, which setups grant", granted.Name)
		}
		test.holds += " " + granted.Proof
		tests[granted.Name] = test
	}
	r := newRig(t, func(s *Scenario) {
		for i, name := range sortedKeys(tests) {
			email := fmt.Sprintf("user%d@example.com", i)
			s.Users = append(s.Users, User{Email: email, Sub: fmt.Sprint(1000 + i)})
			s.Projects[1].Bindings = append(s.Projects[1].Bindings, Binding{Role: name, Members: []string{"user:" + email}})
		}
	})
	for i, name := range sortedKeys(tests) {
		holds, lacks := strings.Fields(tests[name].holds), strings.Fields(tests[name].lacks)
		slices.Sort(holds)
		holds = slices.Compact(holds)
		got := must(r.as(fmt.Sprintf("user%d@example.com", i)).v1.Projects.TestIamPermissions(shop, &crmv1.TestIamPermissionsRequest{Permissions: slices.Concat(holds, lacks)}).Do())(t)
		if diff := cmp.Diff(holds, got.Permissions); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Fact (IAM): TokenCreator granted on a project reaches every account in it. So
// does what is granted above the project, and never what is beside it
// (https://cloud.google.com/iam/docs/resource-hierarchy-access-control).
func TestGrantsReachWhatIsBelowAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Users = append(s.Users, User{Email: "admin@example.com", Sub: "79"})
		s.Organizations[0].Bindings = []Binding{{Role: "roles/resourcemanager.projectIamAdmin", Members: []string{"user:admin@example.com"}}}
		s.Folders[0].Bindings = []Binding{{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"user:admin@example.com"}}}
		s.Projects[0].Bindings = []Binding{{Role: "roles/browser", Members: []string{"user:admin@example.com"}}}
	})
	admin := r.as("admin@example.com")
	grantRole(t, admin, shop, "roles/browser", "user:someone@example.com")   // in the folder
	grantRole(t, admin, unpaid, "roles/browser", "user:someone@example.com") // in the organization
	must(admin.mint(checkout))(t)
	_, err := admin.mint(runner) // of another organization
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "IAM_PERMISSION_DENIED"})
	_, err = setPolicyOf(admin, "gcpconnect-platform", &crmv1.Policy{})
	mustRefuse(t, err, denied)
}

// Fact (Org Policy, Service Usage): Owner and Editor do not hold
// orgpolicy.policy.set, and do hold serviceusage.services.use.
func TestRolesHold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		role, permission string
		want             bool
	}{
		{"roles/owner", "resourcemanager.projects.setIamPolicy", true},
		{"roles/owner", "orgpolicy.policy.set", false},
		{"roles/owner", "orgpolicy.policy.get", true},
		{"roles/owner", "iam.serviceAccounts.getAccessToken", false},
		{"roles/owner", "serviceusage.services.use", true},
		{"roles/editor", "serviceusage.services.use", true},
		{"roles/editor", "iam.serviceAccounts.create", true},
		{"roles/editor", "resourcemanager.projects.setIamPolicy", false},
		{"roles/editor", "orgpolicy.policy.set", false},
		{"roles/viewer", "run.services.list", true},
		{"roles/viewer", "run.services.create", false},
		{"roles/viewer", "serviceusage.services.use", false},
		{"roles/viewer", "cloudasset.assets.searchAllResources", true},
		{"roles/browser", "resourcemanager.projects.get", true},
		{"roles/browser", "run.services.list", false},
		{"roles/container.admin", "container.clusters.list", true},
		{"roles/container.viewer", "container.clusters.list", true},
		{"roles/run.admin", "run.services.list", true},
		{"roles/compute.viewer", "compute.instances.list", true},
		{"roles/storage.admin", "storage.buckets.list", true},
		{"roles/storage.objectViewer", "storage.buckets.list", false},
		{"roles/cloudfunctions.admin", "cloudfunctions.functions.list", true},
		{"roles/bigquery.metadataViewer", "bigquery.datasets.get", true},
		{"roles/cloudsql.viewer", "cloudsql.instances.list", true},
		{"roles/cloudasset.viewer", "cloudasset.assets.searchAllResources", true},
		{"roles/serviceusage.serviceUsageConsumer", "serviceusage.services.use", true},
		{"roles/serviceusage.serviceUsageViewer", "serviceusage.services.use", false},
		{"roles/iam.serviceAccountTokenCreator", "iam.serviceAccounts.getAccessToken", true},
		{"roles/iam.serviceAccountUser", "iam.serviceAccounts.getAccessToken", false},
		{"roles/monitoring.viewer", "monitoring.timeSeries.list", true},
		{"roles/logging.viewer", "logging.logEntries.list", true},
		{"roles/orgpolicy.policyAdmin", "orgpolicy.policy.set", true},
		{"roles/orgpolicy.policyViewer", "orgpolicy.policy.set", false},
		{"roles/resourcemanager.projectIamAdmin", "resourcemanager.projects.setIamPolicy", true},
	}
	for _, test := range tests {
		if got := predefined[test.role].holds(test.permission); got != test.want {
			t.Errorf("%s holds %s: %v, want %v", test.role, test.permission, got, test.want)
		}
	}
}

// No fact is noted of it: bindings of folders and organizations hold for the
// projects in them
// (https://cloud.google.com/iam/docs/resource-hierarchy-access-control).
func TestBindingsAreInherited(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Users = append(s.Users, User{Email: "auditor@example.com", Sub: "79"}, User{Email: "member@example.com", Sub: "80"})
		s.Groups = []Group{{Email: "team@example.com", Members: []string{"member@example.com"}}}
		s.Organizations[0].Bindings = []Binding{{Role: "roles/viewer", Members: []string{"user:auditor@example.com"}}}
		s.Folders[0].Bindings = []Binding{{Role: "roles/browser", Members: []string{"group:team@example.com"}}}
	})
	if got := len(must(r.as("auditor@example.com").v1.Projects.List().Do())(t).Projects); got != 6 {
		t.Errorf("the auditor sees %d projects of the organization, want 6", got)
	}
	if got := len(must(r.as("member@example.com").v3.Projects.Search().Do())(t).Projects); got != 3 {
		t.Errorf("the team sees %d projects of the folder, want 3", got)
	}
}

func TestTestingPermissions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	test := func(v *view, project string, permissions ...string) ([]string, error) {
		out, err := v.v3.Projects.TestIamPermissions("projects/"+project, &crmv3.TestIamPermissionsRequest{Permissions: permissions}).Do()
		if err != nil {
			return nil, err
		}
		return out.Permissions, nil
	}
	if held := must(test(r.as(demo), shop, "run.services.list", "orgpolicy.policy.set"))(t); !cmp.Equal(held, []string{"run.services.list"}) {
		t.Errorf("the owner holds %q", held)
	}
	if held := must(test(r.as(runner), shop, "run.services.list"))(t); len(held) != 0 {
		t.Errorf("a stranger holds %q", held)
	}
	_, err := test(r.as(demo), "no-such-project", "run.services.list")
	mustRefuse(t, err, denied)
	for _, wrong := range []string{"run.services.*", "nonsense", "nosuchservice.things.list"} {
		_, err := test(r.as(demo), shop, wrong)
		mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	}
}

// Fact (Service Usage): with X-Goog-User-Project the quota falls on that
// project, whose services.use the caller must hold.
func TestUserProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// A viewer may see the project but not use it as a quota project.
	if err := r.SetPolicy(shop, []Binding{{Role: "roles/viewer", Members: []string{"serviceAccount:" + runner}}, {Role: "roles/owner", Members: []string{"user:" + demo}}}); err != nil {
		t.Fatal(err)
	}
	must(r.as(runner).v1.Projects.Get(shop).Do())(t)
	_, err := r.as(runner, shop).v1.Projects.Get(shop).Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "USER_PROJECT_DENIED"})
	must(r.as(demo, shop).v1.Projects.Get(shop).Do())(t)
	// In the project of a user's quota header the API must be enabled.
	_, err = r.as(demo, unpaid).v1.Projects.Get(shop).Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "SERVICE_DISABLED"})
}

// Fact (errors in general): the consumer of a SERVICE_DISABLED may be the OAuth
// client's own project: the control-plane APIs must be enabled there too.
func TestUsersCallsNeedTheAPIInTheClientsProject(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Projects[0].EnabledAPIs = &[]string{"iam.googleapis.com"} })
	_, err := r.as(demo).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "SERVICE_DISABLED", "Cloud Resource Manager API has not been used in project 401827365910 before or it is disabled."})
	must(r.as(demo, shop).v1.Projects.List().Do())(t)
}

// Fact (errors in general, Service Usage): 403 SERVICE_DISABLED with Help and
// ErrorInfo of the consumer; an API that was enabled a moment ago can answer so
// for minutes.
func TestServiceDisabled(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Propagation.EnabledAPI = Duration(2 * time.Minute) })
	agent, user := r.as(checkout), r.as(demo)
	// A service account's own project is the consumer.
	_, err := agent.asset.V1.SearchAllResources("projects/" + shop).Do()
	mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "SERVICE_DISABLED", "Cloud Asset API has not been used in project 210448675301 before or it is disabled."})
	must(user.usage.Services.Enable("projects/"+shop+"/services/cloudasset.googleapis.com", &serviceusage.EnableServiceRequest{}).Do())(t)
	_, err = agent.asset.V1.SearchAllResources("projects/" + shop).Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "SERVICE_DISABLED"})
	r.clock.Advance(2 * time.Minute)
	_, err = agent.asset.V1.SearchAllResources("projects/" + shop).Do()
	mustRefuse(t, err, denied)
}

func TestCredentialsAreChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, test := range []struct{ header, reason string }{
		{"", "CREDENTIALS_MISSING"},
		{"Bearer ya29.unknown", "ACCESS_TOKEN_EXPIRED"},
		{"Bearer nonsense", "ACCESS_TOKEN_TYPE_UNSUPPORTED"},
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/cloudresourcemanager/v1/projects", nil)
		req.Header.Set("Authorization", test.header)
		r.ServeHTTP(w, req)
		if w.Code != 401 || !strings.Contains(w.Body.String(), test.reason) || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d %s", test.header, w.Code, w.Body)
		}
		want := http.Header{"Content-Type": {"application/json; charset=UTF-8"}, "Vary": {"Origin, X-Origin, Referer"}, "X-Content-Type-Options": {"nosniff"}}
		for name := range want {
			if diff := cmp.Diff(want[name], w.Header()[name]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// TestTidyKeepsEveryGrant: whatever the bindings, tidying loses no grant and
// does nothing the second time.
func TestTidyKeepsEveryGrant(t *testing.T) {
	t.Parallel()
	grants := func(bindings []Binding) map[grantKey]bool {
		out := map[grantKey]bool{}
		for _, b := range bindings {
			for _, m := range b.Members {
				out[keyOf(b, m)] = true
			}
		}
		return out
	}
	property := func(picks []uint8) bool {
		var bindings []Binding
		for _, n := range picks {
			b := Binding{Role: fmt.Sprintf("roles/r%d", n%3), Members: []string{fmt.Sprintf("user:u%d@example.com", n/8%4)}}
			if n%2 == 1 {
				b.Condition = &Condition{Title: "t", Expression: fmt.Sprint(n / 64)}
			}
			bindings = append(bindings, b)
		}
		once := tidy(bindings)
		return cmp.Equal(grants(bindings), grants(once)) && cmp.Equal(once, tidy(once))
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

// Fact (Resource Manager): a stale etag answers 409 ABORTED, and the whole
// read-modify-write is to be done again: then no writer's change is lost.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	roles := []string{"roles/container.admin", "roles/run.admin", "roles/compute.admin", "roles/storage.admin", "roles/bigquery.admin", "roles/dns.admin", "roles/redis.admin", "roles/pubsub.admin"}
	var group sync.WaitGroup
	for _, role := range roles {
		v := r.as(demo)
		group.Go(func() {
			for {
				policy, err := v.v1.Projects.GetIamPolicy(shop, &crmv1.GetIamPolicyRequest{Options: &crmv1.GetPolicyOptions{RequestedPolicyVersion: 3}}).Do()
				if err != nil {
					t.Error(err)
					return
				}
				policy.Bindings = append(policy.Bindings, &crmv1.Binding{Role: role, Members: []string{"user:" + demo}})
				_, err = setPolicyOf(v, shop, policy)
				if e, ok := errors.AsType[*googleapi.Error](err); !ok || e.Code != http.StatusConflict {
					if err != nil {
						t.Errorf("%s: %v", role, err)
					}
					return
				}
			}
		})
	}
	group.Wait()
	p, _ := r.Project(shop)
	for _, role := range roles {
		if !slices.ContainsFunc(p.Bindings, func(b Binding) bool { return b.Role == role && slices.Contains(b.Members, "user:"+demo) }) {
			t.Errorf("%s was lost", role)
		}
	}
}

// Fact (Resource Manager): the etag changes on every set. So of any number of
// writers who have read the same policy one gets through, and the others are
// told to begin again.
func TestOfWritersWithOneEtagOneGetsThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := policyOf(t, r.as(demo), shop, 3)
	refusals := make(chan refusal, 16)
	for range cap(refusals) {
		v := r.as(demo)
		go func() {
			_, err := setPolicyOf(v, shop, p)
			refusals <- refused(err)
		}()
	}
	got := map[int]int{}
	for range cap(refusals) {
		got[(<-refusals).Code]++
	}
	if diff := cmp.Diff(map[int]int{0: 1, 409: 15}, got); diff != "" {
		t.Errorf("writers by answer (-want +got):\n%s", diff)
	}
}
