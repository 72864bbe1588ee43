package load

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

var (
	full    = flag.Bool("full", false, "the large form, which measures, and takes about a quarter of an hour")
	profile = flag.String("profile", "", "`file` for a CPU profile of the functions while they are polled")
)

// size is how much load there is.
type size struct {
	users    int // who connect at once
	rate     int // status polls a second
	polls    int
	projects int // of the large setup
	// stop is how the functions' process ends in the middle of the large setup.
	stop        syscall.Signal
	environment map[string]string
	google      func(*google.Scenario)
	look        time.Duration // between two looks of a user at a setup
}

var (
	// small takes seconds: Google takes no time, and the large setup finds all
	// APIs enabled, as operations are not asked about for 10 s. A process that is
	// told to stop leaves no lease behind, which takes 90 s to expire.
	small = size{
		users: 40, rate: 1000, polls: 1000, projects: 160, stop: syscall.SIGTERM, look: 250 * time.Millisecond,
		environment: map[string]string{"VERIFY_INTERVAL": "1s", "PLATFORM_QUOTA": "10"},
		google: func(s *google.Scenario) {
			for i := range s.Projects {
				if strings.HasPrefix(s.Projects[i].ID, "many-") {
					s.Projects[i].EnabledAPIs = &enabled
				}
			}
		},
	}
	// large is a Google as the contract has it, which counts calls as well.
	large = size{
		users: 500, rate: 2000, polls: 120_000, projects: 1000, stop: syscall.SIGKILL, look: 5 * time.Second,
		environment: map[string]string{},
		google: func(s *google.Scenario) {
			ms := func(n int) google.Duration { return google.Duration(time.Duration(n) * time.Millisecond) }
			s.Quotas = true
			s.Latencies = google.Latencies{Read: ms(80), IAMWrite: ms(250), CreateAccount: ms(500), BatchEnable: ms(250), OAuth: ms(80), Operation: ms(15_000)}
			s.Propagation = google.Propagation{GrantDelays: google.GrantDelays{Project: new(ms(60_000)), Account: new(ms(60_000))}}
		},
	}
)

// enabled is what a setup enables.
var enabled = strings.Fields(strings.ReplaceAll(`cloudresourcemanager. compute. container. run. cloudfunctions. storage. sqladmin.
	cloudbilling. iam. serviceusage. iamcredentials. cloudasset. orgpolicy. bigquery. artifactregistry. cloudbuild. eventarc.
	pubsub. secretmanager. logging. monitoring. cloudtrace. dns. servicenetworking. vpcaccess.`, ".", ".googleapis.com"))

// owners is who owns the projects of the large setup.
const owners = "owner@example.com"

func email(user int) string { return fmt.Sprintf("user-%03d@example.com", user) }

// scenario is a Google in which each user has one project, and one has many.
func (n size) scenario() *google.Scenario {
	s := &google.Scenario{
		Clients: []google.Client{{
			ID: "demo-client.apps.googleusercontent.com", Secret: "demo-secret", Name: "Aurora",
			RedirectURIs: []string{"http://127.0.0.1:8080/callback"}, AnyLoopbackPort: true, Project: "aurora-platform",
		}},
		Projects: []google.Project{{
			ID: "aurora-platform", Number: "900000000001", BillingAccount: "0A0A0A-0B0B0B-0C0C0C",
			EnabledAPIs: &[]string{
				"cloudasset.googleapis.com", "cloudbilling.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com",
				"iamcredentials.googleapis.com", "orgpolicy.googleapis.com", "serviceusage.googleapis.com",
			},
		}},
	}
	project := func(id, number, email string) {
		s.Projects = append(s.Projects, google.Project{
			ID: id, Number: number, Name: id, BillingAccount: "01A2B3-C4D5E6-F70819",
			Bindings: []google.Binding{{Role: "roles/owner", Members: []string{"user:" + email}}},
			// Two batches are enabled.
			EnabledAPIs: &[]string{"serviceusage.googleapis.com"},
			Resources:   []google.Resource{{AssetType: "storage.googleapis.com/Bucket", Name: id + "-files", Location: "eu"}},
		})
	}
	for i := range n.users {
		s.Users = append(s.Users, google.User{Email: email(i), Sub: fmt.Sprint(100_000_000_000_000_000 + i)})
		project(fmt.Sprintf("own-%04d", i), fmt.Sprint(200_000_000_000+i), email(i))
	}
	s.Users = append(s.Users, google.User{Email: owners, Sub: "300000000000000000000"})
	for i := range n.projects {
		project(fmt.Sprintf("many-%04d", i), fmt.Sprint(400_000_000_000+i), owners)
	}
	n.google(s)
	return s
}

