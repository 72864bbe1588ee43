package services_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions"
)

// runWith runs a system over the shared services with more variables.
func runWith(t *testing.T, s *google.Scenario, body func(*stacktest.System), more ...map[string]string) {
	t.Helper()
	environment := stacktest.SharedServices(t).Environment()
	for _, variables := range more {
		maps.Copy(environment, variables)
	}
	stacktest.RunServices(t, stack.Options{Environment: environment}, s, body)
}

// Ten confirmations at the same moment make one connection. Only Firestore's
// transactions order them.
func TestConfirm_ConcurrentRequestsConnectOnce(t *testing.T) {
	t.Parallel()
	runWith(t, stacktest.AttackedScenario(), confirmAtOnce, stacktest.Confirming)
}

func confirmAtOnce(y *stacktest.System) {
	handle := y.CallbackToConfirm(y.Consent(y.BeginServerLogin(stacktest.UserID), googletest.Owner))
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			status := y.Confirm(stacktest.UserID, handle)
			for status == http.StatusServiceUnavailable && y.T.Context().Err() == nil { // ten at one document are slow on a busy machine: 503 asks to try again
				status = y.Confirm(stacktest.UserID, handle)
			}
			if status != http.StatusOK && status != http.StatusConflict {
				y.T.Errorf("a confirmation was answered %d", status)
			}
		})
	}
	group.Wait()
	y.State()
	if n := y.Google.CallCounts().ByMethod["iam.serviceAccounts.create"]; n != 2 {
		y.T.Errorf("%d service accounts were made, want the 2 of one setup", n)
	}
}

// Only the backend may confirm, and only for the user that it names.
func TestConfirm_OnlyTheBackendMay(t *testing.T) {
	t.Parallel()
	runWith(t, stacktest.AttackedScenario(), confirmWithTokens, stacktest.AuthBackend)
}

func confirmWithTokens(y *stacktest.System) {
	asBackend := y.Bearer(stacktest.BackendAccount, y.URL)
	handle := y.CallbackToConfirm(y.Consent(y.BeginServerLogin(stacktest.UserID, asBackend...), googletest.Owner))
	before := y.State()
	for who, c := range map[string]struct {
		user   string
		header []string
		want   int
	}{
		"nobody":                       {stacktest.UserID, nil, 401},
		"the backend for another user": {stacktest.Attacker, asBackend, 404},
		"the backend for another":      {stacktest.UserID, y.Bearer(stacktest.BackendAccount, "https://elsewhere.example"), 401},
		"another service":              {stacktest.UserID, y.Bearer("evil@evil.iam.gserviceaccount.com", y.URL), 403},
		"the queue":                    {stacktest.UserID, y.Bearer(stacktest.QueueAccount, y.URL+"/tasks/enable-apis"), 401},
		"a token of Google's":          {stacktest.UserID, []string{"Authorization", "Bearer ya29.a0"}, 401},
	} {
		if status := y.Confirm(c.user, handle, c.header...); status != c.want {
			y.T.Errorf("a confirmation of %s was answered %d, want %d", who, status, c.want)
		}
	}
	if answer := y.Send(http.MethodPost, "/gcp/setup/confirm", `{"task_id":"`+handle+`"}`, append(asBackend, stacktest.JSON...)...); answer.Status != http.StatusUnauthorized && answer.Status != http.StatusBadRequest {
		y.T.Errorf("a backend that names nobody was answered %d %s", answer.Status, answer.Body)
	}
	y.WantUnchanged(before, stacktest.Spent{})
	if status := y.Confirm(stacktest.UserID, handle, asBackend...); status != http.StatusOK {
		y.T.Errorf("the victim's own confirmation was answered %d", status)
	}
	y.State()
}

// With AUTH=backend every caller shows an ID token: the backend in the user's
// name, and the queue with tokens that Cloud Tasks requests.
func TestAuthBackend_RefusesForgedCallers(t *testing.T) {
	t.Parallel()
	runWith(t, stacktest.AttackedScenario(), func(y *stacktest.System) {
		y.Call(http.StatusUnauthorized, http.MethodGet, "/api/gcp/connection", nil, nil)
		y.ActAsBackend()
		task := y.ConnectVictim()
		y.WantDiscovered("project-001", "project-002")
		forgedTasks(y, task)
		forgedBackend(y)
	}, stacktest.AuthBackend)
}

