package google

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// The answers below are as Google gives them, shortened where that does not
// matter.
func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	type class struct {
		Code       connect.Code
		Reason     string
		Message    string
		RetryAfter time.Duration
	}
	tests := []struct {
		name   string
		api    api
		code   int
		header []string
		body   string
		want   class
	}{
		{
			name: "an expired token", code: 401,
			body: `{"error":{"code":401,"message":"Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.","status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED","domain":"googleapis.com"}]}}`,
			want: class{Code: connect.Unauthenticated, Reason: "ACCESS_TOKEN_EXPIRED", Message: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."},
		},
		{
			name: "an API that is not enabled", code: 403,
			body: `{"error":{"code":403,"message":"Cloud Asset API has not been used in project 348812907714 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/cloudasset.googleapis.com/overview?project=348812907714 then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"Google developers console API activation","url":"https://console.developers.google.com/"}]},{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED","domain":"googleapis.com","metadata":{"service":"cloudasset.googleapis.com","consumer":"projects/348812907714"}}]}}`,
			want: class{Code: connect.Forbidden, Reason: setup.ReasonServiceDisabled, Message: "Cloud Asset API has not been used in project 348812907714 before or it is disabled. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."},
		},
		{
			name: "an API that is not enabled, in the old style", code: 403,
			body: `{"error":{"code":403,"message":"Access Not Configured.","errors":[{"message":"Access Not Configured.","domain":"usageLimits","reason":"accessNotConfigured"}]}}`,
			want: class{Code: connect.Forbidden, Reason: setup.ReasonServiceDisabled, Message: "Access Not Configured."},
		},
		{
			name: "an API that is not enabled, in words alone", code: 403,
			body: `{"error":{"code":403,"message":"Cloud Billing API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED"}}`,
			want: class{Code: connect.Forbidden, Reason: setup.ReasonServiceDisabled, Message: "Cloud Billing API has not been used in project 1 before or it is disabled."},
		},
		{
			name: "a permission that is missing, with neither errors nor details", code: 403,
			body: `{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}`,
			want: class{Code: connect.Forbidden, Message: "The caller does not have permission."},
		},
		{
			name: "a permission that is missing at Service Usage", code: 403, api: serviceUsage,
			body: `{"error":{"code":403,"message":"Permission denied to enable service [run.googleapis.com]","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"googleapis.com","subject":"110002"}]},{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"AUTH_PERMISSION_DENIED","domain":"serviceusage.googleapis.com"}]}}`,
			want: class{Code: connect.Forbidden, Reason: "AUTH_PERMISSION_DENIED", Message: "Permission denied to enable service [run.googleapis.com]."},
		},
		{
			name: "a grant that has not spread", code: 403,
			body: `{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"IAM_PERMISSION_DENIED","domain":"iam.googleapis.com","metadata":{"permission":"iam.serviceAccounts.getAccessToken"}}]}}`,
			want: class{Code: connect.Forbidden, Reason: "IAM_PERMISSION_DENIED", Message: "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."},
		},
		{
			name: "a quota in the old style", code: 403,
			body: `{"error":{"code":403,"message":"Rate Limit Exceeded","errors":[{"domain":"usageLimits","reason":"rateLimitExceeded"}]}}`,
			want: class{Code: connect.Unavailable, Reason: "rateLimitExceeded", Message: "Rate Limit Exceeded."},
		},
		{
			name: "a quota", code: 429, header: []string{"Retry-After", "7"},
			body: `{"error":{"code":429,"message":"Quota exceeded for quota metric 'Mutate requests'.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED","domain":"googleapis.com"}]}}`,
			want: class{Code: connect.Unavailable, Reason: "RATE_LIMIT_EXCEEDED", Message: "Quota exceeded for quota metric 'Mutate requests'.", RetryAfter: 7 * time.Second},
		},
		{
			name: "a quota as a refusal", code: 403,
			body: `{"error":{"code":403,"message":"Quota exceeded.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED","domain":"googleapis.com"}]}}`,
			want: class{Code: connect.Unavailable, Reason: "RATE_LIMIT_EXCEEDED", Message: "Quota exceeded."},
		},
		{
			name: "a user's quota in the old style", code: 403,
			body: `{"error":{"code":403,"message":"User Rate Limit Exceeded","errors":[{"domain":"usageLimits","reason":"userRateLimitExceeded"}]}}`,
			want: class{Code: connect.Unavailable, Reason: "userRateLimitExceeded", Message: "User Rate Limit Exceeded."},
		},
		{
			name: "a quota without a word", code: 429, body: ``,
			want: class{Code: connect.Unavailable, Message: "Google answered 429."},
		},
		{
			name: "a quota that says when in its details", code: 429,
			body: `{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}`,
			want: class{Code: connect.Unavailable, Message: "Slow down.", RetryAfter: 1500 * time.Millisecond},
		},
		{
			name: "a wait of more seconds than a duration can hold", code: 503, header: []string{"Retry-After", "18446744074"}, body: ``,
			want: class{Code: connect.Unavailable, Message: "Google answered 503."},
		},
		{
			name: "a call that was cancelled", code: 499,
			body: `{"error":{"code":499,"message":"The operation was cancelled.","status":"CANCELLED"}}`,
			want: class{Code: connect.Unavailable, Message: "The operation was cancelled."},
		},
		{
			name: "a backend that took too long", code: 504,
			body: `{"error":{"code":504,"message":"Deadline expired before operation could complete.","status":"DEADLINE_EXCEEDED"}}`,
			want: class{Code: connect.Unavailable, Message: "Deadline expired before operation could complete."},
		},
		{
			name: "a failing backend", code: 503,
			body: `{"error":{"code":503,"message":"The service is currently unavailable.","status":"UNAVAILABLE"}}`,
			want: class{Code: connect.Unavailable, Message: "The service is currently unavailable."},
		},
		{
			name: "a page of the front end", code: 502, header: []string{"Content-Type", "text/html"},
			body: "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>",
			want: class{Code: connect.Unavailable, Message: "Google answered 502."},
		},
		{
			name: "a redirect, which no API gives", code: 302, header: []string{"Location", "http://elsewhere.test/"}, body: "",
			want: class{Code: connect.Unavailable, Message: "Google answered 302."},
		},
		{
			name: "a refusal without a body", code: 403, body: ``,
			want: class{Code: connect.Forbidden, Message: "Google answered 403."},
		},
		{
			name: "a refusal of something on the way", code: 403, header: []string{"Content-Type", "text/html"}, body: "<h1>Blocked</h1>",
			want: class{Code: connect.Forbidden, Message: "Google answered 403."},
		},
		{
			name: "a missing thing, in plain text", code: 404, body: "not here",
			want: class{Code: connect.NotFound, Message: "Google answered 404."},
		},
		{
			name: "details of a form that nobody knows", code: 400,
			body: `{"error":{"code":400,"message":"Wrong.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"x"}]},{"@type":"x","reason":7,"violations":"many"}]}}`,
			want: class{Code: connect.Invalid, Message: "Wrong."},
		},
		{
			name: "a service account that is missing", code: 404,
			body: `{"error":{"code":404,"message":"Unknown service account","status":"NOT_FOUND","errors":[{"reason":"notFound"}]}}`,
			want: class{Code: connect.NotFound, Reason: "notFound", Message: "Unknown service account."},
		},
		{
			name: "a list of one", code: 404,
			body: `[{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}]`,
			want: class{Code: connect.NotFound, Message: "Requested entity was not found."},
		},
		{
			name: "an account ID that is taken", code: 409,
			body: `{"error":{"code":409,"message":"Service account ID already exists within project projects/p.","status":"ALREADY_EXISTS","errors":[{"reason":"alreadyExists"}],"details":[{"@type":"type.googleapis.com/google.rpc.ResourceInfo","resourceName":"projects/p/serviceAccounts/a@p.iam.gserviceaccount.com"}]}}`,
			want: class{Code: connect.Conflict, Reason: "alreadyExists", Message: "Service account ID already exists within project projects/p."},
		},
		{
			name: "a stale etag", code: 409,
			body: `{"error":{"code":409,"message":"There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.","status":"ABORTED"}}`,
			want: class{Code: connect.Conflict, Message: "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."},
		},
		{
			name: "a member that does not exist", code: 400, api: resourceManager,
			body: `{"error":{"code":400,"message":"Service account aurora-f@p.iam.gserviceaccount.com does not exist.","status":"INVALID_ARGUMENT"}}`,
			want: class{Code: connect.Invalid, Reason: setup.ReasonMemberMissing, Message: "Service account aurora-f@p.iam.gserviceaccount.com does not exist."},
		},
		{
			name: "a member that may not be on a project", code: 400, api: resourceManager,
			body: `{"error":{"code":400,"message":"Policy members must be of the form \"<type>:<value>\".","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"PROJECT_SET_IAM_DISALLOWED_MEMBER_TYPE","domain":"cloudresourcemanager.googleapis.com"}]}}`,
			want: class{Code: connect.Invalid, Reason: "PROJECT_SET_IAM_DISALLOWED_MEMBER_TYPE", Message: `Policy members must be of the form "<type>:<value>".`},
		},
		{
			name: "a member of a domain that is not allowed, in words alone", code: 400,
			body: `{"error":{"code":400,"message":"One or more users named in the policy do not belong to a permitted customer.","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonDomainRestricted, Message: "One or more users named in the policy do not belong to a permitted customer."},
		},
		{
			name: "a member of a domain that is not allowed, in details alone", code: 400,
			body: `{"error":{"code":400,"message":"","status":"FAILED_PRECONDITION","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"constraints/iam.allowedPolicyMemberDomains"}]}]}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonDomainRestricted, Message: "Google answered 400."},
		},
		{
			name: "a member of a domain that is not allowed", code: 400,
			body: `{"error":{"code":400,"message":"One or more users named in the policy do not belong to a permitted customer.","status":"FAILED_PRECONDITION","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"constraints/iam.allowedPolicyMemberDomains","subject":"orgpolicy:projects/p"}]}]}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonDomainRestricted, Message: "One or more users named in the policy do not belong to a permitted customer."},
		},
		{
			name: "the same by the managed constraint", code: 400,
			body: `{"error":{"code":400,"message":"Operation denied by org policy on resource 'p': [\"constraints/iam.managed.allowedPolicyMembers\"].","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonDomainRestricted, Message: `Operation denied by org policy on resource 'p': ["constraints/iam.managed.allowedPolicyMembers"].`},
		},
		{
			name: "billing that is missing", code: 400, api: serviceUsage,
			body: `{"error":{"code":400,"message":"Billing account for project '1' is not found. Billing must be enabled for activation of service(s) 'run.googleapis.com' to proceed.","status":"FAILED_PRECONDITION","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"googleapis.com/billing-enabled"}]},{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"UREQ_PROJECT_BILLING_NOT_FOUND","domain":"serviceusage.googleapis.com/billing-enabled"}]}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonBillingMissing, Message: "Billing account for project '1' is not found. Billing must be enabled for activation of service(s) 'run.googleapis.com' to proceed."},
		},
		{
			name: "billing that is missing, in words alone", code: 400, api: serviceUsage,
			body: `{"error":{"code":400,"message":"Billing must be enabled for activation of service(s) 'x' to proceed.","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonBillingMissing, Message: "Billing must be enabled for activation of service(s) 'x' to proceed."},
		},
		{
			name: "billing that is missing, in details alone", code: 400, api: serviceUsage,
			body: `{"error":{"code":400,"message":"Precondition check failed.","status":"FAILED_PRECONDITION","details":[{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"googleapis.com/billing-enabled"}]}]}}`,
			want: class{Code: connect.Precondition, Reason: setup.ReasonBillingMissing, Message: "Precondition check failed."},
		},
		{
			name: "a service that does not exist", code: 403, api: serviceUsage,
			body: `{"error":{"code":403,"message":"Not found or permission denied for service(s): x.","status":"PERMISSION_DENIED"}}`,
			want: class{Code: connect.Forbidden, Message: "Not found or permission denied for service(s): x."},
		},
		{
			name: "Service Usage's failed precondition as a bad request", code: 400, api: serviceUsage,
			body: `{"error":{"code":400,"message":"Precondition check failed.","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Unavailable, Message: "Precondition check failed."},
		},
		{
			name: "an activation under way", code: 400, api: serviceUsage,
			body: `{"error":{"code":400,"message":"Another activation or deactivation is in progress for the following container(s): projects/1.","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Unavailable, Message: "Another activation or deactivation is in progress for the following container(s): projects/1."},
		},
		{
			name: "Service Usage's failed precondition", code: 412, api: serviceUsage,
			body: `{"error":{"code":412,"message":"Precondition check failed.","status":"FAILED_PRECONDITION"}}`,
			want: class{Code: connect.Unavailable, Message: "Precondition check failed."},
		},
		{
			name: "another API's failed precondition", code: 400, api: iamAdmin,
			body: `{"error":{"code":400,"message":"Precondition check failed.","status":"FAILED_PRECONDITION","errors":[{"reason":"failedPrecondition"}]}}`,
			want: class{Code: connect.Precondition, Reason: "failedPrecondition", Message: "Precondition check failed."},
		},
		{
			name: "an argument that is wrong", code: 400,
			body: `{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT"}}`,
			want: class{Code: connect.Invalid, Message: "Request contains an invalid argument."},
		},
		{
			name: "an error that is no object", code: 400,
			body: `{"error":"invalid_request","error_description":"Bad Request"}`,
			want: class{Code: connect.Invalid, Message: "Google answered 400."},
		},
		{
			name: "a long message", code: 400,
			body: `{"error":{"code":400,"message":"` + strings.Repeat("é", 400) + `"}}`,
			want: class{Code: connect.Invalid, Message: strings.Repeat("é", 150) + "..."},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			response, _ := reply(test.code, test.body, test.header...)
			defer response.Body.Close()
			g, err := New(Options{Endpoints: EndpointsUnder("http://google.test"), Transport: roundTrip(func(*http.Request) (*http.Response, error) { return response, nil })})
			if err != nil {
				t.Fatal(err)
			}
			_, err = g.accounts.Get("projects/p/serviceAccounts/a").Do()
			if test.api.name == "" {
				test.api = api{name: "some.googleapis.com"}
			}
			e := classify(t.Context(), test.api, "", err)
			if diff := cmp.Diff(test.want, class{e.Code, e.Reason, e.Message, e.RetryAfter}); diff != "" {
				t.Errorf("class (-want +got):\n%s\n%v", diff, e)
			}
			if !strings.Contains(e.Err.Error(), fmt.Sprintf("%s: HTTP %d", test.api.name, test.code)) {
				t.Errorf("the cause %q does not name the API and the code", e.Err)
			}
		})
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	t.Parallel()
	got := retryAfter(time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat), new(answer))
	if got < 80*time.Second || got > 90*time.Second {
		t.Errorf("waits %v, want about 90 s", got)
	}
	for _, header := range []string{"", "soon", "-3", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)} {
		if got := retryAfter(header, new(answer)); got != 0 {
			t.Errorf("%q waits %v", header, got)
		}
	}
}
