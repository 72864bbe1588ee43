package google

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"gcpconnect/shared/connect"
)

// platformKey is a key file as Google gives it.
func platformKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "aurora@platform.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "universe_domain": "googleapis.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func given(token string) func() (*http.Response, error) {
	return answering(200, fmt.Sprintf(`{"access_token":%q,"expires_in":3599,"token_type":"Bearer"}`, token))
}

func TestThePlatformAsksForATokenWhenItNeedsOne(t *testing.T) {
	t.Parallel()
	send, requests := answers(given("first"), given("second"), given("second"))
	p := withKey(t, platformKey(t), send)
	if len(*requests) != 0 {
		t.Error("a token was asked for before one was needed")
	}
	for range 3 {
		if token, err := p.Token(t.Context()); err != nil || token != "first" {
			t.Errorf("token %q, %v", token.Reveal(), err)
		}
	}
	if len(*requests) != 1 || (*requests)[0].URL.Host != "oauth2.googleapis.com" {
		t.Errorf("%d requests were made, want one", len(*requests))
	}
	if token, err := p.Renew(t.Context(), "first"); err != nil || token != "second" {
		t.Errorf("renewed %q, %v", token.Reveal(), err)
	}
	if _, err := p.Renew(t.Context(), "second"); connect.CodeOf(err) != connect.Precondition {
		t.Errorf("the same token again is %v", err)
	}
	if printed := fmt.Sprintf("%v %+v %#v", p, p, p); strings.Contains(printed, "second") || strings.Contains(printed, "PRIVATE") || strings.Contains(printed, "secrets") {
		t.Errorf("it prints as %s", printed)
	}
}

// An identity that Google does not take is not there, and the user falls in;
// a Google that is busy is asked again.
func TestThePlatformWithoutAToken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func() (*http.Response, error)
		want   connect.Code
	}{
		"refused": {answering(400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`), connect.Precondition},
		"busy":    {answering(503, `{}`), connect.Unavailable},
		"cut off": {func() (*http.Response, error) { return nil, fmt.Errorf("connection reset") }, connect.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			send, _ := answers(c.answer)
			token, err := withKey(t, platformKey(t), send).Token(t.Context())
			if connect.CodeOf(err) != c.want || token != "" {
				t.Errorf("%q, %v, want %s", token.Reveal(), err, c.want)
			}
		})
	}
	if _, err := withKey(t, []byte("{}"), nil).Token(t.Context()); connect.CodeOf(err) != connect.Precondition {
		t.Errorf("a key that is none is %v", err)
	}
}

func TestAProgramWithoutAnIdentity(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "none.json"))
	if _, err := NewPlatform(nil).Token(t.Context()); connect.CodeOf(err) != connect.Precondition {
		t.Errorf("without credentials: %v", err)
	}
}

func withKey(t *testing.T, key []byte, transport http.RoundTripper) *Platform {
	t.Helper()
	p, err := NewPlatformWithKey(key, transport)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewPlatformWithKey_RefusesNoKey(t *testing.T) {
	t.Parallel()
	for _, key := range [][]byte{nil, {}} {
		if _, err := NewPlatformWithKey(key, nil); err == nil {
			t.Error("no key stands for the identity that the program runs as")
		}
	}
}
