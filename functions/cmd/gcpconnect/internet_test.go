package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/secretmanager"
	"gcpconnect/emulators/tasks"
	"gcpconnect/functions"
	"gcpconnect/shared/identity"
)

// internet stands for the services at these hosts, which are served at addresses
// here by gRPC without TLS. It returns what leads a program to them: a proxy, and
// whom to trust.
func internet(t *testing.T, services map[string]string) []string {
	t.Helper()
	plain := &http.Transport{Protocols: new(http.Protocols)}
	plain.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(plain.CloseIdleConnections)
	certificate, trust := certify(t, services)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: plain, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			if !strings.HasPrefix(r.In.Header.Get("Authorization"), "Bearer ya29.") {
				t.Errorf("%s is asked without the platform's token", r.In.Host)
			}
			r.Out.Header.Set("Authorization", "Bearer owner") // whom the Firestore emulator lets do everything
			host, _, _ := strings.Cut(r.In.Host, ":")
			r.SetURL(&url.URL{Scheme: "http", Host: services[host]})
		},
	})
	front.EnableHTTP2, front.TLS = true, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || services[host] == "" {
			t.Errorf("%s %s is not what a function should ask", r.Method, r.Host)
			http.Error(w, "there is no such host", http.StatusBadGateway)
			return
		}
		through(t, w, front.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	return []string{"HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + trust}
}

// certify makes a certificate for hosts, and the file that a program trusts it by.
func certify(t *testing.T, hosts map[string]string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for host := range hosts {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// through lets a client through to an address.
func through(t *testing.T, w http.ResponseWriter, address string) {
	there, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = there.Close() }()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = here.Close() }()
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(there, here)
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}

// serve serves an emulator until the test ends, and returns its address.
func serve(t *testing.T, server interface {
	Serve(listener net.Listener) error
}) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }() // it ends with the listener
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// Nothing of the local stack's ways is used here: the program finds its identity
// at the metadata server, and with it Secret Manager and Firestore at their own
// names over TLS.
func TestTheProgramFindsGooglesServicesAsOnCloudRun(t *testing.T) {
	t.Parallel()
	database := partstest.Firestore(t)
	secrets, err := secretmanager.NewServer(map[string]secretmanager.Version{"projects/" + project + "/secrets/client-secret/versions/1": {Payload: []byte("very-secret")}})
	if err != nil {
		t.Fatal(err)
	}
	queues, err := tasks.NewServer(tasks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(signer)
	t.Cleanup(server.Close)
	out := internet(t, map[string]string{
		"firestore.googleapis.com": database.Address, "secretmanager.googleapis.com": serve(t, secrets), "cloudtasks.googleapis.com": serve(t, queues),
	})
	for name, c := range map[string]struct {
		caller, audience, path string
		status                 int
	}{
		"login": {backend, backendURL, "/login", http.StatusOK},                // it writes
		"sweep": {scheduler, serviceURL("sweep"), "/", http.StatusNoContent},   // it queries, and has a secret
		"plan":  {backend, backendURL, "/gcp/setup/plan", http.StatusNotFound}, // it reads: nobody is connected
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f functions.Function
			for _, f = range functions.Table() {
				if f.Name == name {
					break
				}
			}
			command := exec.CommandContext(t.Context(), binary)
			command.Env = append(deployed(f, server.URL), out...)
			if f.Needs.Tokens {
				command.Env = append(command.Env, "CLIENT_SECRET=sm://projects/"+project+"/secrets/client-secret")
			}
			p := run(t, command)
			token, err := signer.IDToken(c.caller, c.audience)
			if err != nil {
				t.Fatal(err)
			}
			if f.Caller != functions.CallerUser {
				token = token[:strings.LastIndex(token, ".")+1] + identity.SignatureRemoved
			}
			status, body := http.StatusServiceUnavailable, []byte(nil)
			for status == http.StatusServiceUnavailable && t.Context().Err() == nil { // a busy machine's database may be late: 503 asks to try again
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+c.path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				r.Header.Set("X-User-ID", "u")
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err = io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				status = response.StatusCode
			}
			if status != c.status {
				t.Errorf("it answers %d %s, want %d", status, body, c.status)
			}
			p.stop(t)
			if t.Failed() {
				t.Log(p.stderr)
			}
		})
	}
}
