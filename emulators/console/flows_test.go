package console_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/functions"
)

// filesOf reads the files with an ending, by name.
func filesOf(fsys fs.FS, ending string) (map[string]string, error) {
	files := map[string]string{}
	return files, fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ending {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		files[name] = string(content)
		return err
	})
}

// instant is the default scenario with a Google that takes no time, changed.
func instant(change func(*google.Scenario)) *google.Scenario {
	s := google.DefaultScenario()
	googletest.Instant(s)
	s.Quotas = false
	for i := range s.Projects {
		if s.Projects[i].ID != s.Metadata.Project {
			s.Projects[i].EnabledAPIs = &required
		}
	}
	if change != nil {
		change(s)
	}
	return s
}

// required are the APIs that setups enable: where they are enabled before,
// nothing waits for operations of Google's.
var required = func() []string {
	var names []string
	for _, name := range strings.Fields(`cloudresourcemanager compute container run cloudfunctions storage sqladmin cloudbilling iam serviceusage
		iamcredentials cloudasset orgpolicy bigquery artifactregistry cloudbuild eventarc pubsub secretmanager logging monitoring cloudtrace dns
		servicenetworking vpcaccess`) {
		names = append(names, name+".googleapis.com")
	}
	return names
}()

// keep leaves these projects and the platform's in the scenario.
func keep(s *google.Scenario, ids ...string) {
	s.Projects = slices.DeleteFunc(s.Projects, func(p google.Project) bool {
		return p.ID != s.Metadata.Project && !slices.Contains(ids, p.ID)
	})
}

// A new user connects, watches, looks at everything, and leaves without a trace.
func TestHappyPath(t *testing.T) {
	t.Parallel()
	s := google.DefaultScenario() // with APIs to enable: that takes Google's time, in which there is something to watch
	s.Latencies, s.Quotas = google.Latencies{}, false
	s.Propagation = google.Propagation{}
	// Access does not come into force before the test has seen the page.
	s.Faults = []google.Fault{{Method: "iamcredentials.serviceAccounts.generateAccessToken", Code: 403}}
	l := start(t, s, map[string]string{"VERIFY_INTERVAL": "4s", "VERIFY_ATTEMPTS": "1000"})
	before := l.Google.Snapshot()
	p := l.profile()

	p.visit("")
	p.at("connect")
	p.see("Connect your Google Cloud", "What Aurora asks for at Google", "Two service accounts", "Disconnect with cleanup")
	p.portray("connect")
	p.press("Connect GCP")
	p.see("wants access to your Google Account")
	p.accessible("Google's page")
	p.picture("google")
	p.consent("Allow")

	p.at("setup/")
	p.see("Setting up Google Cloud", "you may close this page", "of at most 1000", "5 projects are not ready yet", "Next check in 0:0")
	p.portray("progress")
	l.Google.ClearFaults()
	if kept := p.kept(); kept["aurora.task"] == "" || len(kept) != 1 {
		t.Errorf("the browser remembers %v, want the task alone", kept)
	}
	p.see("All 5 projects are ready", "changes were made")
	p.until("that all steps are done", "document.querySelectorAll('.step.done').length === 7")
	p.portray("progress-done")
	p.until("that screen readers are told", "document.querySelector('#announcement').innerText === 'All 5 projects are ready'")

	p.press("Go to your connection")
	p.at("connection")
	p.see("demo@example.com", "Connected", "Access by project", "shop-staging")
	p.until("that access is shown", "document.querySelectorAll('[role=switch][aria-checked=true]').length === 5")
	p.portray("connection")
	p.press("Access to shop-staging")
	p.see("Access to shop-staging is off.")
	if q, _ := l.Google.Project("shop-staging"); strings.Contains(fmt.Sprint(q.Bindings), "roles/run.admin") {
		t.Error("access is said to be off, and is not")
	}
	l.Google.SetPropagation(google.Propagation{})
	p.choose("Move to", "internal-tools")
	p.press("Move")
	p.at("setup/")
	p.see("All 4 projects are ready") // without the one that is switched off
	p.visit("#/connection")
	p.see("internal-tools holds the two service accounts")

	p.press("Resources")
	p.at("resources")
	p.until("that discovery has ended", "/\\d+ resources in 5 projects\\./.test(document.body.innerText)")
	p.see("GKE clusters", "Cloud Run services", "By type", "1 to 25 of")
	p.portray("resources")
	p.press("Next")
	p.see("26 to")
	p.press("GKE clusters")
	p.see("1 to 2 of 2", "shop", "tools")
	p.write("Search resources", "us-east1")
	p.see("1 to 1 of 1")
	p.write("Search resources", "nothing like this")
	p.see("Nothing matches.")

	p.press("Changes")
	p.at("changes")
	p.see("Granted", "Done")
	p.portray("changes")
	p.press("Older")
	p.see("251 to")

	p.press("Disconnect")
	p.at("disconnect")
	p.see("This will be undone", "Delete 4 service accounts", "Take back")
	p.press("Also disable the")
	p.see("Disable 91 APIs")
	p.press("Also disable the")
	p.press("Take back")
	p.portray("disconnect")
	p.press("Disconnect and undo")
	p.at("setup/")
	p.see("Everything was undone", "changes were undone", "What was undone", "Deleted 4 service accounts")
	p.portray("undone")
	p.visit("#/connection")
	p.see("Not connected")

	for _, change := range google.Diff(before, l.Google.Snapshot()) {
		if !strings.Contains(change, " api ") { // those stay enabled: nobody asked to disable them
			t.Errorf("this was not undone: %s", change)
		}
	}
}

