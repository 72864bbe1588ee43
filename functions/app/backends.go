package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"gcpconnect/functions"
	"gcpconnect/shared/cloudtasks"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/firestore"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
	"gcpconnect/shared/vault"
)

// Backends are where state, tokens and tasks are kept, and where telemetry goes.
type Backends struct {
	Store connect.Store
	Vault connect.Vault
	Queue connect.Queue
	// Platform is Aurora's own identity at Google; nil: what the program runs
	// as.
	Platform setup.TokenSource
	// Telemetry is what spans and measurements go to; nil: nothing.
	Telemetry *telemetry.Telemetry

	close []func(context.Context) error
}

// Close closes the backends, the first made last.
func (b *Backends) Close(ctx context.Context) error {
	var faults []error
	for i := len(b.close) - 1; i >= 0; i-- {
		faults = append(faults, b.close[i](ctx))
	}
	return errors.Join(faults...)
}

// DispatchDeadline is when the queue gives a delivery up and repeats it: after
// the function has given up by itself, after the server has cut its answer off,
// and after the lease of one that died.
const DispatchDeadline = functions.MaxTimeout + 15*time.Second

// Open opens the backends that the configuration names, without calling them.
// Close them.
func Open(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Backends, error) {
	told, err := openTelemetry(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	var backends *Backends
	if !cfg.Real() {
		backends = NewMemory(cfg, nil, log).Backends()
	} else if backends, err = OpenReal(ctx, cfg, Watch{}); err != nil {
		told.Close(ctx)
		return nil, err
	}
	backends.Telemetry = told
	closing := func(ctx context.Context) error { told.Close(ctx); return nil }
	backends.close = append([]func(context.Context) error{closing}, backends.close...) // it hears of the others' end
	return backends, nil
}

// Memory is backends in this process.
type Memory struct {
	Store *memory.Store
	Vault *memory.Vault
	Queue *memory.Queue
}

// NewMemory returns empty ones. Tasks are delivered through transport; nil is
// the default one.
func NewMemory(cfg *config.Config, transport http.RoundTripper, log *slog.Logger) *Memory {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &Memory{
		Store: memory.NewStore(), Vault: memory.NewVault(),
		Queue: memory.NewQueue(memory.Options{
			URL: cfg.TaskURL, Client: &http.Client{Transport: transport}, DispatchDeadline: DispatchDeadline,
			MinBackoff: time.Second, MaxBackoff: 30 * time.Second, MaxAttempts: cfg.TaskMaxAttempts, Logger: log,
		}),
	}
}

// Backends returns m as what the functions use.
func (m *Memory) Backends() *Backends {
	return &Backends{Store: m.Store, Vault: m.Vault, Queue: m.Queue, close: []func(context.Context) error{m.Queue.Close}}
}

// Watch lets measurements see the calls to the real services. The zero value
// sees none.
type Watch struct {
	Firestore []grpc.DialOption
	Vault     func(http.RoundTripper) http.RoundTripper // nil: nothing
}

// OpenReal returns backends in Firestore, Vault and Cloud Tasks: those that the
// configuration's function needs. They are made at once, because somebody waits
// for the instance that starts.
func OpenReal(ctx context.Context, cfg *config.Config, watch Watch) (*Backends, error) {
	b := new(Backends)
	closers := make([]func() error, 3)
	var group errgroup.Group
	group.Go(func() error {
		store, err := firestore.New(ctx, firestore.Options{
			Project: cfg.Project, Database: cfg.FirestoreDatabase, Emulator: cfg.FirestoreEmulator, DialOptions: watch.Firestore,
			Timeout: cfg.CallTimeout,
		})
		if err == nil {
			b.Store, closers[0] = store, store.Close
		}
		return err
	})
	if cfg.Needs.Tokens {
		group.Go(func() error {
			tokens, err := openVault(cfg, watch)
			if err == nil {
				b.Vault, closers[1] = tokens, tokens.Close
			}
			return err
		})
	}
	if cfg.Needs.Queue {
		group.Go(func() error {
			queue, err := cloudtasks.New(ctx, cloudtasks.Options{
				Queue: cfg.TaskQueue, Others: map[string]string{setup.DiscoverFunction: cfg.DiscoveryQueue},
				URL: cfg.TaskURL, ServiceAccount: cfg.TaskServiceAccount, Audience: cfg.TaskAudience,
				DispatchDeadline: DispatchDeadline, Emulator: cfg.TasksEmulator, Timeout: cfg.CallTimeout,
			})
			if err == nil {
				b.Queue, closers[2] = queue, queue.Close
			}
			return err
		})
	}
	err := group.Wait()
	for _, f := range closers {
		if f != nil {
			b.close = append(b.close, func(context.Context) error { return f() })
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func openVault(cfg *config.Config, watch Watch) (*vault.Vault, error) {
	return vault.New(vault.Options{
		Address: cfg.VaultAddress, Namespace: cfg.VaultNamespace, Mount: cfg.VaultMount, Wrap: watch.Vault, Timeout: cfg.CallTimeout,
		Auth: vault.Auth{
			Mount: cfg.VaultAuthMount, Token: cfg.VaultToken, RoleID: cfg.VaultRoleID, SecretID: cfg.VaultSecretID,
			Role: cfg.VaultRole, ServiceAccount: cfg.VaultServiceAccount,
		},
	})
}
