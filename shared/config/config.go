// Package config turns the environment into a Config: every variable that the
// program reads, with its default, in one struct. All faults are reported at
// once, each naming its variable, and what is logged of a Config holds no
// secret.
package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sethvargo/go-envconfig"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// Config is the program's configuration. The comments of its fields are the
// README's table.
type Config struct {
	// Google's OAuth client.
	ClientID     string         `env:"CLIENT_ID"`     // required
	ClientSecret connect.Secret `env:"CLIENT_SECRET"` // required but by functions that use no tokens

	// The key that login and callback share: PKCE verifiers and nonces are derived from it.
	LoginKey connect.Secret `env:"LOGIN_KEY"` // required by login and callback: base64 of at least 32 random bytes

	BackendURL string `env:"NEXT_PUBLIC_BACKEND_URL"` // required: where browsers reach the functions; the redirect URI is this + /callback
	FrontURL   string `env:"FRONTURL"`                // required: where the browser goes after the callback

	Origins []string `env:"CORS_ORIGINS"` // origins of pages that may call the functions; default: FRONTURL's

	Auth            string   `env:"AUTH,default=local"`       // who is believed: local (headers; loopback only), backend, oidc
	BackendAccounts []string `env:"BACKEND_SERVICE_ACCOUNTS"` // required with AUTH=backend: emails of the accounts that may name users
	AuthAudience    []string `env:"AUTH_AUDIENCE"`            // audience of callers' tokens; default with AUTH=backend: NEXT_PUBLIC_BACKEND_URL
	AuthIssuer      string   `env:"AUTH_ISSUER"`              // required with AUTH=oidc: the issuer of users' tokens
	LoginBinding    string   `env:"LOGIN_BINDING"`            // how a login is bound to its user: cookie or confirm; default: cookie, with AUTH=backend confirm
	// Who may have tokens of users' service accounts, from /internal/token.
	InternalAccounts []string `env:"INTERNAL_SERVICE_ACCOUNTS"` // emails of service accounts; empty: nobody
	InternalAudience []string `env:"INTERNAL_AUDIENCE"`         // audience of their ID tokens; default: NEXT_PUBLIC_BACKEND_URL

	InvokerCheck bool `env:"INVOKER_IAM_CHECK"` // whether Cloud Run checks callers' Google-signed tokens, and takes their signatures away; never set where it does not

	Host string `env:"HOST"` // address to listen on; default: 127.0.0.1 with AUTH=local
	Port string `env:"PORT,default=8080"`

	FunctionTarget string `env:"FUNCTION_TARGET"` // the one function to serve; empty: all, each under its path
	Service        string `env:"K_SERVICE"`       // set by Cloud Run

	Backends string `env:"BACKENDS,default=memory"` // where state, tokens and tasks are: memory (of this process) or real

	// State, with BACKENDS=real.
	Project           string `env:"GOOGLE_CLOUD_PROJECT"`                 // required: the project of the Firestore database
	FirestoreDatabase string `env:"FIRESTORE_DATABASE,default=(default)"` // its database
	FirestoreEmulator string `env:"FIRESTORE_EMULATOR_HOST"`              // host:port of an emulator; empty: Google

	// Tasks.
	TaskTarget         string `env:"TASK_TARGET"`                   // URL of a step function with {function} for its name; default: this process
	TaskMaxAttempts    int    `env:"TASK_MAX_ATTEMPTS, default=20"` // how often the queue delivers a task
	TaskQueue          string `env:"CLOUD_TASKS_QUEUE"`             // required with BACKENDS=real: projects/P/locations/L/queues/Q
	DiscoveryQueue     string `env:"CLOUD_TASKS_DISCOVERY_QUEUE"`   // that of discoveries; default: CLOUD_TASKS_QUEUE
	TaskServiceAccount string `env:"TASK_SERVICE_ACCOUNT"`          // email of the account in whose name tasks are delivered; required but with an emulator
	SchedulerAccount   string `env:"SCHEDULER_SERVICE_ACCOUNT"`     // email of the account in whose name sweep is called; default: TASK_SERVICE_ACCOUNT
	TaskAudience       string `env:"TASK_AUDIENCE"`                 // audience of its ID tokens; default: the function's URL
	TasksEmulator      string `env:"CLOUD_TASKS_EMULATOR_HOST"`     // host:port of an emulator; empty: Google

	// Tokens, with BACKENDS=real: a token, an AppRole or a role of the GCP method.
	VaultAddress        string         `env:"VAULT_ADDR"`                     // required: URL
	VaultNamespace      string         `env:"VAULT_NAMESPACE"`                // empty: the root namespace
	VaultMount          string         `env:"VAULT_MOUNT,default=gcpconnect"` // of the key-value store, version 2
	VaultAuthMount      string         `env:"VAULT_AUTH_MOUNT"`               // of the way to log in; default: approle or gcp
	VaultToken          connect.Secret `env:"VAULT_TOKEN"`
	VaultRoleID         string         `env:"VAULT_ROLE_ID"`
	VaultSecretID       connect.Secret `env:"VAULT_SECRET_ID"`
	VaultRole           string         `env:"VAULT_ROLE"`
	VaultServiceAccount string         `env:"VAULT_SERVICE_ACCOUNT"` // email of the account that this runs as

	GoogleEndpoint string `env:"GOOGLE_ENDPOINT"` // base URL of an emulated Google; empty: Google

	PlatformQuota float64 `env:"PLATFORM_QUOTA, default=1"` // how many times Google's default quotas an instance may use of Aurora's own project

	AgentRoles         []string      `env:"AGENT_ROLES"`                        // roles of the agent account; default: see roles.go
	AskRoles           []string      `env:"ASK_ROLES"`                          // roles of the ask account; default: see roles.go
	PlatformAccount    string        `env:"PLATFORM_SERVICE_ACCOUNT"`           // email of Aurora's own service account, allowed to impersonate the two
	UpdateOrgPolicies  bool          `env:"UPDATE_ORG_POLICIES, default=true"`  // whether organization policies may be changed
	IncludeSysProjects bool          `env:"INCLUDE_SYS_PROJECTS"`               // whether projects sys-* of Apps Script count
	MaxAutoProjects    int           `env:"MAX_AUTO_PROJECTS, default=5"`       // eligible projects taken without asking
	MaxSelected        int           `env:"MAX_SELECTED_PROJECTS, default=100"` // projects that may be selected
	VerifyInterval     time.Duration `env:"VERIFY_INTERVAL, default=30s"`       // between two checks of permissions
	VerifyAttempts     int           `env:"VERIFY_ATTEMPTS, default=20"`        // checks of permissions

	CallTimeout time.Duration `env:"CALL_TIMEOUT, default=10s"` // how long a call to the database, the vault or the queue may take

	GiveUpAfter time.Duration `env:"SETUP_GIVE_UP_AFTER, default=1h"` // how long a setup that does not move is revived before it fails

	// Timing of one execution of a step. Shorter than the defaults is for tests.
	StepBudget     time.Duration `env:"STEP_BUDGET, default=60s"`     // how long a step starts new work
	StepDeadline   time.Duration `env:"STEP_DEADLINE, default=80s"`   // when what it started is cut off; at most 80s
	StepLease      time.Duration `env:"STEP_LEASE, default=90s"`      // how long an execution owns its setup; at most 90s
	OperationGrace time.Duration `env:"OPERATION_GRACE, default=20s"` // how long an operation that enables APIs is given before its state is read

	LogLevel slog.Level `env:"LOG_LEVEL, default=INFO"`
	// Traces and metrics, by the variables that OpenTelemetry has for them.
	TelemetryEndpoint string  `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`        // base URL of a collector, or of Google's Telemetry API; empty: nowhere
	TraceRatio        float64 `env:"OTEL_TRACES_SAMPLER_ARG, default=1"` // the share of traces that are kept, 0 to 1

	// Needs are those of FUNCTION_TARGET; without one, all.
	Needs Needs

	// LoginKeyVersion is the version of the secret that LOGIN_KEY refers to; empty if
	// it is no secret's.
	LoginKeyVersion string
	// OtherLoginKey reads another version of that secret; nil if there is none.
	OtherLoginKey func(ctx context.Context, version string) (connect.Secret, error)

	secret map[string]bool // the variables whose values are a secret's
}

