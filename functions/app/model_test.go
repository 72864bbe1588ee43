package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/firestore"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/vault"
)

// models returns how many models try schedules: some, or with -full all.
func models(some, all int) int {
	if stacktest.Full() {
		return all
	}
	return some
}

// TestMain sets how many schedules each model tries, unless -rapid.checks is
// given. Each schedule is hours of virtual time. The schedules are chosen by
// -rapid.seed or else by -seed.
func TestMain(m *testing.M) {
	flag.Parse()
	checks := models(2, 50)
	stacktest.SetFlags(map[string]string{
		"rapid.checks": fmt.Sprint(checks), "rapid.seed": fmt.Sprint(stacktest.Seed()),
		"test.parallel": "8", // most of the time over real services is waiting
	})
	partstest.StartEarly()
	var err error
	if contract, err = functionstest.Load(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// contract is what every exchange with the program is held to.
var contract functionstest.Contract

// injectedFault is one failure: at the nth call of a function to a dependency,
// counted from the beginning.
type injectedFault struct {
	Function, Part string
	Nth            int
	What           string // crashes before, crashes after, refused, lost, late
}

func (t injectedFault) String() string {
	return fmt.Sprintf("%s: call %d to %s %s", t.Function, t.Nth, t.Part, t.What)
}

// userAction is an action of the user, some time after the one before.
type userAction struct {
	After time.Duration
	What  string
}

func (d userAction) String() string { return fmt.Sprintf("%v later: %s", d.After, d.What) }

// schedule is a sequence of user actions with faults.
type schedule struct {
	Actions []userAction
	Faults  []injectedFault
	Tasks   string // how tasks are delivered
}

func (s schedule) String() string {
	lines := []string{"tasks " + s.Tasks}
	for _, d := range s.Actions {
		lines = append(lines, d.String())
	}
	for _, t := range s.Faults {
		lines = append(lines, t.String())
	}
	return strings.Join(lines, "\n")
}

var (
	userActions = []string{"connect", "connect", "disconnect", "disconnect with cleanup", "retry", "select", "move the root project", "take access", "give access", "discover", "confuse tasks"}
	kinds       = []string{"crashes before", "crashes after", "refused", "lost", "late"}
	parts       = []string{
		"store", "vault", "queue", "google's token", "google's cloudresourcemanager", "google's cloudbilling", "google's serviceusage", "google's iam",
		"google's iamcredentials", "google's orgpolicy", "google's cloudasset",
	}
)

func functionNames() []string {
	names := []string{"login", "callback", "gcp/post-auth-retry", "api/gcp/force-disconnect", "api/gcp/root-project", "api/gcp/sa-project-access", "sweep", setup.DiscoverFunction}
	for _, s := range slices.Concat(setup.Steps, setup.Removal) {
		names = append(names, s.Name)
	}
	return names
}

// schedules draws a schedule for a model. From one seed, each model draws others.
func schedules(model int) *rapid.Generator[schedule] {
	return rapid.Custom(func(t *rapid.T) schedule {
		_ = rapid.SliceOfN(rapid.Byte(), model, model).Draw(t, "model")
		return schedule{
			Actions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) userAction {
				// In the middle of a step, or between two, or when all is over.
				seconds := rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 7, 15, 60, 64, 68, 90, 150}).Draw(t, "seconds")
				return userAction{time.Duration(seconds) * time.Second, rapid.SampledFrom(userActions).Draw(t, "action")}
			}), 1, 8).Draw(t, "userActions"),
			Faults: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) injectedFault {
				return injectedFault{
					rapid.SampledFrom(functionNames()).Draw(t, "function"), rapid.SampledFrom(parts).Draw(t, "part"),
					rapid.IntRange(1, 12).Draw(t, "call"), rapid.SampledFrom(kinds).Draw(t, "fault"),
				}
			}), 0, 12).Draw(t, "faults"),
			Tasks: rapid.SampledFrom([]string{"once", "once", "twice at once", "again a minute later"}).Draw(t, "tasks"),
		}
	})
}

// model runs a schedule in a harness and checks invariants.
type model struct {
	*harness
	mu     sync.Mutex
	calm   bool
	counts map[string]int
	seen   map[string]bool // setups that have succeeded
	atWork map[*visit]bool // requests of steps that have called Google
	// every is the interval of the checks, and rest the idle time at the end. Over
	// real services each check takes real time.
	every, rest time.Duration
}

