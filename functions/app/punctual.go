package app

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// Punctual sends no request whose time is up by the clock: one of a process that
// has slept. See connect.Overdue.
type Punctual struct{ Next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p Punctual) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := connect.Overdue(r.Context()); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return p.Next.RoundTrip(r)
}
