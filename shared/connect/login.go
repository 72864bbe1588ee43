package connect

import (
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

// Login is one attempt to connect: from POST /login to Google's callback, and
// on to the confirmation where that is asked for. It holds no secret: the
// state, the browser's cookie and the confirmation are kept as hashes, and the
// PKCE verifier is derived from the state when it comes back.
type Login struct {
	ID          string // random; names the consent
	StateHash   string // Hash of the OAuth state; the record's key
	UserID      string
	OrgID       string // the caller's organization, if it named one
	KeyVersion  string // of the key that its PKCE verifier and nonce are derived from
	BrowserHash string // Hash of the cookie given to the browser that began it; empty: none was
	CreatedAt   time.Time
	ConsumedAt  time.Time // zero until the callback used it
	// ExpireAt is when the login ends that nobody brings back. Once it came
	// back, it is when the record does.
	ExpireAt time.Time

	// Who consented: known before the tokens are stored, so that a grant which
	// becomes no connection can be given back.
	Email   string // of the Google account; verified
	Subject string // of the same; verified. Empty: it holds nothing
	Name    string
	Scopes  []string // granted, as Google returned them

	// What a login that waits to be confirmed has.
	ConfirmHash string    // Hash of what the browser that came back must bring
	ParkedAt    time.Time // zero: it does not wait
	ConfirmedAt time.Time // zero until the user confirmed it; the last time
	ReleasedAt  time.Time // zero until it was given up: it can be confirmed no more

	Version int
}

// NewLogin returns a login of userID that expires after LoginLifetime. browser
// is the cookie given to the browser; empty: none. It refuses an empty user or
// state.
func NewLogin(userID, orgID, state, browser string, now time.Time) (*Login, error) {
	if userID == "" || state == "" {
		return nil, errors.New("a login has a user and a state")
	}
	l := &Login{
		ID: NewID(), StateHash: Hash(state), UserID: userID, OrgID: orgID,
		CreatedAt: now, ExpireAt: now.Add(LoginLifetime), Version: SchemaVersion,
	}
	if browser != "" {
		l.BrowserHash = Hash(browser)
	}
	return l, nil
}

// Clone returns a copy that shares no memory with l.
func (l *Login) Clone() *Login {
	if l == nil {
		return nil
	}
	clone := *l
	clone.Scopes = slices.Clone(l.Scopes)
	return &clone
}

// Consume marks the login used, and reports whether it could be: once, and
// before it expires.
func (l *Login) Consume(now time.Time) bool {
	if !l.ConsumedAt.IsZero() || !now.Before(l.ExpireAt) {
		return false
	}
	l.ConsumedAt, l.ExpireAt = now, now.Add(loginRetention)
	return true
}

// UnderWay reports whether somebody may be making a connection of the login:
// it came back from Google, or was confirmed, not long ago.
func (l *Login) UnderWay(now time.Time) bool {
	if !l.ReleasedAt.IsZero() {
		return false
	}
	since := l.ConfirmedAt
	if l.ParkedAt.IsZero() {
		since = l.ConsumedAt
	}
	return now.Sub(since) < LoginLifetime
}

// Began reports whether cookie is the one that was given to the browser that
// began the login.
func (l *Login) Began(cookie string) bool { return matches(cookie, l.BrowserHash) }

// Confirms reports whether handle is the one that the browser got that came
// back, and the login still waits for it, or was confirmed with it before.
func (l *Login) Confirms(handle string, now time.Time) bool {
	inTime := !l.ConfirmedAt.IsZero() || now.Sub(l.ParkedAt) < LoginLifetime
	return !l.ParkedAt.IsZero() && l.ReleasedAt.IsZero() && inTime && matches(handle, l.ConfirmHash)
}

// matches compares a bearer value with the hash that is kept of it. Nothing
// matches nothing.
func matches(value, hash string) bool {
	return value != "" && hash != "" && subtle.ConstantTimeCompare([]byte(Hash(value)), []byte(hash)) == 1
}

// Handle returns a new random name for what comes of the login: it begins with
// the record's key, so that the login is found by it, and what follows is known
// only to its receiver.
func (l *Login) Handle() string { return l.StateHash + NewID() }

// ParseHandle returns the key of the login that a handle is of.
func ParseHandle(handle string) (stateHash string, ok bool) {
	const key = 64
	if len(handle) <= key {
		return "", false
	}
	return handle[:key], true
}

// Tokens is where this login's tokens go in the Vault. The path is random: it
// reveals neither the user nor which tokens are of one user.
func (l *Login) Tokens() TokenRef {
	if l.Version == 1 { // a login that was begun with the release before this one
		return TokenRef(Hash(l.UserID)[:32] + "/" + l.ID)
	}
	return TokenRef(l.ID)
}

// Holds reports whether l has, or is about to have, tokens that are not given
// up.
func (l *Login) Holds() bool { return l.Subject != "" && l.ReleasedAt.IsZero() }

// Grant is what the tokens of a login stand for.
func (l *Login) Grant() Grant { return Grant{Tokens: l.Tokens(), Subject: l.Subject} }

// Grant is what a Google account gave the platform, in tokens that are kept in
// the Vault.
type Grant struct {
	Tokens  TokenRef
	Subject string // Google's ID of the account; empty: not known
}
