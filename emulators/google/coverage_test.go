package google

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	crmv3 "google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/serviceusage/v1"
)

// A coverage is what was seen of one method.
type coverage struct {
	*method
	published string // Google's name for it
	called    bool   // with success, by the official client
	exchanges
	taken, refusedNames int // parameters and fields of the discovery document; unknown ones
}

// TestEveryMethodIsAsGooglePublishesIt leaves no line of the table in
// methods.go unchecked: each method is called with success and with every
// field and parameter there is, and refuses those that there are not.
func TestEveryMethodIsAsGooglePublishesIt(t *testing.T) {
	t.Parallel()
	docs := must(documents())(t)
	var rows []*coverage
	r := newCoverageRig(t)
	callEveryMethod(t, r)
	for i := range methods {
		m := &methods[i]
		if m.api == oauthAPI {
			continue
		}
		_, as := published(docs, m)
		if as == nil {
			t.Errorf("Google does not publish %s %s", m.verb, m.path)
			continue
		}
		row := &coverage{method: m, published: as.ID, exchanges: r.inspector.count(m)}
		row.called = row.answered > 0
		rows = append(rows, row)
	}
	t.Run("names", func(t *testing.T) {
		for _, row := range rows {
			t.Run(row.verb+" "+strings.ReplaceAll(row.path, "/", "|"), func(t *testing.T) {
				t.Parallel()
				row.tryNames(t)
			})
		}
	})

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "method\tcalls\tanswers validated\trefusals validated\tknown names taken\tunknown names refused")
	for _, row := range rows {
		fmt.Fprintf(w, "%s (%s)\t%d\t%d\t%d\t%d\t%d\n", row.published, strings.SplitN(row.path, "/", 2)[0],
			row.answered+row.refused, row.answered, row.refused, row.taken, row.refusedNames)
		if !row.called || row.refused == 0 || row.taken == 0 || row.refusedNames == 0 {
			t.Errorf("%s has a hole: %+v", row.published, *row)
		}
	}
	w.Flush()
	t.Log("\n" + table.String())
	for _, name := range []string{"OperationMetadata", "EnableServiceResponse", "DisableServiceResponse", "BatchEnableServicesResponse"} {
		if r.inspector.types["google.api.serviceusage.v1."+name] == 0 {
			t.Errorf("no operation had a %s", name)
		}
	}
}

// newCoverageRig gives the user every permission that the methods ask for.
func newCoverageRig(t *testing.T) *rig {
	return newRig(t, asPolicyAdmin, func(s *Scenario) {
		s.Latencies.Operation = Duration(time.Second)
		s.Projects[1].Bindings = append(s.Projects[1].Bindings, Binding{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"user:" + demo}})
		s.Projects[1].OrgPolicies = map[string]PolicySpec{noNewKeys: {Rules: []PolicyRule{{Enforce: true}}}}
	})
}

const noNewKeys = "iam.disableServiceAccountKeyCreation"