func forgedTasks(y *stacktest.System, task string) {
	const queue = stacktest.QueueAccount
	before := y.State()
	for function, body := range stacktest.ForgedTasks(task, 1) {
		target := functions.TaskPath(function)
		for who, c := range map[string]struct {
			header []string
			want   int
		}{
			"nobody":                                 {nil, 401},
			"one who says that it is the queue":      {[]string{"X-CloudTasks-TaskName", "t", "X-CloudTasks-QueueName", "setups", "User-Agent", "Google-Cloud-Tasks"}, 401},
			"the backend":                            {y.Bearer(stacktest.BackendAccount, y.URL), 401},
			"the backend with the queue's audience":  {y.Bearer(stacktest.BackendAccount, y.URL+target), 403},
			"the queue with the backend's audience":  {y.Bearer(queue, y.URL), 401},
			"the queue with another function's":      {y.Bearer(queue, y.URL+functions.TaskPath("other")), 401},
			"the queue of another audience":          {y.Bearer(queue, "https://elsewhere.example/"+function), 401},
			"another project's queue":                {y.Bearer("queue@evil.iam.gserviceaccount.com", y.URL+target), 403},
			"the queue with its token in two parts":  {append(y.Bearer(queue, y.URL+target), y.Bearer(queue, y.URL+target)...), 400},
			"the queue with its token as a password": {[]string{"Authorization", strings.Replace(y.Bearer(queue, y.URL+target)[1], "Bearer", "Basic", 1)}, 401},
		} {
			if answer := y.Send(http.MethodPost, target, body, append(c.header, stacktest.JSON...)...); answer.Status != c.want {
				y.T.Errorf("a task for %s of %s was answered %d, want %d", function, who, answer.Status, c.want)
			}
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
}

// forgedBackend requests the user's data as callers that are not the backend.
func forgedBackend(y *stacktest.System) {
	before := y.State()
	for _, path := range []string{"/api/gcp/connection", "/api/gcp/resources", "/api/gcp/changes", "/api/gcp/projects"} {
		for who, c := range map[string]struct {
			header []string
			want   int
		}{
			"nobody":                         {nil, 401},
			"the queue":                      {y.Bearer(stacktest.QueueAccount, y.URL+functions.TaskPath("enable-apis")), 401},
			"the backend for another":        {y.Bearer(stacktest.BackendAccount, "https://elsewhere.example"), 401},
			"the backend for a name alike":   {y.Bearer(stacktest.BackendAccount, y.URL+".evil.example"), 401},
			"another service":                {y.Bearer("evil@evil.iam.gserviceaccount.com", y.URL), 403},
			"a service of a name alike":      {y.Bearer("x"+stacktest.BackendAccount, y.URL), 403},
			"a token of Google's for a user": {[]string{"Authorization", "Bearer ya29.a0"}, 401},
		} {
			answer := y.Send(http.MethodGet, path, "", append(c.header, "X-User-ID", stacktest.UserID, "X-Goog-Authenticated-User-Email", "accounts.google.com:"+stacktest.BackendAccount)...)
			if answer.Status != c.want || strings.Contains(string(answer.Body), "project-00") {
				y.T.Errorf("%s of %s was answered %d %s, want %d", path, who, answer.Status, answer.Body, c.want)
			}
		}
	}
	if answer := y.Send(http.MethodPost, "/login", `{"userId":"`+stacktest.UserID+`"}`, stacktest.JSON...); answer.Status != 401 {
		y.T.Errorf("a login that nobody asks for was answered %d", answer.Status)
	}
	y.WantUnchanged(before, stacktest.Spent{})
}

// With AUTH=oidc users show their own tokens and cannot name another user.
func TestAuthOIDC_RefusesOtherSubjects(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	const audience = "aurora-frontend"
	issuing := httptest.NewServer(nil)
	defer issuing.Close()
	issuer, err := google.NewServer(google.Options{Issuer: issuing.URL, PublicURL: issuing.URL})
	if err != nil {
		t.Fatal(err)
	}
	issuing.Config.Handler = issuer
	of := func(email, audience string) (header []string, subject string) {
		token, err := issuer.IDToken(email, audience)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var who struct{ Sub string }
		if err := json.Unmarshal(claims, &who); err != nil {
			t.Fatal(err)
		}
		return []string{"Authorization", "Bearer " + token}, who.Sub
	}
	environment := shared.Environment()
	environment["AUTH"], environment["AUTH_ISSUER"], environment["AUTH_AUDIENCE"], environment["HOST"] = "oidc", issuing.URL, audience, "127.0.0.1"
	stacktest.RunServices(t, stack.Options{Environment: environment}, stacktest.AttackedScenario(), func(y *stacktest.System) {
		mine, subject := of("me@example.com", audience)
		_, other := of("victim@example.com", audience)
		elsewhere, _ := of("me@example.com", "another-frontend")
		before := y.State()
		for name, c := range map[string]struct {
			header []string
			want   int
		}{
			"the token alone":             {mine, 200},
			"its subject beside":          {append(mine, "X-User-ID", subject), 200},
			"the stacktest.UserID beside": {append(mine, "X-User-ID", other), 403},
			"both":                        {append(mine, "X-User-ID", subject, "X-User-ID", other), 400},
			"the email beside":            {append(mine, "X-User-ID", "me@example.com"), 403},
			"the stacktest.UserID alone":  {[]string{"X-User-ID", other}, 401},
			"a token for another":         {elsewhere, 401},
			"a token of Google's":         {y.Bearer("me@example.com", audience), 401},
			"a token in the query":        {nil, 401},
			"the queue's with victim's":   {append(y.Bearer(stacktest.QueueAccount, y.URL+"/tasks/enable-apis"), "X-User-ID", other), 401},
		} {
			path := "/api/gcp/connection"
			if name == "a token in the query" {
				path += "?access_token=" + strings.TrimPrefix(mine[1], "Bearer ")
			}
			if answer := y.Send(http.MethodGet, path, "", c.header...); answer.Status != c.want {
				t.Errorf("%s was answered %d %s, want %d", name, answer.Status, answer.Body, c.want)
			}
		}
		if answer := y.Send(http.MethodPost, "/login", `{"userId":"`+other+`"}`, append(mine, stacktest.JSON...)...); answer.Status != 403 {
			t.Errorf("a login in another's name was answered %d", answer.Status)
		}
		y.WantUnchanged(before, stacktest.Spent{})
	})
}
