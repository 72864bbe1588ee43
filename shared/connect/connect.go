// Package connect is the domain of the Google Cloud connector: what a
// connection, a login, a setup and its projects are, what can go wrong, and
// the three interfaces behind which state, tokens and tasks are kept.
//
// It imports the standard library only. Everything else depends on it; it
// depends on nothing.
package connect

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// SchemaVersion is written into every stored document, so that a later
// release can tell what an earlier one wrote.
const SchemaVersion = 1

// LoginLifetime is how long a login may take between POST /login and Google's
// callback.
const LoginLifetime = 10 * time.Minute

// NewID returns a random identifier of 130 bits in the alphabet A-Z2-7, which
// is safe in URLs, document names and task bodies.
func NewID() string { return rand.Text() }

// Hash returns the SHA-256 of a bearer value in hexadecimal. States and
// cookies are stored and compared only in this form.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// Login is one attempt to connect: from POST /login to Google's callback. It
// holds no secret: the state and the browser's cookie are kept as hashes, and
// the PKCE verifier is derived from the state when it comes back.
type Login struct {
	ID          string // random; names the consent
	StateHash   string // Hash of the OAuth state; the record's key
	UserID      string
	OrgID       string // the caller's organization, if it named one
	BrowserHash string // Hash of the cookie given to the browser that began it
	CreatedAt   time.Time
	ConsumedAt  time.Time // zero until the callback used it
	ExpireAt    time.Time
	Version     int
}

// NewLogin returns a login of userID that expires after LoginLifetime.
func NewLogin(userID, orgID, state, browser string, now time.Time) *Login {
	return &Login{
		ID: NewID(), StateHash: Hash(state), UserID: userID, OrgID: orgID, BrowserHash: Hash(browser),
		CreatedAt: now, ExpireAt: now.Add(LoginLifetime), Version: SchemaVersion,
	}
}

// Tokens is where this login's tokens go in the Vault. The path does not
// reveal the user, and no two logins share one.
func (l *Login) Tokens() TokenRef { return TokenRef(Hash(l.UserID)[:32] + "/" + l.ID) }

// Connection is one user's connection to Google Cloud. It outlives a
// disconnect as a tombstone that holds the generation and the root project
// preference.
type Connection struct {
	UserID string
	// Generation is raised by every connect and disconnect. Work that was
	// begun for an older one finds it changed and ends.
	Generation  int64
	Connected   bool
	NeedsReauth bool // the refresh token is dead: only a new consent helps

	Email   string // from the verified id_token
	Subject string // Google's stable user ID, from the verified id_token
	Name    string
	Scopes  []string // granted, as Google returned them
	Tokens  TokenRef // where the tokens are; empty when disconnected
	// Stale are the tokens of connections that are no more, until they are
	// deleted.
	Stale []TokenRef

	PreferredRoot string          // the root project the user chose; survives a disconnect
	Accounts      ServiceAccounts // as the last setup left them
	Projects      []ConnectedProject
	SetupID       string // the newest setup

	ConnectedAt time.Time
	UpdatedAt   time.Time
	Version     int
}

// ConnectedProject is a project that a setup worked on.
type ConnectedProject struct {
	ID, Number, Name string
	Enabled          bool // both accounts hold their roles in it, as far as Aurora last wrote
}

// ServiceAccounts are the two accounts that a setup keeps in the root project.
type ServiceAccounts struct {
	RootProject string
	Agent       string // email of the account that manages
	Ask         string // email of the account that only reads
}

// Clone returns a copy that shares no memory with c.
func (c *Connection) Clone() *Connection {
	if c == nil {
		return nil
	}
	clone := *c
	clone.Scopes = slices.Clone(c.Scopes)
	clone.Projects = slices.Clone(c.Projects)
	clone.Stale = slices.Clone(c.Stale)
	return &clone
}

// Project returns the connected project of that ID, or nil.
func (c *Connection) Project(id string) *ConnectedProject {
	for i := range c.Projects {
		if c.Projects[i].ID == id {
			return &c.Projects[i]
		}
	}
	return nil
}

// Disconnect turns c into the tombstone of a new generation, which names the
// tokens as stale. It is idempotent: a connection that is already down stays
// as it is.
func (c *Connection) Disconnect(now time.Time) {
	if !c.Connected {
		return
	}
	*c = Connection{
		UserID: c.UserID, Generation: c.Generation + 1, PreferredRoot: c.PreferredRoot,
		Stale: append(slices.Clone(c.Stale), c.Tokens), SetupID: c.SetupID, UpdatedAt: now, Version: SchemaVersion,
	}
}

// Merge adds projects to the connection, in place of what it knew of the same
// ones.
func (c *Connection) Merge(projects []ConnectedProject) {
	for _, p := range projects {
		if known := c.Project(p.ID); known != nil {
			*known = p
		} else {
			c.Projects = append(c.Projects, p)
		}
	}
}
