// Package firestore keeps state in Cloud Firestore: the Store for production,
// and for the emulator.
//
// A login, a connection, a setup is one document each. What a user has many of
// lies below the connection:
//
//	logins/{hash of the state}
//	setups/{setup}
//	connections/{user}
//	connections/{user}/changes/{change}          the ledger
//	connections/{user}/resources/{resource}
//	connections/{user}/discoveries/{project}
//
// Claim, checkpoint and commit are transactions: two reads, and a write of
// what changed. A transaction locks what it reads, so that a decision about
// one document that rests on another holds until the first is written
// (https://cloud.google.com/firestore/docs/transaction-data-contention).
//
// Indexes, TTL policies and index exemptions are in indexes.json, which
// deployments apply; a test holds every query against it.
package firestore

import (
	"cmp"
	"context"
	_ "embed" // indexes.json
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gcpconnect/shared/connect"
)

// Indexes are the composite indexes that the queries need, the TTL policies
// and the index exemptions, in the format of firestore.indexes.json
// (https://firebase.google.com/docs/reference/firestore/indexes).
//
//go:embed indexes.json
var Indexes []byte

// defaultTimeout is Options.Timeout unless it is set.
const defaultTimeout = 10 * time.Second

// Options say which database.
type Options struct {
	Project  string
	Database string // empty: the default one
	// Emulator is the address, host:port, of an emulator; empty: Google.
	Emulator string
	// DialOptions are for the connection.
	DialOptions []grpc.DialOption
	// Timeout is how long a call may take, retries included, before the database
	// counts as down; 0: 10 s. Calls that write or delete thousands of documents, or
	// read more of them than a page has, may take six times as long.
	Timeout time.Duration
}

// Store is a connect.Store in Firestore.
type Store struct {
	client      *firestore.Client
	timeout     time.Duration // of a call
	bulkTimeout time.Duration
}

var _ connect.Store = (*Store)(nil)

// New returns a Store. It makes no call. Close it. It refuses a missing project,
// for which the client would take one from the environment.
func New(ctx context.Context, o Options) (*Store, error) {
	if o.Project == "" || o.Project == firestore.DetectProjectID {
		return nil, errors.New("firestore: the project is required")
	}
	if o.Database == "" {
		o.Database = firestore.DefaultDatabaseID
	}
	var options []option.ClientOption
	for _, dial := range o.DialOptions {
		options = append(options, option.WithGRPCDialOption(dial))
	}
	if o.Emulator != "" {
		// A connection of our own: the client would take another emulator's from
		// the process's environment.
		conn, err := grpc.NewClient(o.Emulator, append([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(emulatorOwner{}),
		}, o.DialOptions...)...)
		if err != nil {
			return nil, fmt.Errorf("reach the Firestore emulator: %w", err)
		}
		options = []option.ClientOption{option.WithGRPCConn(conn)}
	}
	client, err := firestore.NewClientWithDatabase(context.WithoutCancel(ctx), o.Project, o.Database, options...)
	if err != nil {
		return nil, fmt.Errorf("make Firestore client of project %q: %w", o.Project, err)
	}
	timeout := cmp.Or(o.Timeout, defaultTimeout)
	return &Store{client: client, timeout: timeout, bulkTimeout: 6 * timeout}, nil
}

// emulatorOwner are the credentials that the emulator takes for an
// administrator's, who alone may write in bulk.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// Close closes the connections to Firestore.
func (s *Store) Close() error { return s.client.Close() }

func (s *Store) login(stateHash string) *firestore.DocumentRef {
	return s.client.Collection("logins").Doc(name(stateHash))
}

func (s *Store) setup(id string) *firestore.DocumentRef {
	return s.client.Collection("setups").Doc(name(id))
}

func (s *Store) connection(userID string) *firestore.DocumentRef {
	return s.client.Collection("connections").Doc(name(userID))
}

// below is a collection of what a user has many of.
func (s *Store) below(userID, collection string) *firestore.CollectionRef {
	return s.connection(userID).Collection(collection)
}

// maxPlain is how long an ID may be that is its document's name.
const maxPlain = 200

// letters may be in a name that is an ID; it begins with none of the last four.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:@-"

// plain reports whether an ID stands for itself in a document's name. (A regular
// expression would have to be compiled at every start.)
func plain(id string) bool {
	return id != "" && len(id) <= maxPlain && !strings.ContainsRune(".:@-", rune(id[0])) && strings.Trim(id, letters) == ""
}

// name is the document's name for an ID. IDs come from outside and may be any
// text, while names must not hold a slash, be reserved or long
// (https://cloud.google.com/firestore/quotas#limits): what is not plain is
// hashed. No plain ID begins with the tilde of a hash.
func name(id string) string {
	if plain(id) {
		return id
	}
	return "~" + connect.Hash(id)
}

// read returns a document as it is now; one that does not exist says so by
// Exists.
func (s *Store) read(ctx context.Context, what string, ref *firestore.DocumentRef) (*firestore.DocumentSnapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	snapshots, err := s.client.GetAll(ctx, []*firestore.DocumentRef{ref})
	if err != nil {
		return nil, classify("read "+what, err)
	}
	return snapshots[0], nil
}