func TestDenialLeadsBackToTheButton(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	p.visit("")
	p.press("Connect GCP")
	p.consent("Deny")
	p.see("You did not allow Aurora to access Google Cloud. Nothing was changed.")
	p.until("that the message has the focus", "document.activeElement.matches('.ending')")
	p.portray("denied")
	p.press("Connect again")
	p.consent("Allow")
	p.see("All 5 projects are ready")
}

func TestUntickedScopeIsExplained(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	p.visit("")
	p.press("Connect GCP")
	p.consent("Allow", "https://www.googleapis.com/auth/cloud-platform")
	p.see("A permission was left unticked", "Connect again and tick all of them.")
	p.press("Connect again")
	p.consent("Allow")
	p.see("All 5 projects are ready")
}

// Each way in which a login can end has its own words and a next action, in the
// address of a view that a reload keeps.
func TestEveryEndingOfALoginIsShown(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	for _, ending := range functions.LoginEndings() {
		p.visit("?login=" + ending.Value)
		p.see(strings.ReplaceAll(ending.Text, "  ", " "))
		p.until("that the address says nothing of it", "location.search === ''")
		p.accessible(ending.Value)
		p.do(chromedp.Reload())
		p.see(ending.Text)
	}
	p.visit("?login=something_new")
	p.see("The login ended with something_new. Connect again.")
}

func TestChoosingShowsWhatWouldChangeBeforeItDoes(t *testing.T) {
	t.Parallel()
	s := instant(func(s *google.Scenario) {
		keep(s, "shop-production", "dana-playground")
		googletest.Project(s, "shop-production").Bindings[0].Role = "roles/viewer"
		template := *googletest.Project(s, "shop-production")
		template.ID, template.Number, template.Name, template.Labels = "team-{n}", "700000000{n}", "Team {n}", nil
		template.Bindings = []google.Binding{{Role: "roles/owner", Members: []string{"user:demo@example.com"}}}
		template.Resources, template.ServiceAccounts = nil, nil
		s.Generate = []google.Generator{{Count: 110, Project: template}}
	})
	l := start(t, s, nil)
	before := l.Google.Snapshot()
	p := l.profile()
	p.connect()
	p.at("projects")
	p.see("Choose projects", "112 projects, 111 of them with active billing", "No active billing")
	p.press("Select all")
	p.see("100 of at most 100 selected. One setup takes no more")
	p.press("Select none")
	p.see("0 of at most 100 selected")
	p.write("Search projects", "team-00")
	p.see("9 of 112 projects found")
	p.press("Select all found")
	p.see("9 of at most 100 selected")
	p.press("Select none")
	p.press("Team 001")
	p.press("Team 002")
	p.write("Search projects", "shop")
	p.press("Shop production")
	p.write("Search projects", "")
	p.see("3 of at most 100 selected")
	p.portray("projects")

	p.press("Review changes")
	p.at("plan")
	p.see("What would change", "Nothing has been changed yet", "Create service accounts", "permission is missing", "you lack resourcemanager.projects.setIamPolicy")
	p.press("Grant 22 roles")
	p.see("manages GKE clusters and what runs in them")
	p.portray("plan")
	p.do(chromedp.NavigateBack())
	p.at("projects")
	p.see("3 of at most 100 selected")
	p.press("Review changes")
	p.press("Leave 1 project out")
	p.see("Set up 2 projects")
	if now := l.Google.Snapshot(); fmt.Sprint(now.Projects) != fmt.Sprint(before.Projects) {
		t.Error("something was changed before the user had agreed")
	}
	p.press("Set up 2 projects")
	p.at("setup/")
	p.see("All 2 projects are ready")
	if q, _ := l.Google.Project("team-003"); len(q.Bindings) != 1 {
		t.Error("a project that was not chosen was changed")
	}
}

