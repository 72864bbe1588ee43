package google

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A class of call says how long it takes.
type class int

const (
	read class = iota
	iamWrite
	createAccount
	batchEnable
	oauthClass
)

func (l Latencies) of(c class) time.Duration {
	return time.Duration([]Duration{l.Read, l.IAMWrite, l.CreateAccount, l.BatchEnable, l.OAuth}[c])
}

// An api is a service with a base URL of its own.
type api struct {
	prefix     string // of the path, under the one listener
	name       string // e.g. iam.googleapis.com
	title      string
	withErrors bool // its errors carry errors[] besides details[]
	denied     func(c *call, permission string) *apiError
}

var (
	resourceManager = &api{"cloudresourcemanager", "cloudresourcemanager.googleapis.com", "Cloud Resource Manager API", true, deniedPlainly}
	billing         = &api{"cloudbilling", "cloudbilling.googleapis.com", "Cloud Billing API", true, deniedPlainly}
	serviceUsage    = &api{"serviceusage", "serviceusage.googleapis.com", "Service Usage API", false, deniedByServiceUsage}
	iamAdmin        = &api{"iam", "iam.googleapis.com", "Identity and Access Management (IAM) API", true, deniedByIAM}
	credentials     = &api{"iamcredentials", "iamcredentials.googleapis.com", "IAM Service Account Credentials API", false, deniedByIAM}
	orgPolicyAPI    = &api{"orgpolicy", "orgpolicy.googleapis.com", "Organization Policy API", false, deniedByOrgPolicy}
	assetAPI        = &api{"cloudasset", "cloudasset.googleapis.com", "Cloud Asset API", false, deniedPlainly}
	oauthAPI        = &api{"", "oauth2.googleapis.com", "OAuth", false, nil}
)

// A method is one line of the coverage list.
type method struct {
	api        *api
	name       string // in reports and faults; versions of a method share it
	rpc        string // as ErrorInfo metadata names it
	verb, path string // {x} stands for one segment, {x}:verb for its beginning
	class      class
	write      bool   // changes the customer's cloud
	permission string // on the account or project of the path; "": the method asks for itself
	query      string // query parameters it knows
	handle     func(*call) (any, *apiError)
	oauth      func(*call) (int, any)

	segments []string
}

const (
	crmV1 = "google.cloudresourcemanager.v1.Projects."
	crmV3 = "google.cloud.resourcemanager.v3.Projects."
	suV1  = "google.api.serviceusage.v1.ServiceUsage."
	iamV1 = "google.iam.admin.v1.IAM."
	opV2  = "google.cloud.orgpolicy.v2.OrgPolicy."
)

