// Package app puts the program together: configuration in, adapters made and
// joined, functions out. It is the only place that sees every adapter; the
// program and the local stack both start here.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"gcpconnect/functions"
	"gcpconnect/shared/calls"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/google"
	"gcpconnect/shared/identity"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// App is the program, ready to serve.
type App struct {
	// Handlers are the functions by name: the target, or all where there is none.
	Handlers map[string]http.Handler

	backends *Backends
	deps     functions.Deps
}

// New makes an App over backends, which it closes. Requests to Google go
// through transport; nil is the default one, and one of their own for the APIs.
// Close it.
func New(cfg *config.Config, backends *Backends, transport http.RoundTripper, log *slog.Logger) (*App, error) {
	settings, err := cfg.Settings()
	if err != nil {
		return nil, err
	}
	front, err := url.Parse(cfg.FrontURL)
	if err != nil {
		return nil, fmt.Errorf("parse FRONTURL: %w", err)
	}
	back, err := url.Parse(cfg.BackendURL)
	if err != nil {
		return nil, fmt.Errorf("parse NEXT_PUBLIC_BACKEND_URL: %w", err)
	}
	var endpoints google.Endpoints
	authorization := oauth.GoogleEndpoints()
	if cfg.GoogleEndpoint != "" {
		endpoints, authorization = google.EndpointsUnder(cfg.GoogleEndpoint), oauth.EndpointsUnder(cfg.GoogleEndpoint)
	}
	told := backends.Telemetry
	if told == nil {
		told = telemetry.None()
	}
	watch, err := calls.NewWatch(told.Traces, told.Meters)
	if err != nil {
		return nil, fmt.Errorf("watch calls to Google: %w", err)
	}
	measures, err := setup.NewMeasures(told.Meters)
	if err != nil {
		return nil, fmt.Errorf("measure setups: %w", err)
	}
	var cloud setup.Google // none where none is needed: eight clients take a part of a cold start
	if cfg.Needs.Tokens {
		cloud, err = google.New(google.Options{Endpoints: endpoints, Transport: transport, Logger: log, Watch: watch, PlatformQuota: cfg.PlatformQuota})
		if err != nil {
			return nil, fmt.Errorf("make Google clients: %w", err)
		}
	}
	if transport == nil {
		transport = http.DefaultTransport
	}
	transport = connect.Punctual{Next: transport}
	var logins *oauth.Logins
	if cfg.Needs.LoginKey {
		logins, err = oauth.NewLogins(oauth.LoginOptions{
			ClientID: cfg.ClientID, RedirectURL: cfg.RedirectURL(), AuthURL: authorization.Auth,
			Key: oauth.LoginKey{Version: cfg.LoginKeyVersion, Value: cfg.LoginKey}, Other: cfg.OtherLoginKey,
		})
		if err != nil {
			return nil, fmt.Errorf("prepare logins: %w", err)
		}
	}
	var authority *oauth.Client
	var credentials *setup.Credentials
	var platform setup.Cloud
	if cfg.PlatformAccount != "" && cfg.Needs.Platform {
		if backends.Platform == nil {
			backends.Platform = google.NewPlatform(transport)
		}
		platform = cloud.As(backends.Platform)
	}
	if cfg.Needs.Tokens {
		authority, err = oauth.New(oauth.Options{
			ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, RedirectURL: cfg.RedirectURL(),
			Endpoints: authorization, HTTPClient: &http.Client{Transport: transport}, Logger: log, Watch: watch,
		})
		if err != nil {
			return nil, fmt.Errorf("make OAuth client: %w", err)
		}
		credentials = setup.NewCredentials(backends.Vault, authority, platform, log)
	}
	parts := setup.Parts{
		Store: backends.Store, Queue: backends.Queue, Google: cloud, Tokens: credentials,
		Settings: settings, Log: log, Measures: measures,
	}
	deps := functions.Deps{
		Service: &setup.Service{Parts: parts}, Runner: &setup.Runner{Parts: parts}, Store: backends.Store,
		Logins: logins, OAuth: authority, Front: front, Origins: cfg.AllowedOrigins(),
		ConfirmLogins: cfg.LoginBinding == config.BindingConfirm, SecureCookies: back.Scheme == "https", MaxAttempts: cfg.TaskMaxAttempts, Log: log, Telemetry: told,
	}
	if err := admit(&deps, cfg, authorization.Certs, transport); err != nil {
		return nil, fmt.Errorf("authenticate callers: %w", err)
	}
	var target []string
	if cfg.FunctionTarget != "" {
		target = []string{cfg.FunctionTarget}
	}
	return &App{Handlers: functions.Handlers(deps, target...), backends: backends, deps: deps}, nil
}

// Functions are all functions with what they need, as the configuration asks.
func Functions() map[string]config.Needs {
	needs := map[string]config.Needs{}
	for _, f := range functions.Table() {
		needs[f.Name] = config.Needs(f.Needs)
	}
	return needs
}

// Close closes the backends: a queue in memory lets tasks that are being
// delivered end, as long as ctx allows.
func (a *App) Close(ctx context.Context) error { return a.backends.Close(ctx) }

// Handler serves the target function at /, or, without a target, every
// function under its paths. The target is one of functions.Table.
func (a *App) Handler(target string) http.Handler {
	if target == "" {
		return functions.Gateway(a.deps)
	}
	return a.Handlers[target]
}

// admit sets how the functions find out who calls. Google's keys are at certs.
func admit(deps *functions.Deps, cfg *config.Config, certs string, transport http.RoundTripper) error {
	if cfg.Auth == config.AuthLocal {
		deps.Users, deps.Internal = functions.Local{}, functions.InternalMark
		deps.Queue, deps.Scheduler = functions.QueueMark.Of, functions.SchedulerMark.Of
		return nil
	}
	google, err := identity.New(identity.Options{Issuer: oauth.GoogleEndpoints().Issuer, Keys: certs, Checked: cfg.InvokerCheck, Transport: transport})
	if err != nil {
		return err
	}
	accounts := func(audiences []string, emails ...string) (functions.Accounts, error) {
		tokens, err := google.For(audiences...)
		if err != nil {
			return functions.Accounts{}, err
		}
		return functions.NewAccounts(tokens, emails...)
	}
	platform := map[string]functions.Accounts{} // by the function that they may call
	for _, f := range functions.Table() {
		email := map[functions.Caller]string{functions.CallerQueue: cfg.TaskServiceAccount, functions.CallerScheduler: cfg.Scheduler()}[f.Caller]
		if email == "" || cfg.FunctionTarget != "" && cfg.FunctionTarget != f.Name {
			continue // not called by the platform, or not served here
		}
		if platform[f.Name], err = accounts([]string{cfg.TaskAudienceOf(f.Name)}, email); err != nil {
			return err
		}
	}
	deps.Queue = func(function string) functions.Services { return platform[function] }
	deps.Scheduler = deps.Queue
	if deps.Internal, err = accounts(cfg.InternalAudiences(), cfg.InternalAccounts...); err != nil {
		return err
	}
	if cfg.Auth == config.AuthBackend {
		backend, err := accounts(cfg.CallerAudiences(), cfg.BackendAccounts...)
		deps.Users = functions.Backend{Services: backend}
		return err
	}
	issuer, err := identity.New(identity.Options{Issuer: cfg.AuthIssuer, Transport: transport})
	if err != nil {
		return err
	}
	users, err := issuer.For(cfg.CallerAudiences()...)
	deps.Users = functions.Subjects{Tokens: users}
	return err
}