func TestProjectThatFailsIsShownWithItsRemedy(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) {
		keep(s, "shop-production", "shop-staging", "internal-tools")
		s.Faults = []google.Fault{{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "shop-staging", Code: 403}}
	}), map[string]string{"VERIFY_ATTEMPTS": "2"})
	p := l.profile()
	p.connect()
	p.see("2 of 3 projects are ready", "Ask for Owner, or Project IAM Admin, on the project, then retry.")
	p.press("What may help")
	p.see("Verify that you have the role Owner or Project IAM Admin on the project.")
	p.until("that the project that failed comes first", "document.querySelector('table.projects tbody th').innerText === 'shop-staging'")
	p.portray("project-failed")
	l.Google.ClearFaults()
	p.press("Retry 1 project")
	p.see("Your project is ready")
}

func TestPartialVerificationIsAWarning(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) {
		keep(s, "shop-production", "shop-staging", "internal-tools")
		googletest.Project(s, "shop-staging").Propagation = &google.GrantDelays{Project: new(google.Never)}
	}), map[string]string{"VERIFY_ATTEMPTS": "3"})
	p := l.profile()
	p.connect()
	p.see("2 of 3 projects are ready", "Propagation verification: PARTIAL (2/3 projects)", "Not verified", "did not come into force in project shop-staging", "Retry 1 project")
	p.portray("partial")
}

// An organization's policy that stays is no failure, and is said all the same.
func TestPolicyThatStaysIsAWarning(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) {
		keep(s, "shop-production", "shop-staging")
		s.Organizations[0].OrgPolicies = map[string]google.PolicySpec{"iam.allowedPolicyMemberDomains": {
			Rules: []google.PolicyRule{{Values: &google.StringValues{AllowedValues: []string{s.Organizations[0].CustomerID, s.Organizations[1].CustomerID}}}},
		}}
	}), nil)
	p := l.profile()
	p.connect()
	p.see("All 2 projects are ready", "Org Policy update failed for some projects: shop-production, shop-staging.", "Not permitted")
	p.until("that it is a warning, at its step too", "document.querySelector('.notice.warn') && document.querySelectorAll('.step.flawed').length === 1")
}

func TestNothingToSetUpIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*google.Scenario)
		words  string
	}{
		"no project": {func(s *google.Scenario) { keep(s) }, "No GCP projects found during login"},
		"no billing": {func(s *google.Scenario) { keep(s, "dana-playground") }, "No GCP project with active billing found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, instant(tt.change), nil).profile()
			p.connect()
			p.see("Google Cloud could not be set up", tt.words, "Retry", "Connect with another account")
			p.portray(strings.ReplaceAll(name, " ", "-"))
		})
	}
}

// Whoever reloads, closes the tab and comes back, or uses the browser's buttons
// finds what they left.
func TestReloadAndClosedTabInTheMiddle(t *testing.T) {
	t.Parallel()
	// Access does not come into force before the test lets it.
	l := start(t, instant(func(s *google.Scenario) {
		keep(s, "shop-production", "shop-staging")
		s.Faults = []google.Fault{{Method: "iamcredentials.serviceAccounts.generateAccessToken", Code: 403}}
	}), map[string]string{"VERIFY_ATTEMPTS": "1000"})
	p := l.profile()
	p.connect()
	p.see("of at most 1000")
	p.do(chromedp.Reload())
	p.at("setup/")
	p.see("Setting up Google Cloud", "of at most 1000")

	another := l.tab(p)
	call(p, cdpage.Close, cdp.Empty{})
	another.visit("")
	another.at("setup/")
	another.see("Setting up Google Cloud")
	l.Google.ClearFaults()
	another.see("All 2 projects are ready")

	another.press("Go to your connection")
	another.at("connection")
	another.press("Changes")
	another.at("changes")
	another.see("Everything that Aurora changed")
	another.do(chromedp.NavigateBack())
	another.at("connection")
	another.see("Access by project")
	another.until("that the view's heading has the focus", "document.activeElement.tagName === 'H1'")
	another.do(chromedp.NavigateBack())
	another.at("setup/")
	another.do(chromedp.NavigateForward())
	another.at("connection")
}