// system is a running system under load.
type system struct {
	*stack.Stack
	*process
	t      *testing.T
	size   size
	client *http.Client
	seen   *statuses
}

func TestLoad(t *testing.T) {
	n := small
	if *full {
		n = large
	}
	firestore, vault := partstest.Firestore(t), partstest.Vault(t)
	p := newProcess(t)
	environment := maps.Clone(n.environment)
	maps.Copy(environment, map[string]string{
		"FIRESTORE_EMULATOR_HOST": firestore.Address, "VAULT_ADDR": vault.Address, "VAULT_ROLE_ID": vault.RoleID, "VAULT_SECRET_ID": vault.SecretID.Reveal(),
		"MAX_SELECTED_PROJECTS": "1000",
	})
	started, err := stack.Start(t.Context(), stack.Options{
		Real: true, Scenario: n.scenario(), Environment: environment, Elsewhere: p.elsewhere, Logs: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	seen := &statuses{next: p.transport, count: map[string]int{}}
	y := &system{Stack: started, process: p, t: t, size: n, seen: seen, client: &http.Client{Transport: seen, Timeout: 100 * time.Second}}
	ended := y.users()
	if *full {
		ended()
		y.large()
	} else { // the process is stopped under the users' setups as well
		y.large()
		ended()
	}
	y.counts("after all")
	t.Logf("answers to users: %v", seen.all())
	for status, times := range seen.all() {
		if status >= "500" && status != "503, come back" {
			t.Errorf("users were answered %s %d times", status, times)
		}
	}
}

// statuses counts what users are answered. A 503 that says when to come back
// is another than one that does not.
type statuses struct {
	next  http.RoundTripper
	mu    sync.Mutex
	count map[string]int
}

func (s *statuses) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.next.RoundTrip(r)
	status := "599 no answer"
	if err == nil {
		status = fmt.Sprint(response.StatusCode)
		if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "" {
			status += ", come back"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[status]++
	return response, err
}

func (s *statuses) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.count)
}

// setup is one that a user awaits.
type setup struct{ user, task string }

// users has all users connect at once, and polls their setups while they run.
// What it returns waits for these to end.
func (y *system) users() (await func()) {
	t := y.t
	y.connect("warm", owners) // what is made once is made
	before := y.memory()
	began := time.Now()
	var group sync.WaitGroup
	var mu sync.Mutex
	var connected []setup
	var connecting, lasting []time.Duration
	all := make(chan struct{})
	ended := make(chan struct{})
	for i := range y.size.users {
		group.Go(func() {
			id := fmt.Sprint("user-", i)
			asked := time.Now()
			task := y.connect(id, email(i))
			mu.Lock()
			connecting = append(connecting, time.Since(asked))
			if connected = append(connected, setup{id, task}); len(connected) == y.size.users {
				close(all)
			}
			mu.Unlock()
			if task == "" {
				return
			}
			final := y.await(id, task)
			if final == nil || final.Result == nil || final.Result.Propagation != "FULL" || final.Result.Verified != 1 {
				t.Errorf("the setup of %s ended with %+v", id, final)
			}
			mu.Lock()
			lasting = append(lasting, time.Since(asked))
			mu.Unlock()
		})
	}
	go func() { group.Wait(); close(ended) }()
	<-all
	t.Logf("%d users connected within %v: %s", y.size.users, time.Since(began).Round(time.Millisecond), percentiles(connecting))
	mu.Lock()
	polled := slices.Clone(connected)
	mu.Unlock()
	y.polls(polled)
	process := y.cmd
	return func() {
		<-ended
		t.Logf("%d setups ended: %s", len(lasting), percentiles(lasting))
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if y.cmd != process {
			return
		}
		after := y.memory()
		// What is kept for each user: an account's token, for an hour.
		y.flat("the users", before, after, 8<<20+uint64(8<<10*y.size.users), 100)
		y.counts("after the users")
		y.polls(polled) // with nothing beside them
		y.flat("polls", after, y.memory(), 2<<20, 20)
	}
}

// flat compares what the functions' process holds before and after something.
func (y *system) flat(what string, before, after memory, room uint64, goroutines int) {
	y.t.Logf("memory of the functions before and after %s: heap %.1f MB and %.1f MB, goroutines %d and %d, resident %.0f MB and %.0f MB", what,
		mb(before.Heap), mb(after.Heap), before.Goroutines, after.Goroutines, mb(before.Resident), mb(after.Resident))
	if after.Heap > before.Heap+room || after.Goroutines > before.Goroutines+goroutines {
		y.t.Errorf("the functions hold %+v after %s, and %+v before", after, what, before)
	}
}

func mb(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// counts says how much Google and the queue had to do. The queue must not have
// given a task up: it would be lost.
func (y *system) counts(when string) {
	refused := 0
	calls := y.Google.Calls()
	for _, c := range calls {
		if c.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	tasks := y.Parts.Tasks.Counts()
	y.t.Logf("%s: %d calls to Google, of which it refused %d as too many; %d tasks in %d deliveries", when, len(calls), refused, tasks.Completed, tasks.Dispatches)
	if tasks.GivenUp > 0 || tasks.Created != tasks.Completed {
		y.t.Errorf("of the tasks %+v", tasks)
	}
}

// retrying is how often a user who is told to come back does.
const retrying = 30

// connect connects a user, who comes back when told to.
func (y *system) connect(id, email string) string {
	user, err := demo.NewUser(id, y.URL, y.client)
	if err != nil {
		y.t.Error(err)
		return ""
	}
	for range retrying {
		var login, task string
		login, task, err = user.Connect(y.t.Context(), demo.Choice{Account: email})
		if err == nil && login == "gcp_setup_pending" {
			return task
		}
		err = errors.Join(err, fmt.Errorf("the login ended with %q", login))
		time.Sleep(time.Second)
	}
	y.t.Errorf("%s cannot connect: %v", id, err)
	return ""
}

// await looks at a setup until it is complete.
func (y *system) await(id, task string) *demo.Status {
	user, err := demo.NewUser(id, y.URL, y.client)
	if err != nil {
		y.t.Error(err)
		return nil
	}
	for range 360 {
		s, err := user.Status(y.t.Context(), task)
		if err == nil && s.Complete {
			return s
		}
		time.Sleep(y.size.look)
	}
	y.t.Errorf("the setup of %s is stuck: %v", id, err)
	return nil
}

// inflight bounds the polls that wait for an answer. What would be more is not
// sent, and counted.
const (
	inflight = 4000
	notSent  = "not sent"
)

// polls asks for the status of setups at a rate, whatever the answers are.
func (y *system) polls(of []setup) {
	t, n := y.t, y.size.polls
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if *profile != "" {
		go func() {
			if err := os.WriteFile(*profile, y.get("/debug/pprof/profile?seconds=30"), 0o600); err != nil {
				t.Error(err)
			}
		}()
	}
	var mu sync.Mutex
	latencies, answers := make([]time.Duration, 0, n), map[string]int{}
	target := y.at.Load().Functions // not through the gateway, which is no part of the system
	slots := make(chan struct{}, inflight)
	var group sync.WaitGroup
	ours, theirs := spent(), y.memory().CPU
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(y.size.rate))
		time.Sleep(time.Until(due))
		select {
		case slots <- struct{}{}:
		default:
			mu.Lock()
			answers[notSent]++
			mu.Unlock()
			continue
		}
		s := of[rand.IntN(len(of))]
		group.Go(func() {
			status := y.poll(ctx, target, s)
			took := time.Since(due)
			mu.Lock()
			latencies = append(latencies, took)
			answers[status]++
			mu.Unlock()
			<-slots
		})
	}
	sent := time.Since(began)
	group.Wait()
	took := time.Since(began)
	ours, theirs = spent()-ours, y.memory().CPU-theirs
	t.Logf("processor time per poll, with all else that went on: %v in the functions, %v in the load and the emulated Google",
		(theirs / time.Duration(n)).Round(time.Microsecond), (ours / time.Duration(n)).Round(time.Microsecond))
	t.Logf("%d polls sent in %v, %.0f a second, answered at %.0f a second: %s, %v", n, sent.Round(time.Millisecond),
		float64(n)/sent.Seconds(), float64(len(latencies))/took.Seconds(), percentiles(latencies), answers)
	for status := range answers {
		if status != "200" && status != "503, come back" && (status != notSent || !*full) {
			t.Errorf("polls were answered %v", answers)
			break
		}
	}
}

func (y *system) poll(ctx context.Context, target string, s setup) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target+"/gcp/setup/status/"+s.task, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("X-User-ID", s.user)
	response, err := y.transport.RoundTrip(r)
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	buffer := make([]byte, 4<<10)
	for err == nil {
		_, err = response.Body.Read(buffer)
	}
	if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "" {
		return "503, come back"
	}
	return fmt.Sprint(response.StatusCode)
}

