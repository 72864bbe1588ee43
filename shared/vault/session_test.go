package vault_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/parts"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/vault"
)

// testRenewal: a session is renewed by itself.
func testRenewal(t *testing.T, running *parts.Vault) {
	renewals := &counter{suffix: "/renew-self"}
	v := open(t, running, func(o *vault.Options) { o.Wrap = in(renewals) })
	if _, _, err := v.Get(t.Context(), "none/none"); connect.CodeOf(err) != connect.NotFound {
		t.Fatal(err)
	}
	for range 100 { // the first renewal comes at once
		if renewals.n.Load() > 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the session is not renewed")
}

// testSameToken: a Conflict is one, unless it is our own write that stands at
// the version that it made.
func testSameToken(t *testing.T, running *parts.Vault) {
	v := open(t, running, nil)
	for version := range 2 {
		if _, err := v.Put(t.Context(), "same/token", token, version); err != nil {
			t.Fatal(err)
		}
	}
	// The same token at version 2 is not what a write over version 0 made.
	if _, err := v.Put(t.Context(), "same/token", token, 0); connect.CodeOf(err) != connect.Conflict {
		t.Errorf("writing over a version that is gone: %v, want Conflict", err)
	}
}

// What a namespace is, only Vault Enterprise knows: its header is seen here.
func TestNamespaceAndTimeOut(t *testing.T) {
	t.Parallel()
	namespaces := make(chan string, 10)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		namespaces <- r.Header.Get("X-Vault-Namespace")
		<-release
	}))
	defer server.Close()
	defer close(release)
	v, err := vault.New(vault.Options{Address: server.URL, Namespace: "team", Mount: "gcpconnect", Auth: vault.Auth{Token: "t"}, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, _, err := v.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("a Vault that does not answer: %v, want Unavailable", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	if namespace := <-namespaces; namespace != "team" {
		t.Errorf("the namespace is %q", namespace)
	}
}

// in puts a transport in place of the client's own.
func in(transport http.RoundTripper) func(http.RoundTripper) http.RoundTripper {
	return func(http.RoundTripper) http.RoundTripper { return transport }
}

// Nobody is to read tokens because somebody once needed to get over a
// certificate.
func TestACertificateThatIsNotCheckedIsRefused(t *testing.T) {
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	if v, err := vault.New(vault.Options{Address: "https://vault.example", Mount: "m", Auth: vault.Auth{Token: "t"}}); err == nil || !strings.Contains(err.Error(), "VAULT_SKIP_VERIFY") {
		t.Errorf("with VAULT_SKIP_VERIFY: %v, %v", v, err)
	}
}

func TestNew_RefusesHalfALogin(t *testing.T) {
	good := vault.Options{Address: "https://vault.example", Mount: "m", Auth: vault.Auth{Token: "t"}}
	for name, spoil := range map[string]func(*vault.Options){
		"address": func(o *vault.Options) { o.Address = "" }, "mount": func(o *vault.Options) { o.Mount = "" },
		"login":           func(o *vault.Options) { o.Auth = vault.Auth{} },
		"secret ID":       func(o *vault.Options) { o.Auth = vault.Auth{RoleID: "r"} },
		"service account": func(o *vault.Options) { o.Auth = vault.Auth{Role: "r"} },
	} {
		o := good
		spoil(&o)
		if v, err := vault.New(o); err == nil {
			t.Errorf("made a vault without its %s", name)
			_ = v.Close()
		}
	}
}
