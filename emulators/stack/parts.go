package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/secretmanager"
	"gcpconnect/emulators/tasks"
	"gcpconnect/functions/app"
	adapter "gcpconnect/shared/cloudtasks"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	client "gcpconnect/shared/secretmanager"
	"gcpconnect/shared/setup"
)

// Parts are the services that the stack started beside itself; nil are those
// that ran already, and all without Options.Real.
type Parts struct {
	Logs      string // the folder of their logs
	Firestore *parts.Firestore
	Vault     *parts.Vault
	Tasks     *tasks.Server
	// TasksAddress is the host:port of Tasks.
	TasksAddress string

	queues  *cloudtasks.Client
	secrets *secretmanager.Server
}

// The project and queue of a stack where the environment names no others.
const (
	defaultProject = "aurora-local"
	defaultQueue   = "projects/aurora-local/locations/local/queues/setups"
	// defaultDiscoveryQueue goes with it.
	defaultDiscoveryQueue = "projects/aurora-local/locations/local/queues/discoveries"
)

// secretReader reads the secrets that variables refer to (config.Environment).
type secretReader = func(ctx context.Context, version string) (payload connect.Secret, number string, err error)

// startParts starts the real services, as far as variables do not name
// running ones, and adds to variables where they are. It returns the function
// that reads the secrets which variables refer to.
func (s *Stack) startParts(ctx context.Context, opts Options, variables map[string]string) (secret secretReader, err error) {
	s.Parts.Logs = opts.Logs
	if s.Parts.Logs == "" {
		if s.Parts.Logs, err = os.MkdirTemp("", "gcpconnect-logs-"); err != nil {
			return nil, fmt.Errorf("make a folder for logs: %w", err)
		}
	}
	variables["BACKENDS"] = "real"
	if variables["CLOUD_TASKS_QUEUE"] == "" {
		variables["CLOUD_TASKS_QUEUE"], variables["CLOUD_TASKS_DISCOVERY_QUEUE"] = defaultQueue, defaultDiscoveryQueue
	}
	for variable, value := range map[string]string{
		"GOOGLE_CLOUD_PROJECT": defaultProject,
		"TASK_SERVICE_ACCOUNT": "queue@" + defaultProject + ".iam.gserviceaccount.com",
	} {
		if variables[variable] == "" {
			variables[variable] = value
		}
	}
	firestore, vault, queue := variables["FIRESTORE_EMULATOR_HOST"], variables["VAULT_ADDR"], variables["CLOUD_TASKS_EMULATOR_HOST"]
	group, starting := errgroup.WithContext(ctx)
	if firestore == "" {
		group.Go(func() (err error) {
			s.Parts.Firestore, err = parts.StartFirestore(starting, "", s.Parts.Logs)
			return err
		})
	}
	if vault == "" {
		group.Go(func() (err error) {
			s.Parts.Vault, err = parts.StartVault(starting, "", s.Parts.Logs)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if s.Parts.Firestore != nil {
		variables["FIRESTORE_EMULATOR_HOST"] = s.Parts.Firestore.Address
	}
	secrets := map[string]secretmanager.Version{}
	hide := func(variable, name, value string) {
		secrets["projects/"+defaultProject+"/secrets/"+name+"/versions/1"] = secretmanager.Version{Payload: []byte(value)}
		variables[variable] = "sm://projects/" + defaultProject + "/secrets/" + name
	}
	if v := s.Parts.Vault; v != nil {
		variables["VAULT_ADDR"], variables["VAULT_ROLE_ID"] = v.Address, v.RoleID
		hide("VAULT_SECRET_ID", "vault-secret-id", v.SecretID.Reveal())
	}
	for variable, name := range map[string]string{"CLIENT_SECRET": "client-secret", "LOGIN_KEY": "login-key"} {
		if secret := variables[variable]; !strings.HasPrefix(secret, "sm://") {
			hide(variable, name, secret)
		}
	}
	if queue == "" {
		if queue, err = s.startTasks(ctx, opts.Log); err != nil {
			return nil, err
		}
		variables["CLOUD_TASKS_EMULATOR_HOST"] = queue
	}
	return s.startSecrets(ctx, secrets)
}

// startTasks starts the Cloud Tasks emulator and returns its address.
func (s *Stack) startTasks(ctx context.Context, log *slog.Logger) (string, error) {
	server, err := tasks.NewServer(tasks.Options{
		Client: &http.Client{Transport: s.network.Transport()}, Token: s.Google.IDToken, Logger: log,
	})
	if err != nil {
		return "", fmt.Errorf("the Cloud Tasks emulator did not start: %w", err)
	}
	listener, err := s.listen(ctx, "the Cloud Tasks emulator", "")
	if err != nil {
		return "", err
	}
	s.Parts.Tasks, s.Parts.TasksAddress = server, listener.Addr().String()
	s.background("the Cloud Tasks emulator", func() error { return server.Serve(listener) })
	return s.Parts.TasksAddress, nil
}

// startSecrets starts a Secret Manager of these secrets and returns the
// function that reads them.
func (s *Stack) startSecrets(ctx context.Context, secrets map[string]secretmanager.Version) (secretReader, error) {
	server, err := secretmanager.NewServer(secrets)
	if err != nil {
		return nil, err
	}
	listener, err := s.listen(ctx, "the Secret Manager emulator", "")
	if err != nil {
		return nil, err
	}
	s.Parts.secrets = server
	s.background("the Secret Manager emulator", func() error { return server.Serve(listener) })
	return func(ctx context.Context, version string) (connect.Secret, string, error) {
		c := client.New(local(listener.Addr().String())...)
		secret, number, err := c.Access(ctx, version)
		return secret, number, errors.Join(err, c.Close())
	}, nil
}

// local are the options of a client of something that runs here.
func local(address string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// startInstances starts the instances of the functions over the same real
// services, each with clients of its own, and returns a handler that they
// serve in turn.
func (s *Stack) startInstances(ctx context.Context, cfg *config.Config, platform setup.TokenSource, opts Options) (http.Handler, error) {
	n := max(opts.Instances, 1)
	if err := s.openQueue(ctx, cfg); err != nil {
		return nil, err
	}
	m, enqueued := new(meter), new(atomic.Int64)
	var handlers []http.Handler
	for i := range n {
		backends, err := app.OpenReal(ctx, cfg, m.watch())
		if err != nil {
			return nil, err
		}
		backends.Queue, backends.Platform, backends.Telemetry = &countingQueue{backends.Queue, enqueued}, platform, opts.Telemetry
		a, err := app.New(cfg, backends, s.network.Transport(), opts.Log.With("instance", i+1))
		if err != nil {
			return nil, errors.Join(err, backends.Close(ctx))
		}
		s.apps, handlers = append(s.apps, a), append(handlers, a.Handler(""))
	}
	s.counts = func() Counts {
		return Counts{
			Transactions: m.transactions.Load(), Reads: m.reads.Load(), Writes: m.writes.Load(), Deletes: m.deletes.Load(),
			Tasks: enqueued.Load(), VaultCalls: m.vault.Load(),
			TokenWrites: m.tokenWrites.Load(), TokenDeletes: m.tokenDeletes.Load(),
		}
	}
	var turn atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[turn.Add(1)%uint64(n)].ServeHTTP(w, r) //nolint:gosec // n is at least 1
	}), nil
}

// startElsewhere has the functions started outside of this process, with the
// environment that makes cfg.
func (s *Stack) startElsewhere(ctx context.Context, cfg *config.Config, variables map[string]string, start func(context.Context, map[string]string) (http.Handler, error)) (http.Handler, error) {
	if err := s.openQueue(ctx, cfg); err != nil {
		return nil, err
	}
	s.counts = func() Counts { return Counts{} }
	variables = maps.Clone(variables)
	variables["CLIENT_SECRET"], variables["LOGIN_KEY"], variables["VAULT_SECRET_ID"] = cfg.ClientSecret.Reveal(), cfg.LoginKey.Reveal(), cfg.VaultSecretID.Reveal()
	return start(ctx, variables)
}

// openQueue makes the queues that cfg names.
func (s *Stack) openQueue(ctx context.Context, cfg *config.Config) error {
	queues, err := cloudtasks.NewClient(ctx, local(cfg.TasksEmulator)...)
	if err != nil {
		return fmt.Errorf("reach Cloud Tasks: %w", err)
	}
	s.Parts.queues = queues
	discoveries := cmp.Or(cfg.DiscoveryQueue, cfg.TaskQueue)
	s.idle = func(ctx context.Context) error { // setups hand tasks to discoveries, and not the other way
		return errors.Join(idle(ctx, queues, cfg.TaskQueue), idle(ctx, queues, discoveries))
	}
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(adapter.Settings, &settings); err != nil {
		return fmt.Errorf("read the queues' settings: %w", err)
	}
	return errors.Join(makeQueue(ctx, queues, cfg.TaskQueue, settings["setups"], cfg.TaskMaxAttempts),
		makeQueue(ctx, queues, discoveries, settings["discoveries"], cfg.TaskMaxAttempts))
}

// makeQueue makes a queue as production has it, unless it is there.
func makeQueue(ctx context.Context, queues *cloudtasks.Client, name string, settings []byte, attempts int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	parent, _, _ := strings.Cut(name, "/queues/")
	queue := new(cloudtaskspb.Queue)
	if err := protojson.Unmarshal(settings, queue); err != nil {
		return fmt.Errorf("read the settings of the queue %s: %w", name, err)
	}
	queue.Name = name
	queue.RetryConfig.MaxAttempts = int32(attempts) //nolint:gosec // at most 100
	_, err := queues.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: queue})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("make the queue %s: %w", name, err)
	}
	return nil
}

