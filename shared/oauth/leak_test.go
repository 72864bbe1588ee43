package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// TestErrorsHoldNoSecret has everything on the way repeat what was sent, and
// looks for it in the errors however they are printed, and in what is logged
// meanwhile.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	encode := func(status int, answer map[string]string) (*http.Response, error) {
		encoded, err := json.Marshal(answer)
		if err != nil {
			return nil, err
		}
		return reply(status, string(encoded))
	}
	const idToken = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJzdWIiOiJ2ZXJ5LXNlY3JldCJ9.c2lnbmF0dXJlLXZlcnktc2VjcmV0"
	echoes := map[string]func(sent string) (*http.Response, error){
		"in the description": func(sent string) (*http.Response, error) {
			return encode(401, map[string]string{"error": "invalid_client", "error_description": "You sent " + sent})
		},
		"in the code": func(sent string) (*http.Response, error) {
			return encode(400, map[string]string{"error": sent, "error_subtype": sent})
		},
		"in a dead grant": func(sent string) (*http.Response, error) {
			return encode(400, map[string]string{"error": "invalid_grant", "error_description": sent, "error_uri": "http://x.test/?" + sent})
		},
		"in a success that is none": func(sent string) (*http.Response, error) {
			return encode(200, map[string]string{"error": "invalid_grant", "error_description": sent})
		},
		"in a page": func(sent string) (*http.Response, error) {
			return reply(403, "<html>"+sent, "Content-Type", "text/html")
		},
		"in plain text": func(sent string) (*http.Response, error) {
			return reply(400, "error=x&error_description="+url.QueryEscape(sent), "Content-Type", "text/plain")
		},
		"in a busy page": func(sent string) (*http.Response, error) { return reply(502, sent) },
		"in a success":   func(sent string) (*http.Response, error) { return reply(200, sent) },
		"in a header": func(sent string) (*http.Response, error) {
			return reply(302, "", "Location", "http://thief.test/?"+sent)
		},
		"in the transport": func(sent string) (*http.Response, error) { return nil, errors.New("proxy refused " + sent) },
		"in a broken success": func(sent string) (*http.Response, error) {
			return reply(200, `{"access_token":"`+sent+`","expires_in":"x"}`)
		},
		"in tokens without keys": func(string) (*http.Response, error) {
			return encode(200, map[string]string{"access_token": "ya29.fresh-very-secret", "id_token": idToken, "scope": strings.Join(scopes(), " ")})
		},
	}
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					if r.Body == nil { // the keys
						return reply(500, "keys are not here")
					}
					body, _ := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(body))
					sent := string(body)
					for value := range maps.Values(form) {
						sent += " " + value[0]
					}
					return echo(sent)
				})
				c.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				token := connect.Token{Access: "ya29.access-very-secret", Refresh: "1//refresh-very-secret"}
				_, exchanged := c.Exchange(t.Context(), code, theProof)
				_, refreshed := c.Refresh(t.Context(), token)
				revoked := c.Revoke(t.Context(), token)
				if exchanged == nil {
					t.Error("exchanged")
				}
				text := log.String()
				for _, err := range []error{exchanged, refreshed, revoked} { // some pass: a revocation asks for a status alone
					if err == nil {
						continue
					}
					if _, ok := errors.AsType[*connect.Error](err); !ok {
						t.Errorf("%v has no class", err)
					}
					text += connecttest.PrintedError(err)
				}
				hidden := []string{code, secret, theProof.verifier(), token.Access.Reveal(), token.Refresh.Reveal(), "ya29.fresh-very-secret", idToken}
				for _, h := range slices.Concat(hidden, []string{"very-secret"}) {
					if leak := connecttest.Leaked(text, h) + connecttest.Leaked(text, url.QueryEscape(h)); leak != "" {
						t.Errorf("holds %s: %s", h, leak)
					}
				}
			})
		})
	}
}

func TestValuesPrintNoSecret(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil)
	token := connect.Token{Access: "ya29.access-very-secret", Refresh: "1//refresh-very-secret"}
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{
		"a client": c, "a client in a struct": struct{ Client, client any }{c, c}, "its options": Options{ClientID: clientID, ClientSecret: secret}, "logins": newLogins(t, loginKey),
		"their options": LoginOptions{Key: LoginKey{Value: "very-secret"}}, "a proof": theProof, "a grant": Grant{Token: token, Email: "dana@example.com"},
	})
}
