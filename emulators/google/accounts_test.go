package google

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
)

// raw sends a request as no client would and returns the answer.
func (r *rig) raw(t *testing.T, verb, path, token, body string) (int, string) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), verb, r.base+path, strings.NewReader(body)))(t)
	req.Header.Set("Authorization", "Bearer "+token)
	resp := must(r.http.Do(req))(t)
	defer resp.Body.Close()
	return resp.StatusCode, string(must(io.ReadAll(resp.Body))(t))
}

func (v *view) create(project, id string) (*iam.ServiceAccount, error) {
	return v.iam.Projects.ServiceAccounts.Create("projects/"+project, &iam.CreateServiceAccountRequest{AccountId: id}).Do()
}

func (v *view) mint(email string) (*iamcredentials.GenerateAccessTokenResponse, error) {
	return v.cred.Projects.ServiceAccounts.GenerateAccessToken("projects/-/serviceAccounts/"+email, &iamcredentials.GenerateAccessTokenRequest{Scope: []string{cloudPlatform}}).Do()
}

// allow lets a member make tokens of an account.
func (v *view) allow(t *testing.T, account *iam.ServiceAccount, member string) {
	t.Helper()
	p := must(v.iam.Projects.ServiceAccounts.GetIamPolicy(account.Name).OptionsRequestedPolicyVersion(3).Do())(t)
	p.Bindings = append(p.Bindings, &iam.Binding{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{member}})
	must(v.iam.Projects.ServiceAccounts.SetIamPolicy(account.Name, &iam.SetIamPolicyRequest{Policy: p}).Do())(t)
}

func TestServiceAccountsAreCreated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	if a.Email != "connect-agent@shop-production.iam.gserviceaccount.com" || a.Name != "projects/shop-production/serviceAccounts/"+a.Email ||
		a.Oauth2ClientId != a.UniqueId || !regexp.MustCompile(`^1[0-9]{20}$`).MatchString(a.UniqueId) {
		t.Errorf("created %+v", a)
	}
	_, err := user.create(shop, "connect-agent")
	mustRefuse(t, err, refusal{409, "ALREADY_EXISTS", "", "Service account ID already exists within project projects/shop-production."})
	for _, id := range []string{"short", "Uppercase", "ends-with-", "1starts-with-digit", strings.Repeat("x", 31)} {
		_, err := user.create(shop, id)
		mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	}
	_, err = user.iam.Projects.ServiceAccounts.Get("projects/shop-production/serviceAccounts/no-one@shop-production.iam.gserviceaccount.com").Do()
	mustRefuse(t, err, refusal{404, "NOT_FOUND", "", "Unknown service account"})
	_, err = user.iam.Projects.ServiceAccounts.Get("projects/-/serviceAccounts/no-one@shop-production.iam.gserviceaccount.com").Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "IAM_PERMISSION_DENIED"})
	if got := must(user.iam.Projects.ServiceAccounts.Get("projects/-/serviceAccounts/" + a.UniqueId).Do())(t); got.Email != a.Email {
		t.Errorf("by unique ID: %+v", got)
	}
	var emails []string
	err = user.iam.Projects.ServiceAccounts.List("projects/"+shop).PageSize(2).Pages(t.Context(), func(page *iam.ListServiceAccountsResponse) error {
		for _, a := range page.Accounts {
			emails = append(emails, a.DisplayName)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Checkout service", "Continuous delivery", ""}, emails); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

// Fact (IAM): 100 service accounts a project by default.
func TestAProjectHasOneHundredAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	for n := range 98 { // two are there
		must(user.create(shop, fmt.Sprintf("account-%02d", n)))(t)
	}
	_, err := user.create(shop, "one-too-many")
	mustRefuse(t, err, refusal{Code: 429, Status: "RESOURCE_EXHAUSTED", Reason: "RATE_LIMIT_EXCEEDED"})
}

// Fact (IAM): after a creation reads can answer 404 or 403 for a minute and
// more.
func TestNewAccountsAreSeenLate(t *testing.T) {
	t.Parallel()
	for _, code := range []int{403, 404} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) {
				s.Propagation.AccountRead, s.Propagation.AccountReadCode = Duration(time.Minute), code
				s.Propagation.AccountMember = Duration(30 * time.Second)
			})
			user := r.as(demo)
			a := must(user.create(shop, "connect-agent"))(t)
			_, err := user.iam.Projects.ServiceAccounts.Get(a.Name).Do()
			if got := refused(err).Code; got != code {
				t.Errorf("get answers %d", got)
			}
			_, err = user.create(shop, "connect-agent")
			mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
			p := policyOf(t, user, shop, 3)
			p.Bindings[0].Members = append(p.Bindings[0].Members, "serviceAccount:"+a.Email)
			_, err = setPolicyOf(user, shop, p)
			mustRefuse(t, err, refusal{400, "INVALID_ARGUMENT", "", "Service account " + a.Email + " does not exist."})
			r.clock.Advance(30 * time.Second)
			must(setPolicyOf(user, shop, p))(t)
			r.clock.Advance(30 * time.Second)
			must(user.iam.Projects.ServiceAccounts.Get(a.Name).Do())(t)
		})
	}
}