// idle waits until the queue lists no task.
func idle(ctx context.Context, queues *cloudtasks.Client, queue string) error {
	for {
		_, err := queues.ListTasks(ctx, &cloudtaskspb.ListTasksRequest{Parent: queue}).Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list tasks: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// String says where the parts are, a line for each.
func (p *Parts) String() string {
	var lines strings.Builder
	if p.Firestore != nil {
		fmt.Fprintf(&lines, "Firestore        %s\n", p.Firestore.Address)
	}
	if p.Vault != nil {
		fmt.Fprintf(&lines, "Vault            %s\n", p.Vault.Address)
	}
	if p.TasksAddress != "" {
		fmt.Fprintf(&lines, "Cloud Tasks      %s\n", p.TasksAddress)
	}
	if p.Logs != "" {
		fmt.Fprintf(&lines, "Logs             %s\n", p.Logs)
	}
	return lines.String()
}

// quiet ends deliveries: those under way may end, as long as ctx allows.
func (p *Parts) quiet(ctx context.Context) error {
	var faults []error
	if p.queues != nil {
		faults = append(faults, p.queues.Close())
	}
	if p.Tasks != nil {
		faults = append(faults, p.Tasks.Close(ctx))
	}
	return errors.Join(faults...)
}

// stop stops everything that was started.
func (p *Parts) stop() error {
	var faults []error
	if p.secrets != nil {
		p.secrets.Stop()
	}
	if p.Firestore != nil {
		faults = append(faults, p.Firestore.Stop())
	}
	if p.Vault != nil {
		faults = append(faults, p.Vault.Stop())
	}
	return errors.Join(faults...)
}