// Environment is where a Config comes from.
type Environment struct {
	// Lookup is os.LookupEnv, or a map's in tests.
	Lookup func(variable string) (string, bool)
	// Secret returns the payload of a version of a secret, and the version's number,
	// which "latest" does not tell; nil: values may not refer to any.
	Secret func(ctx context.Context, version string) (payload connect.Secret, number string, err error)
	// Functions are those that FUNCTION_TARGET may name, with what they need.
	Functions map[string]Needs
}

// Needs are what a function works with: what else there is, is neither asked
// for nor opened.
type Needs struct {
	LoginKey bool // the key that logins are begun and completed with
	Tokens   bool // Vault, and the OAuth client's secret
	Queue    bool // Cloud Tasks
	Platform bool // Aurora's own account at Google
}

// Read reads and validates a Config. A value sm://projects/P/secrets/S or
// sm://projects/P/secrets/S/versions/V stands for that secret's payload.
func Read(ctx context.Context, e Environment) (*Config, error) {
	var c Config
	faults := c.read(ctx, e)
	c.Needs = Needs{LoginKey: true, Tokens: true, Queue: true, Platform: true}
	if c.FunctionTarget != "" {
		needs, ok := e.Functions[c.FunctionTarget]
		if !ok {
			faults = append(faults, fmt.Errorf("FUNCTION_TARGET is %q, which is no function; there are %s", c.show("FUNCTION_TARGET", c.FunctionTarget), strings.Join(slices.Sorted(maps.Keys(e.Functions)), ", ")))
		}
		c.Needs = needs
	}
	if c.LoginBinding == "" {
		c.LoginBinding = BindingCookie
		if c.Auth == AuthBackend {
			c.LoginBinding = BindingConfirm
		}
	}
	if err := errors.Join(append(faults, c.validate()...)...); err != nil {
		return nil, fmt.Errorf("bad configuration:\n%w", err)
	}
	return &c, nil
}