// Back from Google's page by the browser's button, the login can begin again.
func TestBackFromGoogleLeavesAButtonThatWorks(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	p.visit("")
	p.press("Connect GCP")
	p.see("wants access to your Google Account")
	p.do(chromedp.NavigateBack())
	p.see("Connect your Google Cloud")
	p.press("Connect GCP")
	p.consent("Allow")
	p.see("All 5 projects are ready")
}

func TestDisconnectWithoutCleanupSaysWhatStays(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) { keep(s, "shop-staging") }), nil)
	p := l.profile()
	p.connect()
	p.see("Your project is ready")
	p.visit("#/disconnect")
	p.press("Disconnect only")
	p.see("This will stay", "changes in your cloud")
	p.press("Disconnect now")
	p.at("disconnected")
	p.see("GCP disconnected successfully", "Your consent was revoked at Google", "still stand in your cloud")
	p.portray("disconnected")
	if q, _ := l.Google.Project("shop-staging"); len(q.ServiceAccounts) == 0 {
		t.Error("something was undone that nobody asked for")
	}
}

func TestEndedConsentAsksToReauthenticate(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) { keep(s, "shop-staging") }), nil)
	p := l.profile()
	p.connect()
	p.see("Your project is ready")
	if err := l.Google.RevokeUser("demo@example.com"); err != nil {
		t.Fatal(err)
	}
	p.visit("#/connection")
	p.see("Your consent has ended", "Please re-authenticate.")
	p.visit("#/disconnect")
	p.see("A cleanup needs your consent")
	p.visit("#/connection")
	p.see("Your consent has ended", "What was set up still stands.")
	p.portray("reauthenticate")
	p.press("Re-authenticate")
	p.consent("Allow")
	p.see("Your project is ready")
}

// With LOGIN_BINDING=confirm nothing is connected until the user says so.
func TestConfirmationIsAskedFor(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) { keep(s, "shop-staging") }), map[string]string{"LOGIN_BINDING": "confirm"})
	p := l.profile()
	p.visit("")
	p.press("Connect GCP")
	p.consent("Allow")
	p.at("confirm/")
	p.see("Was it you?", "until then nothing is connected or changed", "You are me at Aurora")
	p.portray("confirm")
	p.press("Yes, this was me")
	p.at("setup/")
	p.see("Your project is ready")
}

// An attacker begins a login and has a victim consent to it: in the victim's
// browser nothing is connected, for neither of them.
func TestSessionFixationIsStoppedInTheVictimsBrowser(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	attacker, victim := l.profile(), l.profile()
	attacker.visit("")
	attacker.see("Connect your Google Cloud")
	attacker.do(chromedp.Evaluate[chromedp.Void]("localStorage.setItem('aurora.user', 'attacker')"))
	attacker.do(chromedp.Reload())
	attacker.press("Connect GCP")
	attacker.see("wants access to your Google Account")
	link, err := value[string](attacker, "location.href")
	if err != nil {
		t.Fatal(err)
	}
	victim.visit("")
	victim.do(chromedp.Navigate(link))
	victim.consent("Allow")
	victim.see("This login was begun in another browser, so nothing was connected.", "If somebody sent you the link, do not use it.")
	victim.portray("other-browser")
	for _, p := range []*page{attacker, victim} {
		p.visit("#/connection")
		p.see("Not connected")
	}
	if consents := l.Google.CallCounts().ByMethod["oauth.token"]; consents != 0 {
		t.Errorf("the code was exchanged %d times", consents)
	}
}

// From the first page to the last undone change with the keyboard alone.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) { keep(s, "shop-production", "shop-staging") }), nil)
	p := l.profile()
	p.visit("")
	p.see("Connect your Google Cloud")
	p.key(kb.Tab)
	p.until("that the first thing is the way to the content", "document.activeElement.innerText === 'Skip to content'")
	p.key(kb.Enter)
	p.until("that the content has the focus", "document.activeElement.id === 'main'")
	p.tabTo("Connect GCP")
	p.key(kb.Enter)
	p.see("wants access to your Google Account")
	p.tabTo("Allow")
	p.key(kb.Enter)
	p.see("All 2 projects are ready")
	p.tabTo("Go to your connection")
	p.key(kb.Enter)
	p.at("connection")
	p.tabTo("Access to shop-staging")
	p.key(" ")
	p.see("Access to shop-staging is off.")
	p.key(" ") // it has kept the focus
	p.see("Access to shop-staging is on.")
	p.visit("#/resources")
	p.see("By type")
	p.tabTo("Storage buckets")
	p.key(kb.Enter)
	p.see("1 to 2 of 2")
	p.visit("#/disconnect")
	p.see("This will be undone")
	p.tabTo("Disconnect and clean up")
	p.key(kb.ArrowDown)
	p.see("This will stay")
	p.key(kb.ArrowUp)
	p.see("This will be undone")
	p.tabTo("Disconnect and undo")
	p.key(kb.Enter)
	p.see("Everything was undone")
}

