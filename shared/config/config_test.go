package config_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// loginKey is a key as `openssl rand -base64 32` makes it.
const loginKey = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="

// good is a configuration without faults.
func good() map[string]string {
	return map[string]string{
		"CLIENT_ID": "id", "CLIENT_SECRET": "very-secret", "LOGIN_KEY": loginKey,
		"NEXT_PUBLIC_BACKEND_URL": "https://backend.example", "FRONTURL": "https://front.example/chat",
	}
}

// backends is what the real services need, but for these variables and values.
func backends(changes ...string) map[string]string {
	environment := map[string]string{
		"BACKENDS": "real", "GOOGLE_CLOUD_PROJECT": "aurora", "CLOUD_TASKS_QUEUE": "projects/aurora/locations/europe-west1/queues/setups",
		"TASK_TARGET": "https://functions.example/{function}", "TASK_SERVICE_ACCOUNT": "queue@aurora.iam.gserviceaccount.com",
		"VAULT_ADDR": "https://vault.example", "VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "very-secret",
	}
	for i := 0; i < len(changes); i += 2 {
		environment[changes[i]] = changes[i+1]
	}
	return environment
}

func TestCloudRun(t *testing.T) {
	t.Parallel()
	c, err := read(t, backends("K_SERVICE", "login", "AUTH", "backend", "BACKEND_SERVICE_ACCOUNTS", "api@aurora.iam.gserviceaccount.com"))
	if err != nil || c.ListenHost() != "" || !slices.Equal(c.CallerAudiences(), []string{"https://backend.example"}) ||
		c.TaskAudienceOf("a") != "https://functions.example/a" {
		t.Errorf("configuration = %v, %v", c, err)
	}
}

func TestRealBackends(t *testing.T) {
	t.Parallel()
	c, err := read(t, backends())
	if err != nil || !c.Real() || c.FirestoreDatabase != "(default)" || c.VaultMount != "gcpconnect" {
		t.Errorf("configuration = %v, %v", c, err)
	}
}

func read(t *testing.T, changes map[string]string) (*config.Config, error) {
	t.Helper()
	environment := good()
	maps.Copy(environment, changes)
	return config.Read(t.Context(), config.Environment{
		Lookup:    func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
		Functions: map[string]config.Needs{"login": {LoginKey: true}, "sweep": {Tokens: true, Queue: true}},
		Secret: func(_ context.Context, version string) (connect.Secret, string, error) {
			switch version {
			case "projects/p/secrets/front/versions/latest":
				return "https://front.example/very-secret", "1", nil
			case "projects/p/secrets/client/versions/7":
				return "very-secret\n", "7", nil
			case "projects/p/secrets/plain/versions/latest":
				return "http://front.example/very-secret", "1", nil
			case "projects/p/secrets/empty/versions/latest":
				return "\n", "1", nil
			case "projects/p/secrets/key/versions/latest", "projects/p/secrets/key/versions/3":
				return loginKey + "\n", "3", nil
			case "projects/p/secrets/key/versions/2":
				return "older", "2", nil
			}
			return "", "", connect.Errorf(connect.NotFound, "%s does not exist.", version)
		},
	})
}

