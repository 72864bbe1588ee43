package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gcpconnect/functions"
	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
)

const domain = "connect.example"

// deployment is the program as the load balancer and Cloud Run show it: the
// public functions on one domain, the others at addresses of their own, where
// Google's front end lets nobody in.
type deployment struct {
	outputs outputs
	hosts   map[string]http.Handler // over TLS
	plain   http.Handler            // without it
	app     *app.App
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	variables := map[string]string{
		"CLIENT_ID": "id", "CLIENT_SECRET": "secret", "LOGIN_KEY": "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI=", "NEXT_PUBLIC_BACKEND_URL": "https://" + domain, "FRONTURL": "https://front.example/",
		"AUTH": "backend", "BACKEND_SERVICE_ACCOUNTS": "backend@p.iam.gserviceaccount.com", "BACKENDS": "real", "GOOGLE_CLOUD_PROJECT": "p",
		"CLOUD_TASKS_QUEUE": "projects/p/locations/l/queues/q", "TASK_SERVICE_ACCOUNT": "tasks@p.iam.gserviceaccount.com", "TASK_TARGET": "https://{function}.example",
		// Strangers get no further than the door: nobody calls these.
		"FIRESTORE_EMULATOR_HOST": "127.0.0.1:1", "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1", "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "token",
	}
	cfg, err := config.Read(t.Context(), config.Environment{Lookup: func(v string) (string, bool) { value, ok := variables[v]; return value, ok }})
	if err != nil {
		t.Fatal(err)
	}
	backends, err := app.OpenReal(t.Context(), cfg, app.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(cfg, backends, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(context.WithoutCancel(t.Context())) })
	d := &deployment{app: a, hosts: map[string]http.Handler{domain: a.Handler("")}, plain: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusPermanentRedirect)
	})}
	d.outputs = outputs{output{map[string]string{}}, output{map[string]string{}}}
	for _, f := range functions.Table() {
		host := f.Name + ".run.example"
		d.outputs.Functions.Value[f.Name] = "https://" + host
		d.hosts[host] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>Page not found</html>", http.StatusNotFound)
		})
		for _, r := range f.Routes {
			pattern := strings.ReplaceAll(r.Path, "{task_id}", "*")
			d.outputs.Paths.Value[pattern] = "https://" + domain + pattern
		}
	}
	return d
}

// look smokes the deployment and returns what it said and found wrong.
func (d *deployment) look(t *testing.T, patience time.Duration) (string, error) {
	t.Helper()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.hosts[r.Host].ServeHTTP(w, r) }))
	defer secure.Close()
	plain := httptest.NewServer(d.plain)
	defer plain.Close()
	client := secure.Client()
	client.Timeout = time.Minute
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("the test server's transport is of another kind")
	}
	transport.TLSClientConfig.ServerName = "example.com" // the name in its certificate
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := secure
		if strings.HasSuffix(address, ":80") {
			to = plain
		}
		return new(net.Dialer).DialContext(ctx, network, to.Listener.Addr().String())
	}
	in, err := json.Marshal(d.outputs)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = smoke{client: client, patience: patience, pause: time.Millisecond}.run(t.Context(), bytes.NewReader(in), &out)
	return out.String(), err
}

func TestAGoodDeploymentIsFoundGood(t *testing.T) {
	t.Parallel()
	said, err := deploy(t).look(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	looks := 2 // at what is not there, and without TLS
	for _, f := range functions.Table() {
		if f.Caller == functions.CallerUser || f.Caller == functions.CallerBrowser {
			looks += len(f.Routes)
		} else {
			looks++
		}
	}
	if n := strings.Count(said, "\n"); n != looks {
		t.Errorf("%d looks, want %d:\n%s", n, looks, said)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*deployment)
		want  string
	}{
		"a path that leads to another function": {func(d *deployment) {
			d.hosts["other.example"] = d.app.Handlers["connection"]
			d.outputs.Paths.Value["/login"] = "https://other.example/login"
		}, "POST https://other.example/login must be 401"},
		"a path that leads nowhere": {func(d *deployment) { delete(d.outputs.Paths.Value, "/gcp/setup/status/*") }, `the output paths has "" for /gcp/setup/status/*`},
		"a path without TLS":        {func(d *deployment) { d.outputs.Paths.Value["/login"] = "http://" + domain + "/login" }, "no https URL"},
		"a service that is unknown": {func(d *deployment) { delete(d.outputs.Functions.Value, "sweep") }, "function_urls has no sweep"},
		"a function that is not up": {func(d *deployment) {
			up := d.hosts[domain]
			d.hosts[domain] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/callback" {
					http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
					return
				}
				up.ServeHTTP(w, r)
			})
		}, `GET https://connect.example/callback must be 400 from the program: nobody was on the way back, and is 503 "Service Unavailable`},
		"a door that Cloud Run keeps shut": {func(d *deployment) {
			d.hosts[domain] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Forbidden", http.StatusForbidden) })
		}, "POST https://connect.example/login must be 401"},
		"somebody else who knows nobody": {func(d *deployment) {
			d.hosts[domain] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Strict-Transport-Security", "max-age=1")
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
			})
		}, "POST https://connect.example/login must be 401 from the program"},
		"a step function that is open":     {func(d *deployment) { d.hosts["sweep.run.example"] = d.app.Handlers["sweep"] }, "POST https://sweep.run.example/ must be refused by Google"},
		"a token function that is open":    {func(d *deployment) { d.hosts["token.run.example"] = d.app.Handlers["token"] }, "POST https://token.run.example/ must be refused by Google"},
		"answers that HTTP would do for":   {func(d *deployment) { d.plain = d.hosts[domain] }, "GET http://connect.example/login must be sent to https"},
		"somebody else's page at no path":  {func(d *deployment) { d.hosts[domain] = notFoundBy(d.hosts[domain]) }, "GET https://connect.example/no/such/path must be 404 from the program"},
		"browsers that may come back http": {func(d *deployment) { d.hosts[domain] = without("Strict-Transport-Security", d.hosts[domain]) }, "POST https://connect.example/login must be 401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := deploy(t)
			c.spoil(d)
			if said, err := d.look(t, 0); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("found %v, want %q; good is\n%s", err, c.want, said)
			}
		})
	}
}

func notFoundBy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no/such/path" {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func without(header string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		for name, values := range recorder.Header() {
			if name != header {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(recorder.Code)
		w.Write(recorder.Body.Bytes())
	})
}

// Instances start, addresses become known, and the load balancer lets one
// address make so many requests a minute: none of it is a fault.
func TestWhatIsNotRightYetMayBecomeSo(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	up, times := d.hosts[domain], new(atomic.Int64)
	d.hosts[domain] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := times.Add(1); n <= 3 {
			http.Error(w, "not now", []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusNotFound}[n-1])
			return
		}
		up.ServeHTTP(w, r)
	})
	if said, err := d.look(t, time.Minute); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

// Without a load balancer each public function has an address of its own.
func TestFunctionsMayHaveAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	for _, f := range functions.Table() {
		if f.Caller != functions.CallerUser && f.Caller != functions.CallerBrowser {
			continue
		}
		at, err := url.Parse(d.outputs.Functions.Value[f.Name])
		if err != nil {
			t.Fatal(err)
		}
		d.hosts[at.Host] = d.app.Handlers[f.Name]
		for _, r := range f.Routes {
			pattern := strings.ReplaceAll(r.Path, "{task_id}", "*")
			d.outputs.Paths.Value[pattern] = at.String() + pattern
		}
	}
	if said, err := d.look(t, 0); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
