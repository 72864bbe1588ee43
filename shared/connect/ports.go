package connect

import (
	"context"
	"time"
)

// Store keeps all state but tokens. Its adapters pass connecttest.TestStore.
//
// Methods return errors of a class: NotFound where a document is missing or
// expired, Conflict where one to be created exists, Unavailable where the
// same call may work later. Nothing that a method takes or returns is shared
// with the store: callers may change it.
//
// The closures of the Update methods run inside a transaction and may run
// more than once: they must be pure but for their arguments. An error from a
// closure is returned as it is, and nothing is written. Documents that a
// closure left as they were are not written.
type Store interface {
	// CreateLogin stores a login under its state's hash.
	CreateLogin(ctx context.Context, l *Login) error
	// ConsumeLogin returns the login of that state and marks it used: of many
	// callers at the same time one gets it. One that is unknown, used or
	// expired at now is NotFound.
	ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*Login, error)
	// UpdateLogin runs fn over a login in a transaction and returns it as
	// written; NotFound if there is none. That it was used or has expired is
	// for fn to judge.
	UpdateLogin(ctx context.Context, stateHash string, fn func(l *Login) error) (*Login, error)
	// UsedLogins returns at most limit logins that were used before a time, the
	// oldest first.
	UsedLogins(ctx context.Context, before time.Time, limit int) ([]Login, error)
	// UserLogins returns at most limit logins of a user, in no order.
	UserLogins(ctx context.Context, userID string, limit int) ([]Login, error)
	// DeleteLogin deletes a login. Deleting what is not there is no error.
	DeleteLogin(ctx context.Context, stateHash string) error

	// Grants returns what is held of the Google account of that subject: by
	// connections, and by logins that may become some.
	Grants(ctx context.Context, subject string) ([]Grant, error)
	// StaleConnections returns at most limit connections that have had stale
	// tokens since before a time, the longest first.
	StaleConnections(ctx context.Context, before time.Time, limit int) ([]Connection, error)

	// StalledSetups returns at most limit setups that stall before a time, and
	// StalledDiscoveries discoveries, the longest first.
	StalledSetups(ctx context.Context, before time.Time, limit int) ([]Setup, error)
	StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]Discovery, error)

	// Connection returns the user's connection; NotFound if there never was
	// one.
	Connection(ctx context.Context, userID string) (*Connection, error)
	// UpdateConnection runs fn over the user's connection and the setup that
	// it points at (nil if none or expired), in one transaction. A user
	// without a connection has a zero one with the user's ID. What fn changed
	// of the two is written, and with them the new setup that fn returns; nil
	// makes none. It returns the connection as written.
	UpdateConnection(ctx context.Context, userID string, fn func(c *Connection, current *Setup) (made *Setup, err error)) (*Connection, error)

	// Setup returns a setup by its ID.
	Setup(ctx context.Context, id string) (*Setup, error)
	// UpdateSetup runs fn over a setup and its user's connection in one
	// transaction and returns both as written. It is what claim, checkpoint
	// and commit are made of.
	UpdateSetup(ctx context.Context, id string, fn func(c *Connection, s *Setup) error) (*Connection, *Setup, error)

	// SaveChanges writes entries of the user's ledger, each under its ID: a
	// new one is added, an older version replaced. There may be thousands.
	SaveChanges(ctx context.Context, userID string, changes []Change) error
	// Changes returns a page of the user's ledger, newest first, and the
	// token of the next page ("" after the last).
	Changes(ctx context.Context, userID string, q ChangeQuery) (page []Change, next string, err error)
	// CountChanges returns how many entries the query selects, on all pages.
	CountChanges(ctx context.Context, userID string, q ChangeQuery) (int, error)
	// ChangesByID returns those of the entries with these IDs that there are, in
	// no particular order. There may be hundreds.
	ChangesByID(ctx context.Context, userID string, ids []string) ([]Change, error)

	// SaveResources writes discovered resources, each under its ID. There may
	// be thousands.
	SaveResources(ctx context.Context, userID string, resources []Resource) error
	// Resources returns a page of the user's resources and the token of the
	// next page ("" after the last).
	Resources(ctx context.Context, userID string, q ResourceQuery) (page []Resource, next string, err error)
	// DeleteResources deletes the user's resources that the filter selects.
	DeleteResources(ctx context.Context, userID string, f ResourceFilter) error

	// Discoveries returns the newest discovery of each of the user's
	// projects, ordered by project ID.
	Discoveries(ctx context.Context, userID string) ([]Discovery, error)
	// UpdateDiscovery runs fn over the user's connection and the project's
	// discovery (a zero one with the two IDs if there is none) in one
	// transaction and returns both as written. The connection comes without its
	// Projects, and those that are stored stay: a setup of 1,000 projects has
	// 1,000 discoveries, and none of them needs to know of the others.
	UpdateDiscovery(ctx context.Context, userID, projectID string, fn func(c *Connection, d *Discovery) error) (*Connection, *Discovery, error)
	// DeleteDiscoveries deletes the discoveries of the user that are of an
	// older generation than before.
	DeleteDiscoveries(ctx context.Context, userID string, before int64) error
}

// Vault keeps users' tokens. Its adapters pass connecttest.TestVault.
type Vault interface {
	// Put stores a token. The version must be the one that Get returned, or 0
	// for a token that must not be there yet: otherwise Conflict, and nothing
	// is written. It returns the new version.
	Put(ctx context.Context, ref TokenRef, t Token, version int) (int, error)
	// Get returns the token and its version, at least 1; NotFound if there is
	// none.
	Get(ctx context.Context, ref TokenRef) (Token, int, error)
	// Delete removes every version of the token. Deleting what is not there
	// is no error.
	Delete(ctx context.Context, ref TokenRef) error
}

// Queue delivers tasks at least once, by POST to the functions that they
// name. Its adapters pass connecttest.TestQueue.
type Queue interface {
	// Enqueue hands a task over. A name that the queue has seen lately is no
	// error: the task is already there or done.
	Enqueue(ctx context.Context, t Task) error
}