// inject injects the schedule's faults.
func (m *model) inject(s schedule) connecttest.Hook {
	return func(ctx context.Context, at connecttest.Moment) error {
		function, _, _ := strings.Cut(m.moment(ctx, at), ":")
		part := dependency(at)
		if strings.HasPrefix(part, "google's") && setup.StepNumber(slices.Concat(setup.Steps, setup.Removal), function) > 0 {
			m.alone(ctx, function)
		}
		if v, ok := ctx.Value(visitKey{}).(*visit); ok && part == "queue" {
			v.over.Store(true) // it has committed, and hands on
		}
		m.mu.Lock()
		key := fmt.Sprint(function, part, at.After)
		m.counts[key]++
		n, calm := m.counts[key], m.calm
		m.mu.Unlock()
		if calm {
			return nil
		}
		for _, t := range s.Faults {
			if t.Function != function || t.Part != part || t.Nth != n || (t.What == "crashes after" || t.What == "lost") != at.After {
				continue
			}
			switch t.What {
			case "crashes before", "crashes after":
				p, _ := ctx.Value(processKey{}).(*process)
				p.crash()
			case "refused", "lost":
				return errDown
			case "late":
				return slow(ctx, 100*time.Second)
			}
		}
		return nil
	}
}

// alone checks that no two executions of steps work for the user at once: the
// first to call Google after a claim does so until its request ends, or for as
// long as its lease lasts.
func (m *model) alone(ctx context.Context, function string) {
	mine, _ := ctx.Value(visitKey{}).(*visit)
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.atWork {
		switch {
		case other.over.Load() || time.Since(other.began) > 80*time.Second:
			delete(m.atWork, other)
		case other != mine:
			m.complain("%s and %s work at once", function, other.function)
			delete(m.atWork, other)
		}
	}
	m.atWork[mine] = true
}

// watched is a store that sees a setup succeed, at the moment when it does.
type watched struct {
	connect.Store
	m *model
}