// large sets up many projects at once, and ends the functions' process in the
// middle of that.
func (y *system) large() {
	t := y.t
	const id = "warm"
	var selected []string
	for i := range y.size.projects {
		selected = append(selected, fmt.Sprintf("many-%04d", i))
	}
	user, err := demo.NewUser(id, y.URL, y.client)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	answer, err := user.Call(t.Context(), http.MethodPost, "/gcp/post-auth-retry", map[string]any{"selected_project_ids": selected})
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		TaskID string `json:"task_id"`
	}
	if err := answer.Decode(&made); err != nil || answer.Status != http.StatusOK {
		t.Fatalf("the selection of %d projects answered %d %s", len(selected), answer.Status, answer.Body)
	}
	for step := 0; step < 4; time.Sleep(y.size.look / 10) { // until access is being granted
		if s, err := user.Status(t.Context(), made.TaskID); err == nil {
			if step = s.Step; s.Complete {
				t.Fatalf("the setup ended with %+v", s.Result)
			}
		}
	}
	grants := func() int { return y.Google.CallCounts().ByMethod["cloudresourcemanager.projects.setIamPolicy"] }
	for before := grants(); grants() < before+y.size.projects/4; time.Sleep(10 * time.Millisecond) {
		if s, err := user.Status(t.Context(), made.TaskID); err == nil && s.Step != 4 {
			t.Fatalf("the setup is at %+v", s)
		}
	}
	stopped := time.Now()
	y.replace(y.size.stop)
	t.Logf("after %v the functions' process was ended by %v and started again within %v", stopped.Sub(began).Round(time.Millisecond), y.size.stop, time.Since(stopped).Round(time.Millisecond))
	final := y.await(id, made.TaskID)
	if final == nil {
		return
	}
	var steps []string
	for _, s := range final.Steps {
		if s.Started != nil && s.Finished != nil {
			steps = append(steps, fmt.Sprintf("%s %v in %d", s.Name, s.Finished.Sub(*s.Started).Round(100*time.Millisecond), s.Attempts))
		}
	}
	t.Logf("a setup of %d projects took %v: %s", len(selected), time.Since(began).Round(time.Millisecond), strings.Join(steps, ", "))
	if final.Result == nil || final.Result.Propagation != "FULL" || final.Result.Verified != len(selected) {
		t.Errorf("the large setup ended with %+v, %+v", final.State, final.Result)
	}
	if err := y.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	y.truth(selected)
	m := y.memory()
	t.Logf("the new process holds: heap %.1f MB, goroutines %d, resident %.0f MB", mb(m.Heap), m.Goroutines, mb(m.Resident))
}

// truth looks at Google for what the large setup says of itself.
func (y *system) truth(selected []string) {
	accounts := 0
	for _, p := range y.Google.Snapshot().Projects {
		if !slices.Contains(selected, p.ID) {
			continue
		}
		accounts += len(p.ServiceAccounts)
		aurora := 0
		for _, b := range p.Bindings {
			members := slices.Sorted(slices.Values(b.Members))
			if len(slices.Compact(members)) != len(b.Members) {
				y.t.Errorf("a member stands twice in %s of %s", b.Role, p.ID)
			}
			if slices.ContainsFunc(b.Members, func(m string) bool { return strings.HasPrefix(m, "serviceAccount:aurora-") }) {
				aurora++
			}
		}
		if aurora == 0 || len(p.EnabledAPIs) < 25 {
			y.t.Errorf("%s has %d roles of Aurora's and %d APIs", p.ID, aurora, len(p.EnabledAPIs))
		}
	}
	if accounts != 2 {
		y.t.Errorf("there are %d service accounts, want 2", accounts)
	}
}

func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(part float64) time.Duration {
		return all[min(len(all)-1, int(part*float64(len(all))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v", at(0.5), at(0.9), at(0.99), at(1))
}