func TestDevelopersPanel(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	p.visit("")
	p.press("Developers")
	p.until("that the panel has the focus", "document.activeElement.id === 'panel-title'")
	p.choose("Scenario", "one-project-fails")
	p.see("Four projects. In one the user is no owner")
	p.press("Load")
	p.see("Loaded: Google begins anew")
	p.press("None") // takes no time
	p.see("Changed, for calls from now on.")
	if s := l.Google.Scenario(); len(s.Projects) != 5 || s.Latencies.Read != 0 {
		t.Errorf("Google plays %q with reads of %v", s.Description, s.Latencies.Read)
	}
	p.write("Only in project", "shop-production")
	p.press("Google is away, 10 calls")
	p.see("Injected.", `"code":503`)
	if faults := l.Google.Scenario().Faults; len(faults) != 1 || faults[0].Project != "shop-production" || faults[0].Code != 503 {
		t.Errorf("the faults are %+v", faults)
	}
	p.press("Clear 1 fault")
	p.see("Cleared.")
	p.write("User ID", "somebody-else")
	p.press("Switch")
	p.see("as somebody-else")
	p.press("Connect GCP")
	p.consent("Allow")
	p.at("setup/")
	p.press("Developers")
	p.see("oauth.token", "cloudresourcemanager.projects.")
	p.portray("developers")
	p.key(kb.Escape)
	p.until("that the panel is closed, and its button has the focus", "!document.getElementById('panel') && document.activeElement.id === 'panel-button'")
}

// Asking how far a setup is: every 5 s, less often where nobody looks or
// something is down, and not for ever.
func TestPollingIsPolite(t *testing.T) {
	t.Parallel()
	l := start(t, instant(nil), nil)
	p := l.profile()
	p.visit("")
	for call, want := range map[string]int{
		"wait()": 5000, "wait({hidden: true})": 30000,
		"wait({failures: 1})": 5000, "wait({failures: 3})": 20000, "wait({failures: 99})": 60000,
		"wait({failures: 1, retryAfter: 17})": 17000, "wait({failures: 1, retryAfter: 600})": 600000, "wait({failures: 1, hidden: true})": 30000,
		"MOST": 360,
	} {
		if got, err := value[int](p, "import('/console/poll.js').then(({wait, MOST}) => "+call+")"); err != nil || got != want {
			t.Errorf("%s is %d, want %d (%v)", call, got, want, err)
		}
	}
}

// A status that cannot be had for a while is said, and asked for again.
func TestOutageIsSaidAndSurvived(t *testing.T) {
	t.Parallel()
	l := start(t, instant(func(s *google.Scenario) { keep(s, "shop-staging") }), nil)
	p := l.profile()
	var answered atomic.Int64
	err := chromedp.Listen(p.ctx, func(event any) {
		paused, ok := event.(*fetch.EventRequestPaused)
		if !ok {
			return
		}
		refuse := answered.Add(1) <= 3
		go func() { // the page is what tells whether it worked
			if !refuse {
				_, _ = chromedp.Call(p.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: paused.RequestID})
				return
			}
			_, _ = chromedp.Call(p.ctx, fetch.FulfillRequest, fetch.FulfillRequestParams{
				RequestID: paused.RequestID, ResponseCode: http.StatusServiceUnavailable,
				ResponseHeaders: []*fetch.HeaderEntry{{Name: "Retry-After", Value: "5"}, {Name: "Content-Type", Value: "application/json"}},
				Body:            []byte(`{"error": "The database does not answer. Try again in a moment.", "code": "unavailable"}`),
			})
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	call(p, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: "*/gcp/setup/status/*"}}})
	p.connect()
	p.see("The database does not answer. Try again in a moment.")
	p.see("Your project is ready")
	p.seeNot("The database does not answer.")
}