func (w watched) UpdateSetup(ctx context.Context, id string, fn func(*connect.Connection, *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	c, s, err := w.Store.UpdateSetup(ctx, id, fn)
	if err == nil && s.State == connect.StateSucceeded && s.Kind == connect.KindSetup {
		w.m.succeeded(s)
	}
	return c, s, err
}

// succeeded checks a success against Google: what is said to be verified is so.
func (m *model) succeeded(s *connect.Setup) {
	m.mu.Lock()
	before := m.seen[s.ID]
	m.seen[s.ID] = true
	m.mu.Unlock()
	if before {
		return
	}
	agent := "serviceAccount:" + s.Accounts.Agent
	for _, p := range s.Projects {
		at, _ := m.google.Project(p.ID)
		for _, role := range setup.DefaultAgentRoles() {
			held := slices.ContainsFunc(at.Bindings, func(b google.Binding) bool {
				return b.Role == role.Name && b.Condition == nil && slices.Contains(b.Members, agent)
			})
			if p.Verified && !held {
				m.complain("%s is verified, and the agent does not have %s there", p.ID, role.Name)
			}
		}
		if p.APIs.OK() && len(at.EnabledAPIs) < 25 {
			m.complain("the APIs of %s are %s, and %d are enabled", p.ID, p.APIs, len(at.EnabledAPIs))
		}
	}
}

// look checks what must hold at every moment.
func (m *model) look(ctx context.Context, progress map[string]int) {
	running, err := m.store.StalledSetups(ctx, time.Now().Add(24*365*time.Hour), 100) // all that have not ended
	if err != nil {
		m.complain("the setups cannot be listed: %v", err)
	}
	if len(running) > 1 {
		m.complain("%d setups run at once", len(running))
	}
	for _, s := range running {
		if s.Progress < progress[s.ID] {
			m.complain("the progress of %s went from %d to %d", s.ID, progress[s.ID], s.Progress)
		}
		progress[s.ID] = s.Progress
	}
}

// do has the user do something, once: what is refused is refused.
func (m *model) do(ctx context.Context, what string) {
	post := func(path string, body any) { _, _ = m.user.Call(ctx, http.MethodPost, path, body) }
	access := func(enabled bool) {
		post("/api/gcp/sa-project-access", map[string]any{"projects": []map[string]any{{"projectId": "project-001", "enabled": true}, {"projectId": "project-002", "enabled": enabled}}})
	}
	switch what {
	case "connect":
		_, _, _ = m.user.Connect(ctx, choice)
	case "disconnect":
		post("/api/gcp/force-disconnect", nil)
	case "disconnect with cleanup":
		post("/api/gcp/force-disconnect", map[string]any{"cleanup": true})
	case "retry":
		post("/gcp/post-auth-retry", nil)
	case "select":
		post("/gcp/post-auth-retry", map[string]any{"selected_project_ids": []string{"project-002"}})
	case "move the root project":
		post("/api/gcp/root-project", map[string]any{"project_id": "project-002"})
	case "take access":
		access(false)
	case "give access":
		access(true)
	case "discover":
		post("/api/gcp/discover", nil)
	case "confuse tasks":
		m.harness.mu.Lock()
		before := slices.Clone(m.tasks)
		m.harness.mu.Unlock()
		for _, old := range slices.Backward(before) {
			_, _ = old.deliverIn(ctx)
		}
	}
}

// happen lets a schedule happen, and then calm, and returns what was wrong.
func happen(ctx context.Context, s schedule, store connect.Store, vault connect.Vault) (wrong []string, err error) {
	m := &model{counts: map[string]int{}, seen: map[string]bool{}, atWork: map[*visit]bool{}, every: 7 * time.Second, rest: 50 * time.Minute}
	if store != nil {
		m.every, m.rest = 41*time.Second, 22*time.Minute
	}
	scene := googleScenario(2)
	scene.Projects[2].Bindings = append(scene.Projects[2].Bindings, google.Binding{Role: "roles/viewer", Members: []string{"user:colleague@example.com"}})
	scene.Users = append(scene.Users, google.User{Email: "colleague@example.com", Sub: "100000000000000000002", Domain: "example.com"})
	if m.harness, err = newHarness(scene, nil, store, vault); err != nil {
		return nil, err
	}
	m.store = watched{m.store, m}
	m.between = m.inject(s)
	if m.process, err = m.start(); err != nil { // over the watched store
		return nil, err
	}
	m.deliver = m.delivering(s.Tasks)
	ctx, cancel := context.WithTimeout(ctx, 24*time.Hour)
	var watching sync.WaitGroup
	watching.Go(func() { m.schedule(ctx) })
	watching.Go(func() {
		progress := map[string]int{}
		for pause(ctx, m.every) == nil {
			m.look(ctx, progress)
		}
	})
	defer func() {
		cancel()
		watching.Wait()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		defer cancel()
		err = errors.Join(err, m.stop(stopping))
	}()
	for _, d := range s.Actions {
		if err := pause(ctx, d.After); err != nil {
			return nil, err
		}
		m.do(ctx, d.What)
	}
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	return m.wrong, m.settle(ctx)
}

// delivering says how tasks are delivered.
func (m *model) delivering(how string) func(*delivery) (*http.Response, error) {
	switch how {
	case "twice at once":
		return (*delivery).twice
	case "again a minute later":
		return func(d *delivery) (*http.Response, error) {
			response, err := d.deliver()
			if pause(d.request.Context(), time.Minute) == nil {
				_, _ = d.deliver()
			}
			return response, err
		}
	}
	return nil
}

// settle waits until everything has ended, and checks what is left; then the
// user leaves with everything undone, and nothing may be left.
func (m *model) settle(ctx context.Context) error {
	if err := m.quiet(ctx); err != nil {
		return err
	}
	m.compare(ctx)
	c, err := m.store.Connection(ctx, userID)
	if err != nil || !c.Connected || c.NeedsReauth {
		id, err := m.connect(ctx)
		if err != nil {
			return err
		}
		if _, err := m.ended(ctx, id); err != nil {
			return err
		}
		if err := m.quiet(ctx); err != nil {
			return err
		}
		m.compare(ctx)
	}
	status, err := m.leave(ctx)
	if err != nil {
		return err
	}
	if err := m.quiet(ctx); err != nil {
		return err
	}
	for _, line := range m.google.Changes() {
		if !strings.Contains(line, " api ") {
			m.complain("after the cleanup there is left: %s (%s)", line, status.Status)
		}
	}
	if held := m.vault.held(); len(held) > 0 {
		m.complain("after the cleanup the vault holds %v", held)
	}
	resources, _, err := m.store.Resources(ctx, userID, connect.ResourceQuery{})
	if err != nil || len(resources) > 0 {
		m.complain("after the cleanup there are %d resources, %v", len(resources), err)
	}
	return m.secrets(ctx)
}

// quiet waits until no task is left and all that was left behind is swept.
func (m *model) quiet(ctx context.Context) error {
	for range 2 { // the sweep of what the first one left
		if err := pause(ctx, m.rest/2); err != nil {
			return err
		}
		if err := m.queue.Idle(ctx); err != nil {
			return fmt.Errorf("tasks are left: %w", err)
		}
	}
	running, err := m.store.StalledSetups(ctx, time.Now().Add(24*365*time.Hour), 100)
	if err != nil || len(running) > 0 {
		m.complain("setups do not end: %+v, %v", running, err)
	}
	return nil
}

// compare holds the ledger against what has changed at Google.
func (m *model) compare(ctx context.Context) {
	changes, next, err := m.store.Changes(ctx, userID, connect.ChangeQuery{PageSize: connect.MaxPageSize})
	if err != nil || next != "" {
		m.complain("the ledger cannot be read: %v", err)
	}
	slices.Reverse(changes) // the oldest first
	stands, open := map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		key := c.ProjectID + " "
		switch c.Kind {
		case connect.ChangeEnableAPI:
			key += "api " + c.Target
		case connect.ChangeCreateAccount:
			key += "account " + c.Target
		case connect.ChangeAddBinding, connect.ChangeRemoveBinding:
			if strings.Contains(c.Target, "@") {
				key += "account " + c.Target + " "
			}
			key += "binding " + c.Role + " " + c.Member
		case connect.ChangeOrgPolicy:
			key += "policy " + c.Target
		case connect.ChangeEnableAccount:
			continue
		}
		switch c.State {
		case connect.ChangeDone:
			stands[key], open[key] = c.Kind != connect.ChangeRemoveBinding, false
		case connect.ChangeUndone:
			stands[key] = false
		case connect.ChangePlanned:
			open[key] = true
		case connect.ChangeRefused:
		}
	}
	changed := map[string]bool{}
	for _, line := range m.google.Changes() {
		what, found := strings.CutPrefix(line, "+ ")
		if strings.Contains(line, "consent ") {
			continue // the user's own
		}
		what, _, _ = strings.Cut(what, " {") // what an account or a policy is like
		changed[what] = true
		if !found || !stands[what] && !open[what] {
			m.complain("the ledger does not know of %q", line)
		}
	}
	for what, is := range stands {
		if is && !changed[what] && !open[what] {
			m.complain("the ledger has %q, which does not stand", what)
		}
	}
}