// Fact (IAM Credentials): before the grant has spread generateAccessToken
// answers 403 IAM_PERMISSION_DENIED.
func TestImpersonation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	notAllowed := refusal{403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."}
	_, err := user.mint(a.Email) // an owner may not
	mustRefuse(t, err, notAllowed)
	user.allow(t, a, "serviceAccount:"+runner)
	minted := must(r.as(runner).mint(a.Email))(t)
	if minted.ExpireTime != "2026-03-01T13:00:00Z" {
		t.Errorf("expires %s", minted.ExpireTime)
	}
	_, err = r.as(runner).mint("missing@shop-production.iam.gserviceaccount.com")
	mustRefuse(t, err, notAllowed)
	_, err = r.as(runner).cred.Projects.ServiceAccounts.GenerateAccessToken("projects/shop-production/serviceAccounts/"+a.Email, &iamcredentials.GenerateAccessTokenRequest{Scope: []string{cloudPlatform}}).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	for name, req := range map[string]*iamcredentials.GenerateAccessTokenRequest{
		"no scope": {}, "too long": {Scope: []string{cloudPlatform}, Lifetime: "3601s"}, "no duration": {Scope: []string{cloudPlatform}, Lifetime: "1h"},
	} {
		_, err := r.as(runner).cred.Projects.ServiceAccounts.GenerateAccessToken("projects/-/serviceAccounts/"+a.Email, req).Do()
		if got := refused(err).Code; got != 400 {
			t.Errorf("%s: %d", name, got)
		}
	}

	must(user.iam.Projects.ServiceAccounts.Disable(a.Name, &iam.DisableServiceAccountRequest{}).Do())(t)
	_, err = r.as(runner).mint(a.Email)
	mustRefuse(t, err, refusal{Code: 400, Status: "FAILED_PRECONDITION"})
	_, err = r.with(minted.AccessToken).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{Code: 401, Status: "UNAUTHENTICATED", Reason: "ACCOUNT_STATE_INVALID"})
	must(user.iam.Projects.ServiceAccounts.Enable(a.Name, &iam.EnableServiceAccountRequest{}).Do())(t)
	must(r.as(runner).mint(a.Email))(t)
}

// Fact (IAM Credentials): signJwt signs a JSON object whose exp is at most 12 hours
// ahead, and the key's certificate is public.
func TestSignJwt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	sign := func(as *view, payload string) (*iamcredentials.SignJwtResponse, error) {
		return as.cred.Projects.ServiceAccounts.SignJwt("projects/-/serviceAccounts/"+a.Email, &iamcredentials.SignJwtRequest{Payload: payload}).Do()
	}
	_, err := sign(user, `{}`) // an owner may not
	mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", "Permission 'iam.serviceAccounts.signJwt' denied on resource (or it may not exist)."})
	user.allow(t, a, "serviceAccount:"+runner)
	now := r.clock.Now().Unix()
	for payload, ok := range map[string]bool{
		fmt.Sprintf(`{"sub":"x","exp":%d}`, now+60): true, `{"sub":"x"}`: true,
		`[]`: false, `null`: false, `text`: false, fmt.Sprintf(`{"exp":%d}`, now-60): false, fmt.Sprintf(`{"exp":%d}`, now+13*3600): false,
	} {
		signed, err := sign(r.as(runner), payload)
		if (err == nil) != ok {
			t.Errorf("%s: %v", payload, err)
		}
		if !ok {
			mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
			continue
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/service_accounts/v1/metadata/x509/"+a.Email, http.NoBody))
		var certificates map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &certificates); err != nil || certificates[signed.KeyId] == "" {
			t.Fatalf("the key %s is not published: %d %s", signed.KeyId, w.Code, w.Body)
		}
		block, _ := pem.Decode([]byte(certificates[signed.KeyId]))
		certificate := must(x509.ParseCertificate(block.Bytes))(t)
		parsed := must(jwt.ParseSigned(signed.SignedJwt, []jose.SignatureAlgorithm{jose.RS256}))(t)
		var claims map[string]any
		if err := parsed.Claims(certificate.PublicKey, &claims); err != nil || claims["sub"] != "x" {
			t.Errorf("signed %v, %v", claims, err)
		}
	}
}