func TestFaultsNameTheirVariable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		changes map[string]string
		want    string
	}{
		"no client ID":                   {map[string]string{"CLIENT_ID": ""}, "CLIENT_ID is missing"},
		"no client secret":               {map[string]string{"CLIENT_SECRET": ""}, "CLIENT_SECRET is missing"},
		"no login key":                   {map[string]string{"LOGIN_KEY": ""}, "LOGIN_KEY is missing"},
		"a short login key":              {map[string]string{"LOGIN_KEY": "dmVyeS1zZWNyZXQ="}, "LOGIN_KEY has 11 bytes, at least 32 are required"},
		"a login key that is no base64":  {map[string]string{"LOGIN_KEY": "very-secret-and-long-enough-but-not-base64"}, "LOGIN_KEY is not base64"},
		"a login key that is blank":      {map[string]string{"LOGIN_KEY": "sm://projects/p/secrets/empty"}, "LOGIN_KEY is missing"},
		"a client secret that is blank":  {map[string]string{"CLIENT_SECRET": "sm://projects/p/secrets/empty"}, "CLIENT_SECRET is missing"},
		"a cookie that no browser gets":  {backends("AUTH", "backend", "BACKEND_SERVICE_ACCOUNTS", "api@aurora.iam.gserviceaccount.com", "LOGIN_BINDING", "cookie"), "LOGIN_BINDING is cookie"},
		"an empty audience":              {backends("AUTH", "oidc", "AUTH_ISSUER", "https://issuer.example", "AUTH_AUDIENCE", "aurora,"), "AUTH_AUDIENCE has an empty entry"},
		"an empty internal audience":     {map[string]string{"INTERNAL_AUDIENCE": ", "}, "INTERNAL_AUDIENCE has an empty entry"},
		"an empty internal account":      {map[string]string{"INTERNAL_SERVICE_ACCOUNTS": ","}, "INTERNAL_SERVICE_ACCOUNTS has an empty entry"},
		"no front":                       {map[string]string{"FRONTURL": ""}, "FRONTURL is missing"},
		"a front that is no URL":         {map[string]string{"FRONTURL": "front.example"}, "FRONTURL"},
		"plain http to the outside":      {map[string]string{"NEXT_PUBLIC_BACKEND_URL": "http://backend.example"}, "NEXT_PUBLIC_BACKEND_URL"},
		"a task target for one function": {map[string]string{"TASK_TARGET": "https://x.example/f"}, "TASK_TARGET must contain {function}"},
		"headers believed off loopback":  {map[string]string{"HOST": "0.0.0.0"}, "HOST"},
		"headers believed on Cloud Run":  {map[string]string{"K_SERVICE": "login"}, "AUTH local"},
		"an unknown authentication":      {map[string]string{"AUTH": "none"}, "AUTH is"},
		"every origin":                   {map[string]string{"CORS_ORIGINS": "*"}, "CORS_ORIGINS has \"*\""},
		"an origin with a path":          {map[string]string{"CORS_ORIGINS": "https://front.example/"}, "CORS_ORIGINS has \"https://front.example/\""},
		"a backend of nobody":            {backends("AUTH", "backend"), "BACKEND_SERVICE_ACCOUNTS is missing"},
		"a backend that is a person":     {backends("AUTH", "backend", "BACKEND_SERVICE_ACCOUNTS", "me@example.com"), "BACKEND_SERVICE_ACCOUNTS has \"me@example.com\""},
		"users of no issuer":             {backends("AUTH", "oidc", "AUTH_AUDIENCE", "aurora"), "AUTH_ISSUER is missing"},
		"users' tokens for anybody":      {backends("AUTH", "oidc", "AUTH_ISSUER", "https://issuer.example"), "AUTH_AUDIENCE is missing"},
		"tasks that nobody signs":        {map[string]string{"AUTH": "oidc", "AUTH_ISSUER": "https://issuer.example", "AUTH_AUDIENCE": "aurora"}, "BACKENDS must be real with AUTH=oidc"},
		"owner for the agent":            {map[string]string{"AGENT_ROLES": "roles/owner"}, "AGENT_ROLES"},
		"an unknown role":                {map[string]string{"ASK_ROLES": "roles/x"}, "ASK_ROLES"},
		"no part of the quota":           {map[string]string{"PLATFORM_QUOTA": "0"}, "PLATFORM_QUOTA"},
		"no checks":                      {map[string]string{"VERIFY_ATTEMPTS": "0"}, "VERIFY_ATTEMPTS"},
		"no pause between checks":        {map[string]string{"VERIFY_INTERVAL": "0s"}, "VERIFY_INTERVAL"},
		"no duration":                    {map[string]string{"VERIFY_INTERVAL": "soon"}, "VERIFY_INTERVAL is \"soon\""},
		"no number":                      {map[string]string{"TASK_MAX_ATTEMPTS": "abc"}, "TASK_MAX_ATTEMPTS is \"abc\""},
		"a secret that does not exist":   {map[string]string{"CLIENT_SECRET": "sm://projects/p/secrets/none"}, "CLIENT_SECRET: not_found: projects/p/secrets/none/versions/latest does not exist"},
		"a secret's name that is none":   {map[string]string{"CLIENT_SECRET": "sm://none"}, "CLIENT_SECRET is \"sm://none\""},
		"a secret with a faulty value":   {map[string]string{"FRONTURL": "sm://projects/p/secrets/plain"}, "FRONTURL is \"[redacted]\""},
		"no port":                        {map[string]string{"PORT": "http"}, "PORT"},
		"a check that is not there":      {map[string]string{"INVOKER_IAM_CHECK": "true"}, "INVOKER_IAM_CHECK"},
		"a check before all functions":   {map[string]string{"INVOKER_IAM_CHECK": "true", "K_SERVICE": "all"}, "INVOKER_IAM_CHECK"},
		"an unknown function":            {map[string]string{"FUNCTION_TARGET": "nothing"}, "FUNCTION_TARGET is \"nothing\""},
		"too few attempts":               {map[string]string{"TASK_MAX_ATTEMPTS": "2"}, "TASK_MAX_ATTEMPTS"},
		"memory on Cloud Run":            {map[string]string{"K_SERVICE": "login"}, "BACKENDS memory"},
		"an unknown backend":             {map[string]string{"BACKENDS": "cloud"}, "BACKENDS is \"cloud\""},
		"real without a project":         {backends("GOOGLE_CLOUD_PROJECT", ""), "GOOGLE_CLOUD_PROJECT is missing"},
		"a queue without a place":        {backends("CLOUD_TASKS_DISCOVERY_QUEUE", "discoveries"), "CLOUD_TASKS_DISCOVERY_QUEUE is \"discoveries\""},
		"a queue with too long a name":   {backends("CLOUD_TASKS_QUEUE", "projects/aurora/locations/europe-west1/queues/"+strings.Repeat("q", 101)), "CLOUD_TASKS_QUEUE"},
		"real without a queue":           {backends("CLOUD_TASKS_QUEUE", "setups"), "CLOUD_TASKS_QUEUE is \"setups\""},
		"tasks in nobody's name":         {backends("TASK_SERVICE_ACCOUNT", ""), "TASK_SERVICE_ACCOUNT is missing"},
		"tasks to nowhere":               {backends("TASK_TARGET", ""), "TASK_TARGET is missing"},
		"an emulator that is no address": {backends("FIRESTORE_EMULATOR_HOST", "8080"), "FIRESTORE_EMULATOR_HOST is \"8080\""},
		"an emulator on Cloud Run":       {backends("CLOUD_TASKS_EMULATOR_HOST", "h:1", "K_SERVICE", "login"), "CLOUD_TASKS_EMULATOR_HOST is set"},
		"no vault":                       {backends("VAULT_ADDR", ""), "VAULT_ADDR is missing"},
		"a vault in the open":            {backends("VAULT_ADDR", "http://vault.example"), "VAULT_ADDR is"},
		"a password in a URL":            {backends("VAULT_ADDR", "http://me:very-secret@vault.example"), "VAULT_ADDR must have no credentials"},
		"no way into the vault":          {backends("VAULT_ROLE_ID", ""), "VAULT_TOKEN or VAULT_ROLE_ID or VAULT_ROLE"},
		"two ways into the vault":        {backends("VAULT_TOKEN", "very-secret"), "VAULT_TOKEN or VAULT_ROLE_ID or VAULT_ROLE"},
		"half an AppRole":                {backends("VAULT_SECRET_ID", ""), "VAULT_SECRET_ID is missing"},
		"a role of nobody":               {backends("VAULT_ROLE_ID", "", "VAULT_ROLE", "functions"), "VAULT_SERVICE_ACCOUNT is missing"},
		"telemetry in the open":          {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example"}, "OTEL_EXPORTER_OTLP_ENDPOINT is"},
		"Google's telemetry of nobody":   {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://telemetry.googleapis.com"}, "GOOGLE_CLOUD_PROJECT is missing"},
		"more traces than there are":     {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG must be 0 to 1"},
		"a platform account by name":     {map[string]string{"PLATFORM_SERVICE_ACCOUNT": "aurora"}, "PLATFORM_SERVICE_ACCOUNT"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, tt.changes)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "very-secret") {
				t.Errorf("error = %v, want one with %q and without the secret", err, tt.want)
			}
		})
	}
}

