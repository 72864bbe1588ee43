package firestore

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// Connection returns the user's connection.
func (s *Store) Connection(ctx context.Context, userID string) (*connect.Connection, error) {
	snapshot, err := s.read(ctx, "connection", s.connection(userID))
	if err != nil {
		return nil, err
	}
	if !snapshot.Exists() {
		return nil, connect.Errorf(connect.NotFound, "This user has no connection to Google Cloud.")
	}
	return decodeConnection(snapshot)
}

func (s *Store) openConnection(t *transaction, userID string) (*working[*connect.Connection], error) {
	c, _, err := open(t, s.connection(userID), &connect.Connection{UserID: userID}, decodeConnection, encodeConnection)
	return c, err
}

// openLean opens the user's connection without its projects, which stay as they
// are.
func (s *Store) openLean(t *transaction, userID string) (*working[*connect.Connection], error) {
	var bulk []byte
	decode := func(snapshot *firestore.DocumentSnapshot) (c *connect.Connection, err error) {
		if c, bulk, err = decodeLean(snapshot); err != nil {
			return nil, err
		}
		if bulk == nil { // an earlier schema's
			if bulk, err = pack(c.Projects); err != nil {
				return nil, unreadable(snapshot, err)
			}
		}
		c.Projects = nil
		return c, nil
	}
	encode := func(c *connect.Connection, tx string) (any, error) {
		if bulk == nil { // it is new
			return encodeConnection(c, tx)
		}
		return connectionWith(c, tx, bulk), nil
	}
	c, _, err := open(t, s.connection(userID), &connect.Connection{UserID: userID}, decode, encode)
	return c, err
}

var errNoSetup = connect.Errorf(connect.NotFound, "There is no such setup.")

// openSetup reads a setup; errNoSetup if it is not there or has expired.
func (s *Store) openSetup(t *transaction, id string) (*working[*connect.Setup], error) {
	setup, found, err := open(t, s.setup(id), nil, decodeSetup, encodeSetup)
	if err != nil {
		return nil, err
	}
	if !found || expired(setup.doc) {
		return nil, refusal{errNoSetup}
	}
	return setup, nil
}

// expired reports whether a setup's end has come: the TTL policy deletes it
// within a day or so after that.
func expired(s *connect.Setup) bool { return !s.ExpireAt.IsZero() && !time.Now().Before(s.ExpireAt) }

// UpdateConnection runs fn over the user's connection and its current setup.
func (s *Store) UpdateConnection(ctx context.Context, userID string, fn func(c *connect.Connection, current *connect.Setup) (made *connect.Setup, err error)) (*connect.Connection, error) {
	var c *working[*connect.Connection]
	err := s.transact(ctx, "update connection", func(t *transaction) (err error) {
		if c, err = s.openConnection(t, userID); err != nil {
			return err
		}
		var current *working[*connect.Setup] // nil: the connection points at none
		var given *connect.Setup
		if c.doc.SetupID != "" {
			current, err = s.openSetup(t, c.doc.SetupID)
			switch {
			case errors.Is(err, refusal{errNoSetup}):
			case err != nil:
				return err
			default:
				given = current.doc
			}
		}
		if c.ours || current != nil && current.ours {
			return errApplied
		}
		made, err := fn(c.doc, given)
		if err != nil {
			return refusal{err}
		}
		if err := c.save(t); err != nil {
			return err
		}
		if current != nil {
			if err := current.save(t); err != nil {
				return err
			}
		}
		if made == nil || made == given {
			return nil
		}
		return s.create(t, made)
	})
	if err != nil {
		return nil, err
	}
	return c.doc, nil
}

// create creates a setup; the commit fails if there is one of that ID.
func (s *Store) create(t *transaction, made *connect.Setup) error {
	if made.ID == "" {
		return refusal{connect.Errorf(connect.Internal, "A setup without an ID cannot be stored.")}
	}
	stored, err := encodeSetup(made, t.id)
	if err != nil {
		return refusal{err}
	}
	return t.Create(s.setup(made.ID), stored)
}

// Setup returns a setup by its ID: one read.
func (s *Store) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	snapshot, err := s.read(ctx, "setup", s.setup(id))
	if err != nil {
		return nil, err
	}
	if !snapshot.Exists() {
		return nil, errNoSetup
	}
	setup, err := decodeSetup(snapshot)
	if err != nil {
		return nil, err
	}
	if expired(setup) {
		return nil, errNoSetup
	}
	return setup, nil
}

// StalledSetups returns setups that stall before a time.
func (s *Store) StalledSetups(ctx context.Context, before time.Time, limit int) ([]connect.Setup, error) {
	return early(ctx, s, s.client.Collection("setups").Query, "StallsAt", before, limit, decodeSetup)
}

// UpdateSetup runs fn over a setup and its user's connection.
func (s *Store) UpdateSetup(ctx context.Context, id string, fn func(c *connect.Connection, s *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	var c *working[*connect.Connection]
	var setup *working[*connect.Setup]
	err := s.transact(ctx, "update setup", func(t *transaction) (err error) {
		if setup, err = s.openSetup(t, id); err != nil {
			return err
		}
		if c, err = s.openConnection(t, setup.doc.UserID); err != nil {
			return err
		}
		if c.ours || setup.ours {
			return errApplied
		}
		if err := fn(c.doc, setup.doc); err != nil {
			return refusal{err}
		}
		if err := setup.save(t); err != nil {
			return err
		}
		return c.save(t)
	})
	if err != nil {
		return nil, nil, err
	}
	return c.doc, setup.doc, nil
}