// callEveryMethod drives every method once or more by the official client, so
// that answers come in all their forms: empty and full, under way, done and
// failed.
func callEveryMethod(t *testing.T, r *rig) {
	t.Helper()
	user := r.as(demo)
	const parent, account = "projects/" + shop, "projects/" + shop + "/serviceAccounts/" + checkout
	conditional := &Condition{Title: "this year", Expression: "request.time < timestamp('2027-01-01T00:00:00Z')"}

	for _, filter := range []string{"", "lifecycleState:ACTIVE", "id:no-such-project"} {
		must(user.v1.Projects.List().Filter(filter).PageSize(2).Do())(t)
	}
	must(user.v1.Projects.Get(shop).Do())(t)
	must(user.v1.Projects.SetIamPolicy(shop, &crmv1.SetIamPolicyRequest{Policy: &crmv1.Policy{Version: 3, Bindings: []*crmv1.Binding{
		{Role: "roles/owner", Members: []string{"user:" + demo}},
		{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"user:" + demo}},
		{Role: "roles/run.viewer", Members: []string{"group:ops@example.com"}, Condition: &crmv1.Expr{Title: conditional.Title, Expression: conditional.Expression}},
	}}}).Do())(t)
	for _, version := range []int64{1, 3} {
		must(user.v1.Projects.GetIamPolicy(shop, &crmv1.GetIamPolicyRequest{Options: &crmv1.GetPolicyOptions{RequestedPolicyVersion: version}}).Do())(t)
	}
	for _, permissions := range [][]string{nil, {"resourcemanager.projects.get"}} {
		must(user.v1.Projects.TestIamPermissions(shop, &crmv1.TestIamPermissionsRequest{Permissions: permissions}).Do())(t)
		must(user.v3.Projects.TestIamPermissions(parent, &crmv3.TestIamPermissionsRequest{Permissions: permissions}).Do())(t)
		must(user.iam.Projects.ServiceAccounts.TestIamPermissions(account, &iam.TestIamPermissionsRequest{Permissions: permissions}).Do())(t)
	}
	must(user.v3.Projects.Search().Query("state:ACTIVE").PageSize(2).Do())(t)
	must(user.v3.Projects.Get(parent).Do())(t)
	policy := must(user.v3.Projects.GetIamPolicy(parent, &crmv3.GetIamPolicyRequest{Options: &crmv3.GetPolicyOptions{RequestedPolicyVersion: 3}}).Do())(t)
	must(user.v3.Projects.SetIamPolicy(parent, &crmv3.SetIamPolicyRequest{Policy: policy}).Do())(t)
	must(user.billing.Projects.GetBillingInfo(parent).Do())(t)
	must(user.billing.Projects.GetBillingInfo("projects/" + unpaid).Do())(t)

	must(user.usage.Services.List(parent).Filter("state:ENABLED").PageSize(3).Do())(t)
	must(user.usage.Services.Get(parent + "/services/run.googleapis.com").Do())(t)
	must(user.usage.Services.BatchGet(parent).Names(parent+"/services/run.googleapis.com", parent+"/services/compute.googleapis.com").Do())(t)
	wait := func(op *serviceusage.Operation, err error) {
		t.Helper()
		must(op, err)(t)
		must(user.usage.Operations.Get(op.Name).Do())(t) // under way
		r.clock.Advance(time.Second)
		if done := must(user.usage.Operations.Get(op.Name).Do())(t); !done.Done || len(done.Response) == 0 || len(done.Metadata) == 0 {
			t.Errorf("operation %s ends as %+v", op.Name, done)
		}
	}
	wait(user.usage.Services.Enable(parent+"/services/run.googleapis.com", &serviceusage.EnableServiceRequest{}).Do())
	must(user.usage.Services.Enable(parent+"/services/run.googleapis.com", &serviceusage.EnableServiceRequest{}).Do())(t)
	wait(user.usage.Services.Disable(parent+"/services/run.googleapis.com", &serviceusage.DisableServiceRequest{CheckIfServiceHasUsage: "SKIP"}).Do())
	wait(user.batch(shop, "run", "pubsub"))
	must(user.batch(shop, "run", "pubsub"))(t)
	_, err := user.usage.Operations.Get("operations/unknown").Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "AUTH_PERMISSION_DENIED"})

	accounts := user.iam.Projects.ServiceAccounts
	made := must(accounts.Create(parent, &iam.CreateServiceAccountRequest{AccountId: "connect-agent", ServiceAccount: &iam.ServiceAccount{DisplayName: "Agent", Description: "Connects"}}).Do())(t)
	_, err = accounts.Create(parent, &iam.CreateServiceAccountRequest{AccountId: "connect-agent"}).Do()
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
	must(accounts.List(parent).PageSize(2).Do())(t)
	must(accounts.Patch(made.Name, &iam.PatchServiceAccountRequest{UpdateMask: "description", ServiceAccount: &iam.ServiceAccount{Description: "Connects still"}}).Do())(t)
	_, err = accounts.Patch(made.Name, &iam.PatchServiceAccountRequest{UpdateMask: "email", ServiceAccount: &iam.ServiceAccount{}}).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	must(accounts.Disable(made.Name, &iam.DisableServiceAccountRequest{}).Do())(t)
	if got := must(accounts.Get(made.Name).Do())(t); !got.Disabled || got.DisplayName != "Agent" || got.Description != "Connects still" {
		t.Errorf("patched and disabled: %+v", got)
	}
	must(accounts.Enable(made.Name, &iam.EnableServiceAccountRequest{}).Do())(t)
	user.allow(t, made, "user:"+demo)
	must(accounts.GetIamPolicy(account).Do())(t) // empty
	must(accounts.Delete(made.Name).Do())(t)
	must(accounts.Undelete("projects/-/serviceAccounts/"+made.UniqueId, &iam.UndeleteServiceAccountRequest{}).Do())(t)
	must(user.cred.Projects.ServiceAccounts.GenerateAccessToken("projects/-/serviceAccounts/"+checkout, &iamcredentials.GenerateAccessTokenRequest{Scope: []string{cloudPlatform}, Lifetime: "60s"}).Do())(t)

	must(user.cred.Projects.ServiceAccounts.SignJwt("projects/-/serviceAccounts/"+checkout, &iamcredentials.SignJwtRequest{Payload: `{"sub":"x"}`}).Do())(t)

	must(user.org.Projects.Constraints.List(parent).Do())(t)
	must(user.org.Projects.Policies.Create(parent, allowAll()).Do())(t)
	_, err = user.org.Projects.Policies.Create(parent, allowAll()).Do()
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
	must(user.org.Projects.Policies.Patch(shopDomains, allowAll()).UpdateMask("*").Do())(t)
	must(user.org.Projects.Policies.Get(parent + "/policies/" + noNewKeys).Do())(t)
	must(user.org.Projects.Policies.List(parent).Do())(t)
	must(user.org.Projects.Policies.GetEffectivePolicy(shopDomains).Do())(t)
	must(user.org.Projects.Policies.Delete(shopDomains).Do())(t)
	must(user.asset.V1.SearchAllResources(parent).AssetTypes("compute.googleapis.com/.*").PageSize(5).Do())(t)
	must(user.asset.V1.SearchAllResources(parent).Query("no-such-thing").Do())(t)
}