// read reads all variables at once, and if that fails each by itself, so that
// one which cannot be read does not hide the others. Its default takes its place
// in what is checked next.
func (c *Config) read(ctx context.Context, e Environment) []error {
	value := reflect.ValueOf(c).Elem()
	var variables []string
	fields := map[string]int{}
	for i := range value.NumField() {
		if variable, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("env"), ","); variable != "" {
			variables = append(variables, variable)
			fields[variable] = i
		}
	}
	secrets, faults := readSecrets(ctx, e, variables)
	c.secret = map[string]bool{}
	for variable := range secrets {
		c.secret[variable] = true
	}
	if key, ok := secrets["LOGIN_KEY"]; ok {
		c.LoginKeyVersion = key.number
		c.OtherLoginKey = func(ctx context.Context, number string) (connect.Secret, error) {
			payload, _, err := e.Secret(ctx, key.secret+"/versions/"+number)
			return payload, err
		}
	}
	lookup := lookuper(func(variable string) (string, bool) {
		if secret, ok := secrets[variable]; ok {
			// Editors and openssl end what they write with a newline.
			return strings.TrimSpace(secret.payload.Reveal()), true
		}
		return e.Lookup(variable)
	})
	if err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: c, Lookuper: lookup}); err == nil {
		return faults
	}
	unset := lookuper(func(string) (string, bool) { return "", false })
	for _, variable := range variables {
		field := value.Type().Field(fields[variable])
		one := reflect.New(reflect.StructOf([]reflect.StructField{field}))
		if err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: one.Interface(), Lookuper: lookup}); err != nil {
			given, _ := lookup(variable)
			faults = append(faults, fmt.Errorf("%s is %q, which is not a %s", variable, c.show(variable, given), field.Type))
			if err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: one.Interface(), Lookuper: unset}); err != nil {
				faults = append(faults, err)
			}
		}
		value.Field(fields[variable]).Set(one.Elem().Field(0))
	}
	return faults
}