// Fact (IAM): TokenCreator on a project lets its holder impersonate every
// account in it.
func TestTokenCreatorOnTheProjectHoldsForItsAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	grantRole(t, r.as(demo), shop, "roles/iam.serviceAccountTokenCreator", "serviceAccount:"+runner)
	must(r.as(runner).mint(checkout))(t)
}

// Fact (IAM): before the grant on an account has spread, getAccessToken is
// denied. It has a delay of its own, whatever that of projects is.
func TestAccountGrantsSpreadInTheirOwnTime(t *testing.T) {
	t.Parallel()
	never := Never
	r := newRig(t, func(s *Scenario) {
		s.Propagation.Account = seconds60()
		s.Propagation.Project = &never
	})
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	user.allow(t, a, "user:"+demo)
	r.clock.Advance(time.Minute - 1)
	if _, err := user.mint(a.Email); refused(err).Code != 403 {
		t.Errorf("before: %v", err)
	}
	r.clock.Advance(1)
	must(user.mint(a.Email))(t)
}

// Fact (IAM): bindings of a deleted account become
// deleted:serviceAccount:...?uid=, and one made anew under the name does not
// inherit them.
func TestDeletedAccountsLeaveTheirBindingsBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	grantRole(t, user, shop, "roles/viewer", "serviceAccount:"+a.Email)
	user.allow(t, a, "user:"+demo)
	must(user.iam.Projects.ServiceAccounts.Delete(a.Name).Do())(t)

	viewers := func() string {
		for _, b := range policyOf(t, user, shop, 3).Bindings {
			if b.Role == "roles/viewer" {
				return strings.Join(b.Members, " ")
			}
		}
		return ""
	}
	if listed := must(user.iam.Projects.ServiceAccounts.List("projects/" + shop).Do())(t); len(listed.Accounts) != 2 {
		t.Errorf("after deletion %d accounts are listed, want the 2 others", len(listed.Accounts))
	}
	gone := "deleted:serviceAccount:" + a.Email + "?uid=" + a.UniqueId
	if got := viewers(); got != gone {
		t.Errorf("after deletion: %q", got)
	}
	p := policyOf(t, user, shop, 3)
	must(setPolicyOf(user, shop, p))(t) // a deleted member does not block

	second := must(user.create(shop, "connect-agent"))(t)
	if second.UniqueId == a.UniqueId {
		t.Error("the unique ID is used again")
	}
	if _, err := user.mint(a.Email); refused(err).Code != 403 {
		t.Errorf("the new account inherits: %v", err)
	}
	if got := viewers(); got != gone {
		t.Errorf("after creation anew: %q", got)
	}
	_, err := user.iam.Projects.ServiceAccounts.Undelete("projects/-/serviceAccounts/"+a.UniqueId, &iam.UndeleteServiceAccountRequest{}).Do()
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
	must(user.iam.Projects.ServiceAccounts.Delete(second.Name).Do())(t)
	must(user.iam.Projects.ServiceAccounts.Undelete("projects/-/serviceAccounts/"+a.UniqueId, &iam.UndeleteServiceAccountRequest{}).Do())(t)
	if got := viewers(); got != "serviceAccount:"+a.Email {
		t.Errorf("after undeletion: %q", got)
	}
	must(user.mint(a.Email))(t)
}

// Fact (Resource Manager): setIamPolicy validates all members again, and
// refuses those of no permitted customer.
func TestDomainRestrictedSharingHoldsForAccountsToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, restrictDomains)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	p := &iam.Policy{Bindings: []*iam.Binding{{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"serviceAccount:" + runner}}}}
	_, err := user.iam.Projects.ServiceAccounts.SetIamPolicy(a.Name, &iam.SetIamPolicyRequest{Policy: p}).Do()
	mustRefuse(t, err, refusal{400, "FAILED_PRECONDITION", "", customerNotPermittedMsg})
}

func TestRolesOfProjectsAreNotForAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	a := must(user.create(shop, "connect-agent"))(t)
	p := &iam.Policy{Bindings: []*iam.Binding{{Role: "roles/run.admin", Members: []string{"user:" + demo}}}}
	_, err := user.iam.Projects.ServiceAccounts.SetIamPolicy(a.Name, &iam.SetIamPolicyRequest{Policy: p}).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	held := must(user.iam.Projects.ServiceAccounts.TestIamPermissions(a.Name, &iam.TestIamPermissionsRequest{Permissions: []string{"iam.serviceAccounts.actAs", "iam.serviceAccounts.getAccessToken"}}).Do())(t)
	if diff := cmp.Diff([]string{"iam.serviceAccounts.actAs"}, held.Permissions); diff != "" {
		t.Errorf("owner holds (-want +got):\n%s", diff)
	}
}
