package app

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"gcpconnect/shared/connect"
)

type source struct{ err error }

func (s source) Token(context.Context) (connect.Secret, error) { return "ours", s.err }

func (s source) Renew(ctx context.Context, _ connect.Secret) (connect.Secret, error) {
	return s.Token(ctx)
}

type wire func(*http.Request) (*http.Response, error)

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func TestTelemetry_IsSentAsTheProgram(t *testing.T) {
	t.Parallel()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://telemetry.googleapis.com/v1/traces", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	next := wire(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.Header.Get("Authorization"))
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})
	if _, err := (authorized{source{}, next}).RoundTrip(request); err != nil || len(sent) != 1 || sent[0] != "Bearer ours" {
		t.Errorf("sent with %q, %v", sent, err)
	}
	away := errors.New("no identity")
	if _, err := (authorized{source{away}, next}).RoundTrip(request); !errors.Is(err, away) || len(sent) != 1 {
		t.Errorf("sent without an identity: %q, %v", sent, err)
	}
	if request.Header.Get("Authorization") != "" {
		t.Error("the exporter's own request holds a token now")
	}
}
