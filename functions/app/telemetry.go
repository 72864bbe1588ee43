package app

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"gcpconnect/shared/config"
	"gcpconnect/shared/google"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// openTelemetry makes what the configuration says of telemetry.
func openTelemetry(ctx context.Context, cfg *config.Config, log *slog.Logger) (*telemetry.Telemetry, error) {
	if cfg.TelemetryEndpoint == "" {
		return telemetry.None(), nil
	}
	client := &http.Client{
		Transport: http.DefaultTransport,
		// A token is not to follow who redirects.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if cfg.GoogleTelemetry() {
		client.Transport = authorized{google.NewPlatform(http.DefaultTransport), http.DefaultTransport}
	}
	service := cfg.Service
	if service == "" {
		service = "gcpconnect"
	}
	return telemetry.New(ctx, telemetry.Options{
		Endpoint: strings.TrimSuffix(cfg.TelemetryEndpoint, "/"), Client: client, Ratio: cfg.TraceRatio,
		Service: service, Region: cfg.Region(), Project: cfg.Project, Log: log,
	})
}

// authorized sends requests in the name of a source's identity.
type authorized struct {
	source setup.TokenSource
	next   http.RoundTripper
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := a.source.Token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	return a.next.RoundTrip(r)
}
