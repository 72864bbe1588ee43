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

// SchemaVersion is written into every stored document, so that a release can
// tell what another one wrote. Documents of earlier versions are read, with the
// zero value for what they lack; one of a later version is left to the release
// that knows it.
//
// Version 2 has StallsAt in setups and discoveries, LeftAt and BusyUntil in
// connections, and random paths of tokens. Version 3 has the projects of a
// connection compressed.
const SchemaVersion = 3

// LoginLifetime is how long a login may take between POST /login and Google's
// callback, and again how long a grant waits to be confirmed.
const LoginLifetime = 10 * time.Minute

// loginRetention is how long the record of a login that came back is kept at
// most: it names tokens in the Vault until the sweep has seen the end of
// them, minutes later.
const loginRetention = 30 * 24 * time.Hour

// NewID returns a random identifier of 130 bits in the alphabet A-Z2-7, which
// is safe in URLs, document names and task bodies.
func NewID() string { return rand.Text() }

// Hash returns the SHA-256 of a bearer value in hexadecimal. States and
// cookies are stored and compared only in this form.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

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
	// Tokens is where the tokens are. They outlive Connected while a removal
	// undoes what setups changed; after that it is empty.
	Tokens TokenRef
	// Stale are the tokens of connections that are no more, until they are
	// released, and StaleAt is since when there are any.
	Stale   []Grant
	StaleAt time.Time
	// LookAt is when the sweep looks once more for what requests that arrived late
	// have changed after a removal. Until then the stale tokens are kept. Zero: the
	// removal left nothing open.
	LookAt time.Time

	PreferredRoot string          // the root project the user chose; survives a disconnect
	Accounts      ServiceAccounts // as the last setup left them
	Projects      []ConnectedProject
	SetupID       string // the newest setup

	ConnectedAt time.Time
	LeftAt      time.Time // of the last disconnect: logins begun before it make no connection
	// BusyUntil is until when somebody may still be changing the user's cloud
	// who does not know yet that the connection is another. Setups wait for it.
	BusyUntil time.Time
	UpdatedAt time.Time
	Version   int
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

// Leaving reports whether c is down and its tokens are still there, for the
// removal that undoes what setups changed.
func (c *Connection) Leaving() bool { return !c.Connected && c.Tokens != "" }

// WaitUntil has setups that are made from now on wait for who may be at work
// until a time.
func (c *Connection) WaitUntil(at time.Time) {
	if at.After(c.BusyUntil) {
		c.BusyUntil = at
	}
}

// Cancel ends the connection's setup, if there is one that has not ended, and
// returns it then. A step of it may be at work, and go on for a while without
// knowing.
func (c *Connection) Cancel(current *Setup, code, message string, now time.Time) *Setup {
	if current == nil {
		return nil
	}
	c.WaitUntil(current.Lease.ExpiresAt)
	if current.State.Ended() {
		return nil
	}
	current.End(StateCanceled, code, message, now)
	return current
}

// Leave takes c down to a new generation, with its tokens kept for a removal.
func (c *Connection) Leave(now time.Time) {
	*c = Connection{
		UserID: c.UserID, Generation: c.Generation + 1, PreferredRoot: c.PreferredRoot,
		Email: c.Email, Subject: c.Subject, Tokens: c.Tokens, Stale: c.Stale, StaleAt: c.StaleAt,
		SetupID: c.SetupID, LeftAt: now, BusyUntil: c.BusyUntil, UpdatedAt: now, Version: SchemaVersion,
	}
}

// Disconnect turns c into the tombstone of a new generation, which names the
// tokens as stale. A connection that is already down stays so, and logins begun
// meanwhile are void.
func (c *Connection) Disconnect(now time.Time) {
	if !c.Connected && !c.Leaving() {
		c.LeftAt, c.UpdatedAt, c.Version = now, now, SchemaVersion
		return
	}
	c.Discard(now)
	*c = Connection{
		UserID: c.UserID, Generation: c.Generation + 1, PreferredRoot: c.PreferredRoot,
		Stale: c.Stale, StaleAt: c.StaleAt, SetupID: c.SetupID, LeftAt: now, BusyUntil: c.BusyUntil,
		UpdatedAt: now, Version: SchemaVersion,
	}
}

// Discard makes c's tokens stale, if it has any.
func (c *Connection) Discard(now time.Time) {
	if c.Tokens == "" {
		return
	}
	if len(c.Stale) == 0 {
		c.StaleAt = now
	}
	c.Stale = append(slices.Clone(c.Stale), c.Grant())
	c.Tokens = ""
}

// Holds reports whether c has tokens that are not given up.
func (c *Connection) Holds() bool { return c.Tokens != "" }

// Names reports whether tokens are c's, or were and are not given up.
func (c *Connection) Names(tokens TokenRef) bool {
	return c.Tokens == tokens || slices.ContainsFunc(c.Stale, func(g Grant) bool { return g.Tokens == tokens })
}

// Grant is what c's tokens stand for.
func (c *Connection) Grant() Grant { return Grant{Tokens: c.Tokens, Subject: c.Subject} }

// Released forgets stale tokens that are gone.
func (c *Connection) Released(gone []Grant) {
	c.Stale = slices.DeleteFunc(c.Stale, func(g Grant) bool { return slices.Contains(gone, g) })
	if len(c.Stale) == 0 {
		c.Stale, c.StaleAt, c.LookAt = nil, time.Time{}, time.Time{}
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