// secrets looks for tokens in what is stored outside the vault.
func (m *model) secrets(ctx context.Context) error {
	c, err := m.store.Connection(ctx, userID)
	if err != nil {
		return err
	}
	s, err := m.store.Setup(ctx, c.SetupID)
	if err != nil {
		return err
	}
	changes, _, err := m.store.Changes(ctx, userID, connect.ChangeQuery{PageSize: connect.MaxPageSize})
	if err != nil {
		return err
	}
	stored, err := json.Marshal([]any{c, s, changes})
	if err != nil {
		return err
	}
	text := string(stored)
	for _, task := range m.tasks {
		text += string(task.body)
	}
	for secret := range m.vault.secrets {
		if secret != "" && strings.Contains(text, secret) {
			m.complain("a token is outside the vault")
		}
	}
	return nil
}

// Whatever happens, in whatever order, what must hold holds: one setup at a time,
// progress that never goes back, success only where Google says so, a ledger
// that is what changed, and nothing left after a cleanup. A schedule that breaks
// one of them is made as short as it can be and shown with its seed.
func TestSchedules_KeepInvariants(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d chooses the schedules", stacktest.Seed())
	for i := range models(4, 8) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				s := schedules(i).Draw(rt, "schedule")
				var wrong []string
				var err error
				synctest.Test(t, func(t *testing.T) { wrong, err = happen(t.Context(), s, nil, nil) })
				if len(wrong) > 0 || err != nil {
					rt.Fatalf("%s\n\n%s\n%v", s, strings.Join(wrong, "\n"), err)
				}
			})
		})
	}
}

// So it does with state in Firestore and tokens in Vault.
func TestSchedules_KeepInvariantsOverRealServices(t *testing.T) {
	t.Parallel()
	emulator, server := partstest.Firestore(t), partstest.Vault(t)
	tokens, err := vault.New(vault.Options{
		Address: server.Address, Mount: "gcpconnect", Auth: vault.Auth{RoleID: server.RoleID, SecretID: server.SecretID},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tokens.Close() })
	for i := range models(1, 8) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				s := schedules(i).Draw(rt, "schedule")
				store, err := firestore.New(t.Context(), firestore.Options{Project: "test-" + strings.ToLower(connect.NewID()), Emulator: emulator.Address})
				if err != nil {
					rt.Fatal(err)
				}
				defer store.Close()
				out := newExternal()
				defer out.close()
				now := time.Now() // the database's clock is the wall's
				var wrong []string
				synctest.Test(t, func(t *testing.T) {
					time.Sleep(time.Until(now))
					wrong, err = happen(t.Context(), s, externalStore{store, out}, externalVault{tokens, out})
				})
				if len(wrong) > 0 || err != nil {
					rt.Fatalf("%s\n\n%s\n%v", s, strings.Join(wrong, "\n"), err)
				}
			})
		})
	}
}