// tryNames sends the method what its discovery document knows, a parameter at
// a time and all fields at once, and what it does not know, at every depth.
// Each request finds the cloud as it was.
func (row *coverage) tryNames(t *testing.T) {
	r := newCoverageRig(t)
	d, as := published(r.inspector.docs, row.method)
	token := must(r.MintToken(demo))(t)
	base := "/" + row.api.prefix + "/" + row.samplePath()
	send := func(query url.Values, body any) (int, string) {
		t.Helper()
		encoded, path := "", base
		if as.Request != nil {
			encoded = string(must(json.Marshal(body))(t))
		}
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		return r.raw(t, row.verb, path, token, encoded)
	}
	full := d.sample(as.Request)
	misread := func(code int, answer string) bool {
		return code == 401 || code == 405 || strings.Contains(answer, "Invalid JSON payload") || strings.Contains(answer, "Invalid value at")
	}
	refuses := func(what, want string, query url.Values, body any) {
		t.Helper()
		before := r.Snapshot()
		code, answer := send(query, body)
		var e struct {
			Error struct{ Status, Message string }
		}
		if err := json.Unmarshal([]byte(answer), &e); err != nil || code != 400 || e.Error.Status != "INVALID_ARGUMENT" || !strings.HasPrefix(e.Error.Message, want) {
			t.Errorf("%s is answered %d %s\nwant %s", what, code, answer, want)
			return
		}
		after := r.Snapshot()
		if fmt.Sprint(before.Projects) != fmt.Sprint(after.Projects) {
			t.Errorf("%s changed something", what)
		}
		row.refusedNames++
	}

	if code, _ := r.raw(t, row.verb, base, "", ""); code != 401 {
		t.Errorf("without a token it is answered %d", code)
	}
	stranger := must(r.MintToken(runner))(t)
	if code, _ := r.raw(t, row.verb, base, stranger, ""); row.permission != "" && code != 403 {
		t.Errorf("a stranger is answered %d", code)
	}
	unknown := "Invalid JSON payload received. Unknown name \"nonsense\": Cannot bind query parameter. Field 'nonsense' could not be found in request message."
	refuses("an unknown parameter", unknown, url.Values{"nonsense": {"1"}}, full)
	for name, p := range as.Parameters {
		if p.Location == "query" && p.Type == "integer" {
			refuses("text for "+name, fmt.Sprintf("Invalid value at '%s' (TYPE_INT32), \"many\"", snake(name)), url.Values{name: {"many"}}, full)
		}
	}
	if as.Request != nil {
		d.eachObject("", as.Request, full, func(path string, _ *schema, inner map[string]any) {
			inner["nonsense"] = 1
			defer delete(inner, "nonsense")
			want := `Invalid JSON payload received. Unknown name "nonsense": Cannot find field.`
			if path != "" {
				want = fmt.Sprintf(`Invalid JSON payload received. Unknown name "nonsense" at '%s': Cannot find field.`, path)
			}
			refuses("an unknown field in "+path, want, nil, full)
		})
		d.eachEnum("", as.Request, full, func(path string, object map[string]any, name string) {
			kept := object[name]
			object[name] = "NONSENSE"
			defer func() { object[name] = kept }()
			refuses("an unknown value of "+path, "Invalid value at '"+path+"' (type.googleapis.com/", nil, full)
		})
		if code, answer := send(nil, full); misread(code, answer) {
			t.Errorf("all known fields %v are answered %d %s", full, code, answer)
		}
		row.taken += d.countFields(as.Request, full)
	}
	known := map[string]*parameter{}
	for name, p := range as.Parameters {
		if p.Location == "query" {
			known[name] = p
		}
	}
	for name, p := range d.Parameters {
		known[name] = p
	}
	for name, p := range known {
		value := map[string]string{"integer": "1", "boolean": "true", "string": "x"}[p.Type]
		if code, answer := send(url.Values{name: {value}}, full); misread(code, answer) {
			t.Errorf("parameter %s is answered %d %s", name, code, answer)
		}
		row.taken++
	}
	seen := r.inspector.count(row.method)
	row.answered += seen.answered
	row.refused += seen.refused
}

