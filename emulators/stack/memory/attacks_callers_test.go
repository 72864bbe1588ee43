package memory_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions"
	"gcpconnect/shared/setup"
)

// A user who is not connected asks for what is the victim's.
func otherUsersData(y *stacktest.System) {
	task := y.ConnectVictim()
	steal(y, task)
	y.WantNotConnected(attacker)
}

// The attacker has a connection of its own, and tries to reach from there.
func otherUsersDataConnected(y *stacktest.System) {
	task := y.ConnectVictim()
	address, cookie := y.BeginLogin(attacker)
	if login := y.Callback(y.Consent(address, stacktest.AttackerEmail), cookie); login != "gcp_setup_pending" {
		y.T.Fatalf("the attacker's own login ended with %s", login)
	}
	steal(y, task)
}

// steal asks, as the attacker, for everything of a victim whose setup it
// knows, in every way in which a request can name somebody else.
func steal(y *stacktest.System, task string) {
	before := y.State()
	var page struct {
		Next string `json:"next_page_token"`
	}
	y.Call(http.StatusOK, http.MethodGet, "/api/gcp/changes?page_size=1", nil, &page)
	next := url.QueryEscape(page.Next)
	const project = `"project-001"`
	for _, f := range functions.Table() {
		if f.Caller != functions.CallerUser {
			continue
		}
		for _, r := range f.Routes {
			if r.Path == "/login" {
				continue // see below
			}
			for _, query := range []string{"", "?view=detail", "?userId=" + victim + "&user_id=" + victim, "?task_id=" + task, "?project=project-001", "?page_token=" + next} {
				body := ""
				var header []string
				if r.Method == http.MethodPost {
					header = stacktest.JSON
					body = fmt.Sprintf(`{"userId":%q,"user_id":%q,"project_id":%s,"selected_project_ids":[%s],"projects":[{"projectId":%s,"enabled":false}]}`, victim, victim, project, project, project)
					if f.Name == "disconnect" { // it is the attacker's own that would end
						continue
					}
				}
				path := strings.ReplaceAll(r.Path, "{task_id}", task) + query
				answer := y.Send(r.Method, path, body, append([]string{"X-User-ID", attacker}, header...)...)
				if text := string(answer.Body); strings.Contains(text, "project-00") && !strings.Contains(text, "selected_project_ids holds") && !strings.Contains(text, "is not one of the connection's") || strings.Contains(text, owner) || strings.Contains(text, task) {
					y.T.Errorf("%s %s answered the attacker %d %s", r.Method, path, answer.Status, text)
				}
				want := http.StatusNotFound
				if strings.Contains(query, "userId") {
					want = http.StatusForbidden
				}
				if f.Name == "status" && answer.Status != want {
					y.T.Errorf("%s answered the attacker %d", path, answer.Status)
				}
			}
		}
	}
	for _, id := range []string{"USER-1", "user-1/", "user-1/../user-1", "./user-1", "user-1%00", "user%2d1", "user-1,user-1", "user-1;", "\"user-1\"", "*", "__user-1__"} {
		y.WantNotConnected(id)
		if answer := y.Send(http.MethodGet, "/gcp/setup/status/"+task, "", "X-User-ID", id); answer.Status != http.StatusNotFound {
			y.T.Errorf("%q was answered the victim's status: %d", id, answer.Status)
		}
	}
	for _, id := range []string{"..%2f" + task, task + "%2f", "%2e%2e", "x%2f..%2f" + task, task + "%00", strings.Repeat("x", 2000), "__" + task + "__", "%ff", strings.ToLower(task)} {
		if answer := y.Send(http.MethodGet, "/gcp/setup/status/"+id, "", "X-User-ID", victim); answer.Status != http.StatusNotFound && answer.Status != http.StatusBadRequest {
			y.T.Errorf("the setup %.80s was answered %d %s", id, answer.Status, answer.Body)
		}
	}
	if answer := y.Send(http.MethodPost, "/login", `{"userId":"`+victim+`"}`, append([]string{"X-User-ID", attacker}, stacktest.JSON...)...); answer.Status != http.StatusForbidden {
		y.T.Errorf("a login in the victim's name was answered %d", answer.Status)
	}
	y.WantUnchanged(before, stacktest.Spent{})
}

// Users and nobody bring tasks.
func forgedTasks(y *stacktest.System) {
	task := y.ConnectVictim()
	before := y.State()
	for function, body := range stacktest.ForgedTasks(task, 1) {
		for who, header := range map[string][]string{
			"nobody": nil, "the user": {"X-User-ID", victim}, "a frontend": {"Origin", y.URL, "X-User-ID", victim}, "a name alike": {"X-CloudTasks-Task-Name", "t", "X-AppEngine-TaskName", "t"},
		} {
			if answer := y.Send(http.MethodPost, functions.TaskPath(function), body, append(header, stacktest.JSON...)...); answer.Status != http.StatusUnauthorized {
				y.T.Errorf("a task for %s of %s was answered %d", function, who, answer.Status)
			}
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
}

// The queue itself brings tasks that are not due: of a generation before and
// after, of a setup and a user that are not there.
func foreignTasks(y *stacktest.System) {
	y.ConnectVictim()
	task := y.ConnectVictim() // generation 2
	before := y.State()
	wantStaleTasksIgnored(y, task)
	y.WantUnchanged(before, stacktest.Spent{})
}

// wantStaleTasksIgnored delivers tasks of other generations and of unknown setups,
// which must be acknowledged, and malformed tasks, which must be refused.
func wantStaleTasksIgnored(y *stacktest.System, task string) {
	y.T.Helper()
	for name, bodies := range map[string]map[string]string{"a generation before": stacktest.ForgedTasks(task, 1), "a generation to come": stacktest.ForgedTasks(task, 3), "no setup": stacktest.ForgedTasks("NONE", 2)} {
		for function, body := range bodies {
			if function == setup.DiscoverFunction && name != "a generation to come" {
				continue // what is left of a generation before is swept: see the tests of discovery
			}
			if answer := y.Send(http.MethodPost, functions.TaskPath(function), body, append([]string{"X-CloudTasks-TaskName", "t"}, stacktest.JSON...)...); answer.Status != http.StatusNoContent {
				y.T.Errorf("a task for %s of %s was answered %d %s", function, name, answer.Status, answer.Body)
			}
		}
	}
	for function, body := range map[string]string{
		"grant-access": stacktest.ForgedTasks(task, 2)["enable-apis"], "enable-apis": strings.Replace(stacktest.ForgedTasks(task, 2)["enable-apis"], "{", `{"user":"`+attacker+`",`, 1),
		"validate-projects": `{"setup":"` + task + `","generation":-1,"step":"validate-projects","attempt":0}`,
	} {
		if answer := y.Send(http.MethodPost, functions.TaskPath(function), body, append([]string{"X-CloudTasks-TaskName", "t"}, stacktest.JSON...)...); answer.Status != http.StatusBadRequest {
			y.T.Errorf("a task that is none for %s was answered %d %s", function, answer.Status, answer.Body)
		}
	}
}
