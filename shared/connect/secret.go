package connect

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
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

// minKey is the fewest bytes of a Key: those of a SHA-256 hash, which is what keys
// are used with.
const minKey = 32

// Key decodes a key that is written as base64, such as `openssl rand -base64 32`
// makes, and refuses one of fewer than 32 bytes. Its errors continue the key's name
// and do not hold the key.
func Key(text Secret) ([]byte, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return nil, errors.New("is not base64")
	case len(key) < minKey:
		return nil, fmt.Errorf("has %d bytes, at least %d are required", len(key), minKey)
	}
	return key, nil
}

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