func TestValuesMayBeSecrets(t *testing.T) {
	t.Parallel()
	c, err := read(t, map[string]string{"CLIENT_SECRET": "sm://projects/p/secrets/client/versions/7", "FRONTURL": "sm://projects/p/secrets/front"})
	if err != nil {
		t.Fatal(err)
	}
	if c.ClientSecret.Reveal() != "very-secret" || c.FrontURL != "https://front.example/very-secret" {
		t.Errorf("client secret %q, front %q", c.ClientSecret.Reveal(), c.FrontURL)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "pointer", c, "value", *c)
	if printed := log.String() + fmt.Sprintf("%v %+v %#v %v", c, *c, c, []any{c}); strings.Contains(printed, "very-secret") {
		t.Errorf("the secret is in %s", printed)
	}
}

// The number of the login key's version goes into each login, and other versions can
// be read.
func TestRead_KeepsTheVersionOfTheLoginKey(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"sm://projects/p/secrets/key": "3", "sm://projects/p/secrets/key/versions/3": "3", loginKey: ""} {
		c, err := read(t, map[string]string{"LOGIN_KEY": value})
		if err != nil || c.LoginKey != loginKey || c.LoginKeyVersion != want || (c.OtherLoginKey == nil) != (want == "") {
			t.Errorf("%s: version %q, %v", value, c.LoginKeyVersion, err)
			continue
		}
		if want != "" {
			if older, err := c.OtherLoginKey(t.Context(), "2"); err != nil || older != "older" {
				t.Errorf("%s: version 2: %v", value, err)
			}
		}
	}
}