// secretName is what may follow sm://
// (https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions).
var secretName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^projects/[a-z0-9.:-]+/secrets/[A-Za-z0-9_-]+(/versions/[A-Za-z0-9_-]+)?$`)
})

// secretVersion is a version of a secret that a value refers to.
type secretVersion struct {
	secret  string // its full name
	number  string
	payload connect.Secret
}

// readSecrets reads, all at once, the secrets that values refer to. One that
// could not be read is a fault, and has an empty payload.
func readSecrets(ctx context.Context, e Environment, variables []string) (map[string]secretVersion, []error) {
	secrets, versions := map[string]secretVersion{}, map[string]string{}
	var faults []error
	for _, variable := range variables {
		value, _ := e.Lookup(variable)
		name, refers := strings.CutPrefix(value, "sm://")
		if !refers {
			continue
		}
		secret, version, named := strings.Cut(name, "/versions/")
		secrets[variable] = secretVersion{secret: secret}
		switch {
		case !secretName().MatchString(name):
			faults = append(faults, fmt.Errorf("%s is %q; a secret is named sm://projects/P/secrets/S or sm://projects/P/secrets/S/versions/V", variable, value))
		case e.Secret == nil:
			faults = append(faults, fmt.Errorf("%s refers to a secret, and no secrets can be read here", variable))
		case named:
			versions[variable] = secret + "/versions/" + version
		default:
			versions[variable] = secret + "/versions/latest"
		}
	}
	var mu sync.Mutex // guards secrets and faults
	var group sync.WaitGroup
	for variable, version := range versions {
		group.Go(func() {
			payload, number, err := e.Secret(ctx, version)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", variable, err))
				return
			}
			secrets[variable] = secretVersion{secrets[variable].secret, number, payload}
		})
	}
	group.Wait()
	return secrets, faults
}

// show returns what may be seen of a variable's value.
func (c *Config) show(variable, value string) string {
	if c.secret[variable] {
		return "[redacted]"
	}
	return value
}

// lookuper lets envconfig read the environment through a function. Variables
// that are set to nothing count as not set.
type lookuper func(string) (string, bool)

func (l lookuper) Lookup(key string) (string, bool) {
	value, ok := l(key)
	return value, ok && value != ""
}

// validate reports everything that is wrong with c.
func (c *Config) validate() []error {
	var faults []error
	fault := func(variable, format string, args ...any) {
		faults = append(faults, fmt.Errorf(variable+" "+format, args...))
	}
	if c.ClientID == "" {
		fault("CLIENT_ID", "is missing: it is the ID of the OAuth client in the Google Cloud console")
	}
	if c.ClientSecret == "" && c.Needs.Tokens {
		fault("CLIENT_SECRET", "is missing: it is the secret of the OAuth client")
	}
	if _, err := connect.Key(c.LoginKey); err != nil && c.Needs.LoginKey {
		fault("LOGIN_KEY", "%w: it is the key that login and callback share, base64 of at least 32 random bytes: openssl rand -base64 32", err)
	}
	c.checkURL(fault, "NEXT_PUBLIC_BACKEND_URL", c.BackendURL)
	c.checkURL(fault, "FRONTURL", c.FrontURL)
	if c.GoogleEndpoint != "" {
		c.checkURL(fault, "GOOGLE_ENDPOINT", c.GoogleEndpoint)
	}
	if c.TaskTarget != "" {
		c.checkURL(fault, "TASK_TARGET", strings.ReplaceAll(c.TaskTarget, "{function}", "f"))
		if !strings.Contains(c.TaskTarget, "{function}") {
			fault("TASK_TARGET", "must contain {function}, in whose place the function's name goes")
		}
	}
	for variable, list := range map[string][]string{
		"CORS_ORIGINS": c.Origins, "AUTH_AUDIENCE": c.AuthAudience, "INTERNAL_AUDIENCE": c.InternalAudience,
		"BACKEND_SERVICE_ACCOUNTS": c.BackendAccounts, "INTERNAL_SERVICE_ACCOUNTS": c.InternalAccounts,
	} {
		if slices.ContainsFunc(list, func(entry string) bool { return strings.TrimSpace(entry) == "" }) {
			fault(variable, "has an empty entry: its entries are separated by single commas")
		}
	}
	for _, origin := range c.Origins {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Scheme != "https" && !loopback(u.Hostname()) || u.Scheme+"://"+u.Host != origin {
			fault("CORS_ORIGINS", "has %q, which is no origin such as https://aurora.example.com", c.show("CORS_ORIGINS", origin))
		}
	}
	if c.TelemetryEndpoint != "" {
		c.checkURL(fault, "OTEL_EXPORTER_OTLP_ENDPOINT", c.TelemetryEndpoint)
	}
	if c.GoogleTelemetry() && c.Project == "" {
		fault("GOOGLE_CLOUD_PROJECT", "is missing: it is the project whose telemetry it is")
	}
	if !(c.TraceRatio >= 0 && c.TraceRatio <= 1) {
		fault("OTEL_TRACES_SAMPLER_ARG", "must be 0 to 1, is %v", c.TraceRatio)
	}
	c.validateAuth(fault)
	c.validateBackends(fault)
	if !(c.PlatformQuota >= 0.01 && c.PlatformQuota <= 1000) { // nor is it NaN
		fault("PLATFORM_QUOTA", "must be 0.01 to 1000, is %v", c.PlatformQuota)
	}
	if c.TaskMaxAttempts < 8 || c.TaskMaxAttempts > 100 {
		fault("TASK_MAX_ATTEMPTS", "must be 8 to 100, is %d: fewer end before the lease of a crashed step does", c.TaskMaxAttempts)
	}
	if _, err := c.Settings(); err != nil {
		faults = append(faults, err)
	}
	if port, err := strconv.ParseUint(c.Port, 10, 16); err != nil || strconv.FormatUint(port, 10) != c.Port {
		fault("PORT", "is %q, which is no port", c.show("PORT", c.Port))
	}
	return faults
}

// checkURL refuses what is not an absolute http(s) URL. On plain http only
// loopback is accepted.
func (c *Config) checkURL(fault func(string, string, ...any), variable, value string) {
	u, err := url.Parse(value)
	switch {
	case value == "":
		fault(variable, "is missing")
	case err == nil && u.User != nil:
		fault(variable, "must have no credentials")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		fault(variable, "is %q, which is not an absolute http or https URL", c.show(variable, value))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		fault(variable, "is %q: plain http is accepted for loopback only", c.show(variable, value))
	case u.Fragment != "":
		fault(variable, "must have no fragment")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Settings are the choices about setups, with defaults filled in. The error
// joins all that is wrong with them.
func (c *Config) Settings() (setup.Settings, error) {
	s := setup.Settings{
		AgentRoles: setup.DefaultAgentRoles(), AskRoles: setup.DefaultAskRoles(),
		PlatformAccount: c.PlatformAccount,
		OrgPolicy:       c.UpdateOrgPolicies, IncludeSysProjects: c.IncludeSysProjects,
		AutoProjects: c.MaxAutoProjects, MaxSelected: c.MaxSelected,
		CheckInterval: c.VerifyInterval, MaxChecks: c.VerifyAttempts, GiveUpAfter: c.GiveUpAfter,
		Timing: setup.Timing{Budget: c.StepBudget, Deadline: c.StepDeadline, Lease: c.StepLease, OperationGrace: c.OperationGrace},
	}
	faults := []error{s.Validate()}
	roles := func(variable string, names []string, into *[]setup.Role) {
		if len(names) == 0 {
			return
		}
		parsed, err := setup.ParseRoles(names)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", variable, err))
			return
		}
		*into = parsed
	}
	roles("AGENT_ROLES", c.AgentRoles, &s.AgentRoles)
	roles("ASK_ROLES", c.AskRoles, &s.AskRoles)
	between := func(variable string, value int) {
		if value < 1 || value > connect.MaxProjects {
			faults = append(faults, fmt.Errorf("%s must be 1 to %d, is %d", variable, connect.MaxProjects, value))
		}
	}
	between("MAX_AUTO_PROJECTS", c.MaxAutoProjects)
	between("MAX_SELECTED_PROJECTS", c.MaxSelected)
	between("VERIFY_ATTEMPTS", c.VerifyAttempts)
	if c.VerifyInterval <= 0 || c.VerifyInterval > time.Hour {
		faults = append(faults, fmt.Errorf("VERIFY_INTERVAL must be more than 0 and at most 1h, is %v", c.VerifyInterval))
	}
	if c.CallTimeout < time.Second || c.CallTimeout > time.Minute {
		faults = append(faults, fmt.Errorf("CALL_TIMEOUT must be 1s to 1m, is %v", c.CallTimeout))
	}
	if c.GiveUpAfter < time.Minute || c.GiveUpAfter > 7*24*time.Hour {
		faults = append(faults, fmt.Errorf("SETUP_GIVE_UP_AFTER must be 1m to 168h, is %v", c.GiveUpAfter))
	}
	if c.PlatformAccount != "" && !strings.HasSuffix(c.PlatformAccount, ".gserviceaccount.com") {
		faults = append(faults, fmt.Errorf("PLATFORM_SERVICE_ACCOUNT is %q, which is not a service account's email", c.show("PLATFORM_SERVICE_ACCOUNT", c.PlatformAccount)))
	}
	return s, errors.Join(faults...)
}

// ListenHost is the address to listen on.
func (c *Config) ListenHost() string {
	if c.Host == "" && c.Auth == "local" {
		return "127.0.0.1"
	}
	return c.Host
}

// AllowedOrigins are those of pages that may call the functions.
func (c *Config) AllowedOrigins() []string {
	if len(c.Origins) > 0 {
		return c.Origins
	}
	front, err := url.Parse(c.FrontURL)
	if err != nil {
		return nil
	}
	return []string{front.Scheme + "://" + front.Host}
}

// RedirectURL is the redirect URI that the OAuth client must list.
func (c *Config) RedirectURL() string { return strings.TrimSuffix(c.BackendURL, "/") + "/callback" }

// TaskURL is where the queue delivers tasks for a function.
func (c *Config) TaskURL(function string) string {
	target := c.TaskTarget
	if target == "" {
		target = "http://" + net.JoinHostPort(c.ListenHost(), c.Port) + "/tasks/{function}"
	}
	return strings.ReplaceAll(target, "{function}", function)
}

// GoogleTelemetry reports whether traces and metrics go to Google itself, which
// asks for the sender's credentials
// (https://cloud.google.com/stackdriver/docs/reference/telemetry/overview).
func (c *Config) GoogleTelemetry() bool {
	u, err := url.Parse(c.TelemetryEndpoint)
	return err == nil && strings.HasPrefix(u.Hostname(), "telemetry.") && strings.HasSuffix(u.Hostname(), ".googleapis.com")
}

// Region is where the program runs, as far as is known: where its queue is.
func (c *Config) Region() string {
	_, after, _ := strings.Cut(c.TaskQueue, "/locations/")
	region, _, _ := strings.Cut(after, "/")
	return region
}

// Format shows what LogValue shows, under every verb of package fmt.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.LogValue().String()) }

// LogValue shows what helps an operator and no secret.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("client_id", c.show("CLIENT_ID", c.ClientID)),
		slog.String("backend_url", c.show("NEXT_PUBLIC_BACKEND_URL", c.BackendURL)), slog.String("front_url", c.show("FRONTURL", c.FrontURL)),
		slog.String("auth", c.show("AUTH", c.Auth)), slog.String("function_target", c.show("FUNCTION_TARGET", c.FunctionTarget)),
		slog.String("google_endpoint", c.show("GOOGLE_ENDPOINT", c.GoogleEndpoint)),
		slog.String("backends", c.show("BACKENDS", c.Backends)), slog.String("project", c.show("GOOGLE_CLOUD_PROJECT", c.Project)),
		slog.String("queue", c.show("CLOUD_TASKS_QUEUE", c.TaskQueue)), slog.String("vault", c.show("VAULT_ADDR", c.VaultAddress)),
		slog.Duration("verify_interval", c.VerifyInterval), slog.Int("verify_attempts", c.VerifyAttempts),
		slog.Bool("update_org_policies", c.UpdateOrgPolicies),
		slog.String("telemetry", c.show("OTEL_EXPORTER_OTLP_ENDPOINT", c.TelemetryEndpoint)),
	)
}