// methods is all that is emulated. To add a method, add its line and write its
// handler beside those of its API.
var methods = compile([]method{
	{api: resourceManager, name: "cloudresourcemanager.projects.list", rpc: crmV1 + "ListProjects", verb: "GET", path: "v1/projects", query: "filter pageSize pageToken", handle: (*call).listProjects},
	{api: resourceManager, name: "cloudresourcemanager.projects.get", rpc: crmV1 + "GetProject", verb: "GET", path: "v1/projects/{project}", permission: "resourcemanager.projects.get", handle: (*call).getProjectV1},
	{api: resourceManager, name: "cloudresourcemanager.projects.getIamPolicy", rpc: crmV1 + "GetIamPolicy", verb: "POST", path: "v1/projects/{project}:getIamPolicy", permission: "resourcemanager.projects.getIamPolicy", handle: (*call).getProjectPolicy},
	{api: resourceManager, name: "cloudresourcemanager.projects.setIamPolicy", rpc: crmV1 + "SetIamPolicy", verb: "POST", path: "v1/projects/{project}:setIamPolicy", class: iamWrite, write: true, permission: "resourcemanager.projects.setIamPolicy", handle: (*call).setProjectPolicy},
	{api: resourceManager, name: "cloudresourcemanager.projects.testIamPermissions", rpc: crmV1 + "TestIamPermissions", verb: "POST", path: "v1/projects/{project}:testIamPermissions", handle: (*call).testProjectPermissions},
	{api: resourceManager, name: "cloudresourcemanager.projects.search", rpc: crmV3 + "SearchProjects", verb: "GET", path: "v3/projects:search", query: "query pageSize pageToken", handle: (*call).searchProjects},
	{api: resourceManager, name: "cloudresourcemanager.projects.get", rpc: crmV3 + "GetProject", verb: "GET", path: "v3/projects/{project}", permission: "resourcemanager.projects.get", handle: (*call).getProjectV3},
	{api: resourceManager, name: "cloudresourcemanager.projects.getIamPolicy", rpc: crmV3 + "GetIamPolicy", verb: "POST", path: "v3/projects/{project}:getIamPolicy", permission: "resourcemanager.projects.getIamPolicy", handle: (*call).getProjectPolicy},
	{api: resourceManager, name: "cloudresourcemanager.projects.setIamPolicy", rpc: crmV3 + "SetIamPolicy", verb: "POST", path: "v3/projects/{project}:setIamPolicy", class: iamWrite, write: true, permission: "resourcemanager.projects.setIamPolicy", handle: (*call).setProjectPolicy},
	{api: resourceManager, name: "cloudresourcemanager.projects.testIamPermissions", rpc: crmV3 + "TestIamPermissions", verb: "POST", path: "v3/projects/{project}:testIamPermissions", handle: (*call).testProjectPermissions},

	{api: billing, name: "cloudbilling.projects.getBillingInfo", rpc: "google.cloud.billing.v1.CloudBilling.GetProjectBillingInfo", verb: "GET", path: "v1/projects/{project}/billingInfo", permission: "resourcemanager.projects.get", handle: (*call).getBillingInfo},

	{api: serviceUsage, name: "serviceusage.services.list", rpc: suV1 + "ListServices", verb: "GET", path: "v1/projects/{project}/services", permission: "serviceusage.services.list", query: "filter pageSize pageToken", handle: (*call).listServices},
	{api: serviceUsage, name: "serviceusage.services.get", rpc: suV1 + "GetService", verb: "GET", path: "v1/projects/{project}/services/{service}", permission: "serviceusage.services.get", handle: (*call).getService},
	{api: serviceUsage, name: "serviceusage.services.batchGet", rpc: suV1 + "BatchGetServices", verb: "GET", path: "v1/projects/{project}/services:batchGet", permission: "serviceusage.services.get", query: "names", handle: (*call).batchGetServices},
	{api: serviceUsage, name: "serviceusage.services.enable", rpc: suV1 + "EnableService", verb: "POST", path: "v1/projects/{project}/services/{service}:enable", class: batchEnable, write: true, permission: "serviceusage.services.enable", handle: (*call).enableService},
	{api: serviceUsage, name: "serviceusage.services.disable", rpc: suV1 + "DisableService", verb: "POST", path: "v1/projects/{project}/services/{service}:disable", class: batchEnable, write: true, permission: "serviceusage.services.disable", handle: (*call).disableService},
	{api: serviceUsage, name: "serviceusage.services.batchEnable", rpc: suV1 + "BatchEnableServices", verb: "POST", path: "v1/projects/{project}/services:batchEnable", class: batchEnable, write: true, permission: "serviceusage.services.enable", handle: (*call).batchEnableServices},
	{api: serviceUsage, name: "serviceusage.operations.get", rpc: "google.longrunning.Operations.GetOperation", verb: "GET", path: "v1/operations/{operation}", handle: (*call).getOperation},

	{api: iamAdmin, name: "iam.serviceAccounts.create", rpc: iamV1 + "CreateServiceAccount", verb: "POST", path: "v1/projects/{project}/serviceAccounts", class: createAccount, write: true, permission: "iam.serviceAccounts.create", handle: (*call).createServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.list", rpc: iamV1 + "ListServiceAccounts", verb: "GET", path: "v1/projects/{project}/serviceAccounts", permission: "iam.serviceAccounts.list", query: "pageSize pageToken", handle: (*call).listServiceAccounts},
	{api: iamAdmin, name: "iam.serviceAccounts.get", rpc: iamV1 + "GetServiceAccount", verb: "GET", path: "v1/projects/{project}/serviceAccounts/{account}", permission: "iam.serviceAccounts.get", handle: (*call).getServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.patch", rpc: iamV1 + "PatchServiceAccount", verb: "PATCH", path: "v1/projects/{project}/serviceAccounts/{account}", class: iamWrite, write: true, permission: "iam.serviceAccounts.update", handle: (*call).patchServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.delete", rpc: iamV1 + "DeleteServiceAccount", verb: "DELETE", path: "v1/projects/{project}/serviceAccounts/{account}", class: iamWrite, write: true, permission: "iam.serviceAccounts.delete", handle: (*call).deleteServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.undelete", rpc: iamV1 + "UndeleteServiceAccount", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{deleted}:undelete", class: iamWrite, write: true, handle: (*call).undeleteServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.enable", rpc: iamV1 + "EnableServiceAccount", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:enable", class: iamWrite, write: true, permission: "iam.serviceAccounts.enable", handle: (*call).enableServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.disable", rpc: iamV1 + "DisableServiceAccount", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:disable", class: iamWrite, write: true, permission: "iam.serviceAccounts.disable", handle: (*call).disableServiceAccount},
	{api: iamAdmin, name: "iam.serviceAccounts.getIamPolicy", rpc: iamV1 + "GetIamPolicy", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:getIamPolicy", permission: "iam.serviceAccounts.getIamPolicy", query: "options.requestedPolicyVersion", handle: (*call).getAccountPolicy},
	{api: iamAdmin, name: "iam.serviceAccounts.setIamPolicy", rpc: iamV1 + "SetIamPolicy", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:setIamPolicy", class: iamWrite, write: true, permission: "iam.serviceAccounts.setIamPolicy", handle: (*call).setAccountPolicy},
	{api: iamAdmin, name: "iam.serviceAccounts.testIamPermissions", rpc: iamV1 + "TestIamPermissions", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{tested}:testIamPermissions", handle: (*call).testAccountPermissions},

	{api: credentials, name: "iamcredentials.serviceAccounts.generateAccessToken", rpc: "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:generateAccessToken", permission: "iam.serviceAccounts.getAccessToken", handle: (*call).generateAccessToken},

	{api: credentials, name: "iamcredentials.serviceAccounts.signJwt", rpc: "google.iam.credentials.v1.IAMCredentials.SignJwt", verb: "POST", path: "v1/projects/{project}/serviceAccounts/{account}:signJwt", permission: "iam.serviceAccounts.signJwt", handle: (*call).signJWT},

	{api: orgPolicyAPI, name: "orgpolicy.constraints.list", rpc: opV2 + "ListConstraints", verb: "GET", path: "v2/projects/{project}/constraints", permission: "orgpolicy.constraints.list", query: "pageSize pageToken", handle: (*call).listConstraints},
	{api: orgPolicyAPI, name: "orgpolicy.policies.list", rpc: opV2 + "ListPolicies", verb: "GET", path: "v2/projects/{project}/policies", permission: "orgpolicy.policies.list", query: "pageSize pageToken", handle: (*call).listOrgPolicies},
	{api: orgPolicyAPI, name: "orgpolicy.policies.get", rpc: opV2 + "GetPolicy", verb: "GET", path: "v2/projects/{project}/policies/{constraint}", permission: "orgpolicy.policy.get", handle: (*call).getOrgPolicy},
	{api: orgPolicyAPI, name: "orgpolicy.policies.getEffectivePolicy", rpc: opV2 + "GetEffectivePolicy", verb: "GET", path: "v2/projects/{project}/policies/{constraint}:getEffectivePolicy", permission: "orgpolicy.policy.get", handle: (*call).getEffectiveOrgPolicy},
	{api: orgPolicyAPI, name: "orgpolicy.policies.create", rpc: opV2 + "CreatePolicy", verb: "POST", path: "v2/projects/{project}/policies", class: iamWrite, write: true, permission: "orgpolicy.policy.set", handle: (*call).createOrgPolicy},
	{api: orgPolicyAPI, name: "orgpolicy.policies.patch", rpc: opV2 + "UpdatePolicy", verb: "PATCH", path: "v2/projects/{project}/policies/{constraint}", class: iamWrite, write: true, permission: "orgpolicy.policy.set", query: "updateMask", handle: (*call).patchOrgPolicy},
	{api: orgPolicyAPI, name: "orgpolicy.policies.delete", rpc: opV2 + "DeletePolicy", verb: "DELETE", path: "v2/projects/{project}/policies/{constraint}", class: iamWrite, write: true, permission: "orgpolicy.policy.set", query: "etag", handle: (*call).deleteOrgPolicy},

	{api: assetAPI, name: "cloudasset.searchAllResources", rpc: "google.cloud.asset.v1.AssetService.SearchAllResources", verb: "GET", path: "v1/{scope}/{id}:searchAllResources", query: "assetTypes orderBy pageSize pageToken query readMask", handle: (*call).searchAllResources},

	{api: oauthAPI, name: "oauth.token", verb: "POST", path: "token", class: oauthClass, oauth: (*call).exchangeToken},
	{api: oauthAPI, name: "oauth.revoke", verb: "POST", path: "revoke", class: oauthClass, oauth: (*call).revokeToken},
	{api: oauthAPI, name: "oauth.userinfo", verb: "GET", path: "oauth2/v3/userinfo", class: oauthClass, oauth: (*call).userInfo},
	{api: oauthAPI, name: "oauth.userinfo", verb: "GET", path: "v1/userinfo", class: oauthClass, oauth: (*call).userInfo},
	{api: oauthAPI, name: "oauth.certs", verb: "GET", path: "oauth2/v3/certs", class: oauthClass, oauth: (*call).certs},
	{api: oauthAPI, name: "oauth.accountCerts", verb: "GET", path: "service_accounts/v1/metadata/x509/{account}", class: oauthClass, oauth: (*call).accountCerts},
	{api: oauthAPI, name: "oauth.discovery", verb: "GET", path: ".well-known/openid-configuration", class: oauthClass, oauth: (*call).discovery},
})

// compile splits the paths once.
func compile(table []method) []method {
	for i := range table {
		m := &table[i]
		path := m.path
		if m.api.prefix != "" {
			path = m.api.prefix + "/" + path
		}
		m.segments = strings.Split(path, "/")
	}
	return table
}

// route finds the method of a request. otherVerb says that the path exists
// for another HTTP method.
func route(r *http.Request) (m *method, vars map[string]string, otherVerb bool) {
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range methods {
		candidate := &methods[i]
		if vars, ok := match(candidate.segments, path); ok {
			if candidate.verb == r.Method {
				return candidate, vars, false
			}
			otherVerb = true
		}
	}
	return nil, nil, otherVerb
}

func match(pattern, path []string) (map[string]string, bool) {
	if len(pattern) != len(path) {
		return nil, false
	}
	vars := map[string]string{}
	for i, want := range pattern {
		got, err := url.PathUnescape(path[i])
		if err != nil {
			return nil, false
		}
		name, verb, isVar := strings.Cut(want, "}")
		if !isVar {
			if want != got {
				return nil, false
			}
			continue
		}
		value, found := strings.CutSuffix(got, verb)
		if !found || value == "" || strings.Contains(value, ":") {
			return nil, false
		}
		vars[strings.TrimPrefix(name, "{")] = value
	}
	return vars, true
}

// everywhere are the query parameters that all Google APIs take.
var everywhere = strings.Fields("alt fields key prettyPrint quotaUser access_token callback oauth_token $.xgafv uploadType upload_protocol")

// integers are the parameters that are numbers, of whatever method.
var integers = strings.Fields("pageSize options.requestedPolicyVersion")

func (c *call) checkQuery() *apiError {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return invalid("Request contains an invalid argument.")
	}
	var refusal *apiError
	if c.wanted, refusal = maskOf(values); refusal != nil {
		return refusal
	}
	c.compact = values.Get("prettyPrint") == "false"
	known := strings.Fields(c.m.query)
	for _, name := range sortedKeys(values) {
		if !slices.Contains(known, name) && !slices.Contains(everywhere, name) {
			text := "Invalid JSON payload received. Unknown name \"" + name + "\": Cannot bind query parameter. Field '" + name + "' could not be found in request message."
			return invalid("%s", text).with(fieldViolation("", text))
		}
		if value := values.Get(name); slices.Contains(integers, name) {
			if _, err := strconv.ParseInt(value, 10, 32); err != nil && value != "" {
				text := fmt.Sprintf("Invalid value at '%s' (TYPE_INT32), %q", snake(name), value)
				return invalid("%s", text).with(fieldViolation(snake(name), text))
			}
		}
	}
	return nil
}

// BaseURLs are the addresses of everything under one listener. Those of the
// APIs end in a slash, as option.WithEndpoint wants them.
type BaseURLs struct {
	ResourceManager, Billing, ServiceUsage, IAM, IAMCredentials, OrgPolicy, CloudAsset string

	Auth, Token, Revoke, UserInfo, Certs, Discovery string
}

// Endpoints returns the addresses under a base such as http://127.0.0.1:8085.
func Endpoints(base string) BaseURLs {
	base = strings.TrimSuffix(base, "/")
	of := func(a *api) string { return base + "/" + a.prefix + "/" }
	return BaseURLs{
		ResourceManager: of(resourceManager), Billing: of(billing), ServiceUsage: of(serviceUsage), IAM: of(iamAdmin),
		IAMCredentials: of(credentials), OrgPolicy: of(orgPolicyAPI), CloudAsset: of(assetAPI),
		Auth: base + authPath, Token: base + "/token", Revoke: base + "/revoke",
		UserInfo: base + "/oauth2/v3/userinfo", Certs: base + "/oauth2/v3/certs", Discovery: base + "/.well-known/openid-configuration",
	}
}

// MethodNames returns the names that calls and faults are known by.
func MethodNames() []string {
	var names []string
	for i := range methods {
		names = append(names, methods[i].name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