func TestRead_DefaultLoginBindingFitsAuth(t *testing.T) {
	t.Parallel()
	for auth, want := range map[string]string{"local": config.BindingCookie, "oidc": config.BindingCookie, "backend": config.BindingConfirm} {
		c, err := read(t, backends("AUTH", auth, "AUTH_ISSUER", "https://issuer.example", "AUTH_AUDIENCE", "aurora", "BACKEND_SERVICE_ACCOUNTS", "api@aurora.iam.gserviceaccount.com"))
		if err != nil || c.LoginBinding != want {
			t.Errorf("AUTH=%s: LOGIN_BINDING %q, %v; want %s", auth, c.LoginBinding, err, want)
		}
	}
}

func TestDefaultsWork(t *testing.T) {
	t.Parallel()
	c, err := read(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenHost() != "127.0.0.1" || c.RedirectURL() != "https://backend.example/callback" || c.TaskURL("login") != "http://127.0.0.1:8080/tasks/login" {
		t.Errorf("listens on %s, redirects to %s, tasks to %s", c.ListenHost(), c.RedirectURL(), c.TaskURL("login"))
	}
	s, err := c.Settings()
	if err != nil || len(s.AgentRoles) == 0 || len(s.AskRoles) == 0 || !s.OrgPolicy || s.MaxChecks != 20 || s.AutoProjects != 5 || s.MaxSelected != 100 {
		t.Errorf("settings = %+v, %v", s, err)
	}
}

func TestTelemetryGoesToGoogleInItsOwnName(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]bool{
		"https://telemetry.googleapis.com": true, "https://telemetry.googleapis.com.example": false, "https://collector.example": false, "": false,
	} {
		c, err := read(t, backends("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint))
		if err != nil || c.GoogleTelemetry() != want || c.Region() != "europe-west1" || c.TraceRatio != 1 {
			t.Errorf("%q is Google's: %v; region %q, ratio %v, %v", endpoint, c.GoogleTelemetry(), c.Region(), c.TraceRatio, err)
		}
	}
}

func TestRolesAreConfigured(t *testing.T) {
	t.Parallel()
	c, err := read(t, map[string]string{"AGENT_ROLES": "roles/run.admin,roles/dns.admin=dns.changes.create"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Settings()
	if err != nil || len(s.AgentRoles) != 2 || s.AgentRoles[1].Name != "roles/dns.admin" || s.AgentRoles[1].Proof != "dns.changes.create" {
		t.Errorf("agent roles = %+v, %v", s.AgentRoles, err)
	}
}

func TestNothingThatIsPrintedHoldsTheSecret(t *testing.T) {
	t.Parallel()
	c, err := read(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{
		"the configuration": *c, "with all secrets": config.Config{ClientSecret: "very-secret", LoginKey: "very-secret", VaultToken: "very-secret", VaultSecretID: "very-secret"},
	})
}

// The README's table and the code name the same variables.
func TestREADMEListsEveryVariable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	fields := reflect.TypeFor[config.Config]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("env"), ",")
		if name == "" {
			continue
		}
		known[name] = true
		if !strings.Contains(string(readme), "| `"+name+"`") {
			t.Errorf("README.md does not list %s", name)
		}
	}
	for _, line := range strings.Split(string(readme), "\n") {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			if name, _, _ = strings.Cut(name, "`"); name == strings.ToUpper(name) && !known[name] {
				t.Errorf("README.md lists %s, which nothing reads", name)
			}
		}
	}
}

func TestAFunctionIsAskedForWhatItNeedsOnly(t *testing.T) {
	t.Parallel()
	less := backends()
	maps.Copy(less, map[string]string{"FUNCTION_TARGET": "login", "CLIENT_SECRET": "", "CLOUD_TASKS_QUEUE": "", "TASK_SERVICE_ACCOUNT": "", "VAULT_ADDR": "", "VAULT_TOKEN": ""})
	if c, err := read(t, less); err != nil || c.Needs != (config.Needs{LoginKey: true}) {
		t.Errorf("a function that needs neither tokens nor queue: %v, %v", c, err)
	}
	maps.Copy(less, map[string]string{"FUNCTION_TARGET": "sweep", "LOGIN_KEY": ""})
	_, err := read(t, less)
	if err == nil || strings.Contains(err.Error(), "LOGIN_KEY") {
		t.Errorf("sweep is asked for the login key: %v", err)
	}
	for _, variable := range []string{"CLIENT_SECRET", "CLOUD_TASKS_QUEUE", "VAULT_ADDR"} {
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("a function that needs %s does without it: %v", variable, err)
		}
	}
}
