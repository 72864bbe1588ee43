package firestore

import (
	"context"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
)

// CreateLogin stores a login under its state's hash.
func (s *Store) CreateLogin(ctx context.Context, l *connect.Login) error {
	call := connect.NewID()
	ref := s.login(l.StateHash)
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := ref.Create(limited, loginDocument{*l, call})
	switch {
	case status.Code(err) == codes.AlreadyExists:
		if _, ours, failed := s.readLogin(ctx, ref, call); failed != nil || ours {
			return failed
		}
		return connect.Errorf(connect.Conflict, "This login exists already.").Because(err)
	case err != nil:
		return classify("create login", err)
	}
	return nil
}

// readLogin reads a login, and whether that call wrote it last: the answer to
// a write can be lost, and the client then repeats the write upon itself.
func (s *Store) readLogin(ctx context.Context, ref *firestore.DocumentRef, call string) (snapshot *firestore.DocumentSnapshot, ours bool, err error) {
	if snapshot, err = s.read(ctx, "login", ref); err != nil || !snapshot.Exists() {
		return snapshot, false, err
	}
	tx, _ := snapshot.DataAt("Tx") // documents of the first release have none
	return snapshot, tx == call, nil
}

var errNoLogin = connect.Errorf(connect.NotFound, "This login is unknown, used or expired.")

// ConsumeLogin returns the login of that state and marks it used: the write
// holds only if nobody has written since the read. A transaction would do the
// same and lock; of many callers with one state each would wait for the others.
func (s *Store) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	call := connect.NewID()
	ref := s.login(stateHash)
	snapshot, _, err := s.readLogin(ctx, ref, call)
	if err != nil {
		return nil, err
	}
	if !snapshot.Exists() {
		return nil, errNoLogin
	}
	l, err := decodeLogin(snapshot)
	if err != nil {
		return nil, err
	}
	if !l.Consume(now) { // expired ones are not deleted at once
		return nil, errNoLogin
	}
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err = ref.Update(limited, []firestore.Update{
		{Path: "ConsumedAt", Value: l.ConsumedAt}, {Path: "ExpireAt", Value: l.ExpireAt}, {Path: "Tx", Value: call},
	}, firestore.LastUpdateTime(snapshot.UpdateTime))
	switch status.Code(err) {
	case codes.OK:
		return l, nil
	case codes.FailedPrecondition, codes.NotFound: // written, or deleted, since it was read
		if _, ours, failed := s.readLogin(ctx, ref, call); failed != nil {
			return nil, failed
		} else if ours {
			return l, nil
		}
		return nil, errNoLogin.Because(err)
	}
	return nil, classify("consume login", err)
}

// UpdateLogin runs fn over a login.
func (s *Store) UpdateLogin(ctx context.Context, stateHash string, fn func(l *connect.Login) error) (*connect.Login, error) {
	var l *working[*connect.Login]
	err := s.transact(ctx, "update login", func(t *transaction) (err error) {
		var found bool
		if l, found, err = open(t, s.login(stateHash), nil, decodeLogin, encodeLogin); err != nil {
			return err
		}
		switch {
		case !found:
			return refusal{errNoLogin}
		case l.ours:
			return errApplied
		}
		if err := fn(l.doc); err != nil {
			return refusal{err}
		}
		return l.save(t)
	})
	if err != nil {
		return nil, err
	}
	return l.doc, nil
}

// UsedLogins returns logins that were used before a time, the oldest first.
func (s *Store) UsedLogins(ctx context.Context, before time.Time, limit int) ([]connect.Login, error) {
	return early(ctx, s, s.client.Collection("logins").Query, "ConsumedAt", before, limit, decodeLogin)
}

// UserLogins returns logins of a user.
func (s *Store) UserLogins(ctx context.Context, userID string, limit int) ([]connect.Login, error) {
	pointers, err := fetch(ctx, s, s.client.Collection("logins").Where("UserID", "==", userID).Limit(limit), decodeLogin)
	return values(pointers), err
}

// DeleteLogin deletes a login.
func (s *Store) DeleteLogin(ctx context.Context, stateHash string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := s.login(stateHash).Delete(ctx); err != nil {
		return classify("delete login", err)
	}
	return nil
}

// Grants returns what is held of a Google account.
func (s *Store) Grants(ctx context.Context, subject string) ([]connect.Grant, error) {
	connections, err := holding(ctx, s, s.client.Collection("connections"), subject, decodeConnection)
	if err != nil {
		return nil, err
	}
	logins, err := holding(ctx, s, s.client.Collection("logins"), subject, decodeLogin)
	return append(connections, logins...), err
}

// holder is what can hold a grant.
type holder interface {
	Holds() bool
	Grant() connect.Grant
}

// holding returns the grants of a Google account that documents of a
// collection hold.
func holding[T holder](ctx context.Context, s *Store, of *firestore.CollectionRef, subject string, decode func(*firestore.DocumentSnapshot) (T, error)) ([]connect.Grant, error) {
	documents, err := fetch(ctx, s, of.Where("Subject", "==", subject), decode)
	var held []connect.Grant
	for _, d := range documents {
		if d.Holds() {
			held = append(held, d.Grant())
		}
	}
	return held, err
}

// StaleConnections returns connections that have had stale tokens since before
// a time, the longest first.
func (s *Store) StaleConnections(ctx context.Context, before time.Time, limit int) ([]connect.Connection, error) {
	return early(ctx, s, s.client.Collection("connections").Query, "StaleAt", before, limit, decodeConnection)
}
