package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/stack"
)

// Throughput is how many requests were answered.
type Throughput struct {
	What      string
	PerSecond float64
	P50, P99  float64 // milliseconds
}

// The load of a throughput measurement.
const (
	callers         = 32
	loginCallers    = 8
	throughputLasts = 8 * time.Second
)

// measureThroughput calls functions that run in processes of their own, over the real services.
func (b *bench) measureThroughput(ctx context.Context) (err error) {
	product, err := b.build(ctx, productProgram)
	if err != nil {
		return err
	}
	bare, err := b.build(ctx, bareProgram)
	if err != nil {
		return err
	}
	var started []*server
	defer func() {
		for _, s := range started {
			s.stop()
		}
	}()
	serve := func(program string, variables map[string]string) (*server, error) {
		s, err := b.serve(ctx, program, variables)
		if err == nil {
			started = append(started, s)
		}
		return s, err
	}
	var variables map[string]string
	y, err := startSystem(ctx, stack.Options{
		Real: true, Scenario: instantScenario(5), Environment: b.services.environment(), Logs: b.dir,
		Elsewhere: func(_ context.Context, environment map[string]string) (http.Handler, error) {
			variables = environment
			all, err := serve(product, environment)
			if err != nil {
				return nil, err
			}
			target, err := url.Parse(all.url)
			return httputil.NewSingleHostReverseProxy(target), err
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Stop(ctx)) }()
	task, err := login(ctx, y.user, "")
	if err != nil {
		return err
	}
	if _, err := awaitFull(ctx, y.user, task, 5, 250*time.Millisecond); err != nil {
		return err
	}
	function := func(name string) (*server, error) {
		environment := maps.Clone(variables)
		environment["FUNCTION_TARGET"] = name
		return serve(product, environment)
	}
	status, err := function("status")
	if err != nil {
		return err
	}
	loginFunction, err := function("login")
	if err != nil {
		return err
	}
	reader, err := serve(bare, map[string]string{
		"FIRESTORE_EMULATOR_HOST": variables["FIRESTORE_EMULATOR_HOST"],
		"GOOGLE_CLOUD_PROJECT":    variables["GOOGLE_CLOUD_PROJECT"],
		"DOCUMENT":                "setups/" + task, "FUNCTION_TARGET": "bare",
	})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	users := make([]*demo.User, loginCallers)
	for i := range users {
		if users[i], err = y.newUser(fmt.Sprint("callback-", i)); err != nil {
			return err
		}
	}
	// Reads come first: a query of the Firestore emulator takes longer the more documents there
	// are, because it has no index.
	for _, m := range []struct {
		what    string
		callers int
		before  func() error
		call    func(ctx context.Context, caller int) error
	}{
		{"a bare handler that reads one document", callers, nil, get(client, reader.url+"/")},
		{"status", callers, nil, get(client, status.url+"/gcp/setup/status/"+task)},
		{"login, consent and callback together", loginCallers, func() error {
			// The setups that follow the logins are not measured here.
			return pause(ctx, variables["CLOUD_TASKS_EMULATOR_HOST"], variables["CLOUD_TASKS_QUEUE"])
		}, func(ctx context.Context, caller int) error {
			// The first call makes a connection. Each later one replaces it.
			_, err := login(ctx, users[caller], "")
			return err
		}},
		{"login", callers, nil, postLogin(client, loginFunction.url+"/login")},
	} {
		if m.before != nil {
			if err := m.before(); err != nil {
				return err
			}
		}
		measured, err := measureCalls(ctx, m.what, m.callers, throughputLasts, m.call)
		if err != nil {
			return err
		}
		b.report.Throughput = append(b.report.Throughput, measured)
	}
	return nil
}

// get returns a call of the user whose setup is read.
func get(client *http.Client, address string) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		return send(ctx, client, http.MethodGet, address, "user-1", "")
	}
}

// postLogin returns a call that starts a login of a user of the caller's own.
func postLogin(client *http.Client, address string) func(context.Context, int) error {
	return func(ctx context.Context, caller int) error {
		return send(ctx, client, http.MethodPost, address, fmt.Sprint("load-", caller), "{}")
	}
}

// send sends a request and expects 200.
func send(ctx context.Context, client *http.Client, method, address, user, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-User-ID", user)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %d", method, address, response.StatusCode)
	}
	return err
}

// measureCalls has a number of callers each make one call after the other for some time.
func measureCalls(
	ctx context.Context, what string, callers int, lasts time.Duration,
	call func(ctx context.Context, caller int) error,
) (Throughput, error) {
	var mu sync.Mutex
	var durations []time.Duration
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for caller := range callers {
		group.Go(func() error {
			var own []time.Duration
			for time.Since(began) < lasts {
				sent := time.Now()
				if err := call(ctx, caller); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				own = append(own, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			durations = append(durations, own...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Throughput{}, err
	}
	total := time.Since(began)
	slices.Sort(durations)
	ms := func(part float64) float64 {
		return float64(percentile(durations, part).Microseconds()) / 1000
	}
	return Throughput{what, float64(len(durations)) / total.Seconds(), ms(0.5), ms(0.99)}, nil
}

// pause pauses a queue of a Cloud Tasks emulator.
func pause(ctx context.Context, emulator, queue string) error {
	client, err := cloudtasks.NewClient(ctx,
		option.WithEndpoint(emulator), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return fmt.Errorf("reach the Cloud Tasks emulator: %w", err)
	}
	_, err = client.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: queue})
	return errors.Join(err, client.Close())
}
