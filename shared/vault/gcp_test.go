package vault_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/option"

	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/vault"
)

// The IAM Credentials API signs a JWT, and Vault asks Google for the key and
// for the account. Vault's own access to Google is by a metadata server, which
// its process finds through the environment.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	const email = "functions@aurora.iam.gserviceaccount.com"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	google := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		mu.Unlock()
		var answer any
		switch {
		case strings.HasSuffix(r.URL.Path, ":signJwt"):
			var request struct{ Payload string }
			if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
				t.Error(err)
			}
			answer = map[string]string{"keyId": "key-1", "signedJwt": signed(t, key, request.Payload)}
		case strings.Contains(r.URL.Path, "/service_accounts/v1/metadata/x509/"), strings.Contains(r.URL.Path, "/robot/v1/metadata/x509/"):
			answer = map[string]string{"key-1": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))}
		case strings.HasSuffix(r.URL.Path, "/default/token"):
			answer = map[string]any{"access_token": "vaults-own", "token_type": "Bearer", "expires_in": 3600}
		case strings.Contains(r.URL.Path, "/serviceAccounts/"):
			account := path.Base(r.URL.Path)
			id := map[bool]string{true: "100000000000000000001", false: "100000000000000000002"}[account == email]
			answer = map[string]string{"name": "projects/aurora/serviceAccounts/" + account, "projectId": "aurora", "uniqueId": id, "email": account}
		case strings.HasPrefix(r.URL.Path, "/computeMetadata/"):
			w.Header().Set("Metadata-Flavor", "Google")
			answer = "aurora"
		default:
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer google.Close()
	running := partstest.OwnVault(t, "GCE_METADATA_HOST="+strings.TrimPrefix(google.URL, "http://"))
	all := root(t, running)
	for place, data := range map[string]map[string]any{
		"auth/gcp/config": {"custom_endpoint": map[string]string{
			"api": google.URL, "iam": google.URL, "crm": google.URL, "compute": google.URL,
		}},
		"auth/gcp/role/functions": {"type": "iam", "bound_service_accounts": email, "token_policies": "gcpconnect", "token_ttl": "1h"},
	} {
		if _, err := all.Logical().Write(place, data); err != nil {
			t.Fatal(err)
		}
	}
	login := func(account string) *vault.Vault {
		return open(t, running, func(o *vault.Options) {
			o.Auth = vault.Auth{Role: "functions", ServiceAccount: account, IAMOptions: []option.ClientOption{option.WithEndpoint(google.URL), option.WithoutAuthentication()}}
		})
	}
	version, err := login(email).Put(t.Context(), "gcp/login", token, 0)
	if err != nil || version != 1 {
		t.Fatalf("Put: %v; Google was asked %q", err, asked)
	}
	if _, err := login("other@aurora.iam.gserviceaccount.com").Put(t.Context(), "gcp/other", token, 0); connect.CodeOf(err) == "" {
		t.Error("another account got in")
	}
}

// signed is what signJwt returns for a payload.
func signed(t *testing.T, key *rsa.PrivateKey, payload string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"key-1","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}
