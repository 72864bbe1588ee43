package google

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// Tokens as Google gives them, of a user and of a service account.
const (
	firstToken  = "ya29.first-very-secret"
	secondToken = "ya29.second-very-secret"
	mintedToken = "ya29.c.minted-very-secret"
)

// TestErrorsHoldNoToken has everything on the way repeat the request's
// headers, and looks for the tokens in the errors of every method, however they
// are printed, and in what is logged meanwhile.
func TestErrorsHoldNoToken(t *testing.T) {
	t.Parallel()
	echo := func(code int, body string) roundTrip {
		return func(r *http.Request) (*http.Response, error) {
			return reply(code, strings.ReplaceAll(body, "TOKEN", r.Header.Get("Authorization")), "X-Echo", r.Header.Get("Authorization"))
		}
	}
	paths := map[string]roundTrip{
		"refused":        echo(403, `{"error":{"code":403,"message":"Refused TOKEN.","status":"PERMISSION_DENIED"}}`),
		"in the reason":  echo(403, `{"error":{"code":403,"message":"Refused.","errors":[{"reason":"TOKEN"}]}}`),
		"in the details": echo(400, `{"error":{"code":400,"message":"Wrong.","status":"TOKEN","details":[{"reason":"TOKEN","violations":[{"type":"TOKEN"}]}]}}`),
		"rejected":       echo(401, `{"error":{"code":401,"message":"Rejected TOKEN.","status":"UNAUTHENTICATED"}}`),
		"busy":           echo(503, `TOKEN`),
		"no JSON":        echo(400, `<html>TOKEN</html>`),
		"cut off":        echo(200, `{"TOKEN`),
		"a token of another type": echo(200, `{"accessToken":"`+mintedToken+`","expireTime":5,"error":5,"projects":"`+mintedToken+`","services":"`+mintedToken+
			`","etag":5,"email":5,"name":5,"billingEnabled":"`+mintedToken+`","permissions":"`+mintedToken+`","done":"`+mintedToken+`","results":"`+mintedToken+`"}`),
		"unreachable": func(r *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("proxy refused " + r.Header.Get("Authorization"))}
		},
		"unreachable and quoted": func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: r.Method, URL: r.URL.String(), Err: fmt.Errorf("refused %+v", r.Header)}
		},
	}
	for path, send := range paths {
		for _, method := range methods() {
			t.Run(path+"/"+method.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					g, err := New(Options{
						Endpoints: EndpointsUnder("http://google.test"), Transport: send,
						Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
					})
					if err != nil {
						t.Fatal(err)
					}
					err = method.call(t.Context(), g.As(&tokens{secrets: []connect.Secret{firstToken, secondToken}}))
					if err == nil && path != "a token of another type" {
						t.Fatal("no error")
					}
					if leak := connecttest.Leaked(connecttest.PrintedError(err)+log.String(), "very-secret"); leak != "" {
						t.Errorf("holds a token: %s", leak)
					}
				})
			})
		}
	}
}

// TestACloudPrintsNoToken: fmt shows what is not exported without asking its
// type, so that the source's tokens would be seen.
func TestACloudPrintsNoToken(t *testing.T) {
	t.Parallel()
	send, _ := answers(answering(200, account))
	g, err := New(Options{Transport: send})
	if err != nil {
		t.Fatal(err)
	}
	pointer := &tokens{secrets: []connect.Secret{firstToken}}
	platform, err := NewPlatformWithKey([]byte(`{"private_key":"very-secret"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{
		"a cloud": g.As(pointer), "a cloud whose source is a value": g.As(valueTokens{pointer.secrets[0]}), "Google": g,
		"a cloud in a struct": struct{ Cloud, cloud any }{g.As(valueTokens{firstToken}), g.As(pointer)}, "the platform": platform, "the platform's cloud": g.As(platform),
	})
}
