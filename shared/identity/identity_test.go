package identity_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/identity"
)

const (
	account  = "queue@aurora.iam.gserviceaccount.com"
	audience = "https://functions.example.com"
)

// clock is the signer's.
type clock struct{ ahead time.Duration }

func (c *clock) Now() time.Time                             { return time.Now().Add(c.ahead) }
func (c *clock) Sleep(context.Context, time.Duration) error { return nil }

// signer is a Google that signs tokens, and a verifier of them.
func signer(t *testing.T, c *clock) (*google.Server, *identity.Verifier) {
	t.Helper()
	s, err := google.NewServer(google.Options{Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, verifier(t, identity.Options{Issuer: "https://accounts.google.com", Keys: server.URL + "/oauth2/v3/certs"}, "https://other.example.com", audience)
}

func verifier(t *testing.T, o identity.Options, audiences ...string) *identity.Verifier {
	t.Helper()
	issuer, err := identity.New(o)
	if err != nil {
		t.Fatal(err)
	}
	v, err := issuer.For(audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestIssuer_RefusesEmptyIssuerAndAudiences(t *testing.T) {
	t.Parallel()
	if _, err := identity.New(identity.Options{}); err == nil {
		t.Error("made an issuer without a name")
	}
	issuer, err := identity.New(identity.Options{Issuer: "https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, audiences := range [][]string{nil, {""}, {audience, ""}} {
		if _, err := issuer.For(audiences...); err == nil {
			t.Errorf("made a verifier for the audiences %q", audiences)
		}
	}
}

func token(t *testing.T, s *google.Server, audience string) connect.Secret {
	t.Helper()
	text, err := s.IDToken(account, audience)
	if err != nil {
		t.Fatal(err)
	}
	return connect.Secret(text)
}

func TestATokenOfTheIssuerForUsIsBelieved(t *testing.T) {
	t.Parallel()
	s, v := signer(t, &clock{})
	who, err := v.Verify(t.Context(), token(t, s, audience))
	if err != nil || who.Email != account || !who.Verified || who.Subject == "" {
		t.Errorf("Verify = %+v, %v", who, err)
	}
}

func TestTokensThatAreNotGood(t *testing.T) {
	t.Parallel()
	c := &clock{}
	s, v := signer(t, c)
	other, _ := signer(t, c)
	good := token(t, s, audience)
	parts := strings.Split(good.Reveal(), ".")
	c.ahead = -61 * time.Minute
	expired := token(t, s, audience)
	c.ahead = 0
	encode := base64.RawURLEncoding.EncodeToString
	// Its algorithm, key and issuer are the words for keys that cannot be read.
	words := connect.Secret(encode([]byte(`{"alg":"fetching keys","kid":"fetching keys"}`)) + "." + encode([]byte(`{"iss":"failed to verify signature: fetching keys"}`)) + "." + encode([]byte("fetching keys")))
	for name, bad := range map[string]connect.Secret{
		"nothing":                  "",
		"a text":                   "very-secret-text",
		"for another service":      token(t, s, "https://functions.example.com.evil.example"),
		"signed by another":        token(t, other, audience),
		"expired":                  expired,
		"unsigned":                 connect.Secret("eyJhbGciOiJub25lIn0." + parts[1] + "."),
		"with another's signature": connect.Secret(parts[0] + "." + parts[1] + "." + strings.Split(token(t, s, "x").Reveal(), ".")[2]),
		"with other claims":        connect.Secret(parts[0] + "." + strings.Split(token(t, s, "x").Reveal(), ".")[1] + "." + parts[2]),
		"without a signature":      connect.Secret(parts[0] + "." + parts[1] + "."),
		"with words of a verifier": words,
		"too long":                 good + connect.Secret(strings.Repeat("x", 20<<10)),
	} {
		who, err := v.Verify(t.Context(), bad)
		if connect.CodeOf(err) != connect.Unauthenticated || who != nil {
			t.Errorf("%s: %+v, %v, want Unauthenticated", name, who, err)
			continue
		}
		for _, part := range strings.Split(bad.Reveal(), ".") {
			if len(part) > 12 && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error holds the token: %v", name, err)
			}
		}
	}
}

// checked is a token as Cloud Run's invoker check passes it on.
func checked(t connect.Secret) connect.Secret {
	return t[:strings.LastIndex(t.Reveal(), ".")+1] + identity.SignatureRemoved
}

func TestATokenWithoutSignatureIsBelievedBehindTheInvokerCheckOnly(t *testing.T) {
	t.Parallel()
	c := &clock{}
	s, open := signer(t, c)
	behind := verifier(t, identity.Options{Issuer: "https://accounts.google.com", Keys: "http://127.0.0.1:1/none", Checked: true}, audience)
	good := checked(token(t, s, audience))
	if _, err := open.Verify(t.Context(), good); connect.CodeOf(err) != connect.Unauthenticated {
		t.Errorf("without the check: %v, want Unauthenticated", err)
	}
	if who, err := behind.Verify(t.Context(), good); err != nil || who.Email != account {
		t.Errorf("behind the check: %+v, %v", who, err)
	}
	c.ahead = -61 * time.Minute
	expired := token(t, s, audience)
	c.ahead = 0
	signed := token(t, s, audience)
	for name, bad := range map[string]connect.Secret{
		"for another service":   checked(token(t, s, "https://other.example.com")),
		"expired":               checked(expired),
		"no token":              connect.Secret("x.y." + identity.SignatureRemoved),
		"no signature":          signed[:strings.LastIndex(signed.Reveal(), ".")+1],
		"another's signature":   signed[:strings.LastIndex(signed.Reveal(), ".")+1] + "c2lnbmF0dXJl",
		"two signatures' marks": checked(signed) + "." + identity.SignatureRemoved,
	} {
		if who, err := behind.Verify(t.Context(), bad); err == nil {
			t.Errorf("%s: %+v is believed", name, who)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	s, v := signer(t, &clock{})
	old := token(t, s, audience)
	for range 3 {
		if _, err := v.Verify(t.Context(), token(t, s, audience)); err != nil {
			t.Errorf("a token by the key of the day: %v", err)
		}
		s.RotateKeys()
	}
	if _, err := v.Verify(t.Context(), token(t, s, audience)); err != nil {
		t.Errorf("a token by the newest key: %v", err)
	}
	if _, err := v.Verify(t.Context(), old); connect.CodeOf(err) != connect.Unauthenticated {
		t.Errorf("a token by a key that was removed: %v", err)
	}
}

func TestClocksMayBeSomeSecondsApart(t *testing.T) {
	t.Parallel()
	c := &clock{}
	s, v := signer(t, c)
	for _, ahead := range []time.Duration{20 * time.Second, -time.Hour - 20*time.Second} {
		c.ahead = ahead
		if _, err := v.Verify(t.Context(), token(t, s, audience)); err != nil {
			t.Errorf("with the signer's clock %v ahead: %v", ahead, err)
		}
	}
}

func TestKeysThatCannotBeReadSayNothingOfTheToken(t *testing.T) {
	t.Parallel()
	s, _ := signer(t, &clock{})
	for name, v := range map[string]*identity.Verifier{
		"keys":   verifier(t, identity.Options{Issuer: "https://accounts.google.com", Keys: "http://127.0.0.1:1/certs"}, audience),
		"issuer": verifier(t, identity.Options{Issuer: "http://127.0.0.1:1"}, audience),
	} {
		if _, err := v.Verify(t.Context(), token(t, s, audience)); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("without the %s: %v, want Unavailable", name, err)
		}
	}
}

// Users' issuers are found by their discovery document, and found again after
// they were away.
func TestAnIssuerIsDiscoveredWhenItIsThere(t *testing.T) {
	t.Parallel()
	var up bool
	var s *google.Server
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	s, err := google.NewServer(google.Options{Issuer: issuer.URL, PublicURL: issuer.URL})
	if err != nil {
		t.Fatal(err)
	}
	issuer.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, r)
	})
	v := verifier(t, identity.Options{Issuer: issuer.URL}, "aurora")
	if _, err := v.Verify(t.Context(), token(t, s, "aurora")); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("while the issuer is away: %v, want Unavailable", err)
	}
	up = true
	if who, err := v.Verify(t.Context(), token(t, s, "aurora")); err != nil || who.Subject == "" {
		t.Errorf("when it is back: %+v, %v", who, err)
	}
}

// An issuer that takes the call and does not answer is asked once for all who
// wait, and each waits as long as its own time allows.
func TestAnIssuerThatHangsDoesNotQueueItsCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := google.NewServer(google.Options{})
		if err != nil {
			t.Fatal(err)
		}
		good := token(t, s, audience)
		var asked atomic.Int64
		v := verifier(t, identity.Options{Issuer: "https://issuer.test", Transport: hanging{&asked}}, audience)
		began := time.Now()
		var callers sync.WaitGroup
		for i := range 5 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				if _, err := v.Verify(ctx, good); connect.CodeOf(err) != connect.Unavailable {
					t.Errorf("error = %v", err)
				}
				if took := time.Since(began); took != time.Duration(i+1)*time.Second {
					t.Errorf("caller %d waited %v", i+1, took)
				}
			})
		}
		callers.Wait()
		if asked.Load() != 1 {
			t.Errorf("the issuer was asked %d times", asked.Load())
		}
		time.Sleep(time.Minute) // until the call is given up
	})
}

// hanging answers when the caller has gone.
type hanging struct{ asked *atomic.Int64 }

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	h.asked.Add(1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}