// samplePath is the method's path with what is there filled in.
func (row *coverage) samplePath() string {
	project := shop
	if row.api == credentials {
		project = "-"
	}
	return strings.NewReplacer("{project}", project, "{service}", "compute.googleapis.com", "{operation}", "none", "{account}", checkout,
		"{deleted}", "1", "{tested}", checkout, "{constraint}", noNewKeys, "{scope}", "projects", "{id}", shop).Replace(row.path)
}

// sample makes a value with every field of a schema.
func (d *document) sample(s *schema) any { return d.sampleAt(s, 0) }

func (d *document) sampleAt(s *schema, depth int) any {
	switch {
	case s == nil || depth > 12:
		return map[string]any{}
	case s.Ref != "":
		return d.sampleAt(d.Schemas[s.Ref], depth+1)
	case len(s.Enum) > 0:
		return s.Enum[len(s.Enum)-1]
	}
	switch s.Type {
	case "object":
		out := map[string]any{}
		for name, inner := range s.Properties {
			out[name] = d.sampleAt(inner, depth+1)
		}
		if s.AdditionalProperties != nil {
			out["anything"] = d.sampleAt(s.AdditionalProperties, depth+1)
		}
		return out
	case "array":
		return []any{d.sampleAt(s.Items, depth+1)}
	case "boolean":
		return true
	case "integer", "number":
		return 1
	}
	return map[string]string{"byte": "AAAA", "google-datetime": "2026-03-01T12:00:00Z", "google-duration": "60s", "int64": "1"}[s.Format]
}

// eachObject visits the messages in a sample, under the paths that errors give.
func (d *document) eachObject(path string, s *schema, value any, visit func(path string, s *schema, object map[string]any)) {
	for s.Ref != "" {
		s = d.Schemas[s.Ref]
	}
	switch v := value.(type) {
	case map[string]any:
		if s.AdditionalProperties != nil {
			return // takes any name
		}
		visit(path, s, v)
		for _, name := range sortedKeys(s.Properties) {
			d.eachObject(join(path, snake(name)), s.Properties[name], v[name], visit)
		}
	case []any:
		for i := range v {
			d.eachObject(fmt.Sprintf("%s[%d]", path, i), s.Items, v[i], visit)
		}
	}
}

// eachEnum visits the enumerations in a sample.
func (d *document) eachEnum(path string, s *schema, value any, visit func(path string, object map[string]any, name string)) {
	d.eachObject(path, s, value, func(path string, s *schema, object map[string]any) {
		for name, field := range s.Properties {
			if len(field.Enum) > 0 {
				visit(join(path, snake(name)), object, name)
			}
		}
	})
}

func (d *document) countFields(s *schema, sample any) int {
	n := 0
	d.eachObject("", s, sample, func(_ string, _ *schema, object map[string]any) { n += len(object) })
	return n
}
