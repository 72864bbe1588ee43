package google

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// roundTrip is Google in one function, with no network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(code int, body string, header ...string) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json; charset=UTF-8"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// answers gives one answer after another, the last one for ever.
func answers(all ...func() (*http.Response, error)) (send roundTrip, requests *[]*http.Request) {
	requests = new([]*http.Request)
	return func(r *http.Request) (*http.Response, error) {
		i := min(len(*requests), len(all)-1)
		*requests = append(*requests, r)
		return all[i]()
	}, requests
}

func answering(code int, body string, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return reply(code, body, header...) }
}

// tokens gives the first token until it is rejected, then the next.
type tokens struct {
	secrets  []connect.Secret
	rejected []connect.Secret
	err      error // of Token
	renewErr error // of Renew
}

func (s *tokens) Token(context.Context) (connect.Secret, error) { return s.secrets[0], s.err }

func (s *tokens) Renew(_ context.Context, rejected connect.Secret) (connect.Secret, error) {
	if s.renewErr != nil {
		return "", s.renewErr
	}
	s.rejected = append(s.rejected, rejected)
	s.secrets = s.secrets[1:]
	return s.secrets[0], nil
}

// valueTokens is a source that is no pointer.
type valueTokens struct{ secret connect.Secret }

func (s valueTokens) Token(context.Context) (connect.Secret, error) { return s.secret, nil }

func (s valueTokens) Renew(context.Context, connect.Secret) (connect.Secret, error) {
	return s.secret, nil
}

// as is Google over send, seen with a token.
func as(t *testing.T, send roundTrip, source *tokens) setup.Cloud {
	t.Helper()
	g, err := New(Options{Endpoints: EndpointsUnder("http://google.test"), Transport: send})
	if err != nil {
		t.Fatal(err)
	}
	if source == nil {
		source = &tokens{secrets: []connect.Secret{"ya29.first"}}
	}
	return g.As(source)
}
