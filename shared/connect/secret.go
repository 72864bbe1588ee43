package connect

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

const redacted = "[redacted]"

// Secret is a value that must not be seen: it prints, marshals and logs as
// "[redacted]". Only Reveal gives it away.
type Secret string

// Reveal returns the value itself, to be handed to the service it is for.
func (s Secret) Reveal() string { return string(s) }

// Format redacts under every verb and flag of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText redacts in JSON, XML and everything else that takes text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Token is what Google gave for a user's consent.
type Token struct {
	Access  Secret
	Refresh Secret // empty: Google gave none
	Expiry  time.Time
	Scopes  []string
}

// AccessToken is a token of a service account.
type AccessToken struct {
	Value  Secret
	Expiry time.Time
}

// TokenRef says where in the Vault a connection's tokens are. It is not a
// secret and does not reveal the user.
type TokenRef string
