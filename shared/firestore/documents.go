package firestore

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// Documents are stored field by field under the fields' names. They differ from
// the domain's in what follows.

// Those that transactions write have beside their fields Tx, which names the
// call that wrote them last: see Store.transact.

type connectionDocument struct {
	connect.Connection
	Tx string
	// Bulk are the projects, as in a setup. Documents before schema version 3 have
	// them as fields.
	Bulk []byte
}

type loginDocument struct {
	connect.Login
	Tx string
}

// setupDocument is a setup as it is stored.
type setupDocument struct {
	connect.Setup
	Tx string
	// ExpireAt hides the setup's own: nothing is stored for a setup without
	// end, because the TTL policy deletes whatever has a time that is past.
	ExpireAt *time.Time
	// Bulk is what grows with the projects: JSON, compressed. A document may
	// have 1 MiB and 40,000 index entries, and 1,000 projects with what went
	// wrong in each would come near (https://cloud.google.com/firestore/quotas#limits).
	Bulk []byte
}

// bulk is what Bulk holds.
type bulk struct {
	Selected []string             `json:",omitempty"`
	Billing  map[string]bool      `json:",omitempty"`
	Eligible []connect.ProjectRef `json:",omitempty"`
	Projects []connect.Project    `json:",omitempty"`
	Warnings []connect.Warning    `json:",omitempty"`
}

func encodeSetup(s *connect.Setup, tx string) (any, error) {
	d := setupDocument{Setup: *s, Tx: tx}
	if !s.ExpireAt.IsZero() {
		d.ExpireAt = &s.ExpireAt
	}
	many := bulk{Selected: s.Selected, Billing: s.Billing, Eligible: s.Eligible, Projects: s.Projects, Warnings: s.Warnings}
	var err error
	if d.Bulk, err = pack(many); err != nil {
		return nil, fmt.Errorf("setup %q: %w", s.ID, err)
	}
	d.Selected, d.Billing, d.Eligible, d.Projects, d.Warnings = nil, nil, nil, nil, nil
	return d, nil
}

// pack encodes what grows with the projects.
func pack(v any) ([]byte, error) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return nil, fmt.Errorf("encode the projects: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress the projects: %w", err)
	}
	return packed.Bytes(), nil
}

// unpack decodes what pack encoded.
func unpack(packed []byte, v any) error {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("decompress the projects: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(r, 64<<20)).Decode(v); err != nil {
		return fmt.Errorf("decode the projects: %w", err)
	}
	return nil
}

// dataTo decodes a document into v. A document of a later release is left to
// that release, which is being deployed: this one would drop what it does not
// know of it.
func dataTo(snapshot *firestore.DocumentSnapshot, v any) error {
	if version, _ := snapshot.DataAt("Version"); newer(version) {
		return connect.Errorf(connect.Unavailable, "Aurora is being updated.").Because(fmt.Errorf("%s is of schema version %v, and this release knows %d", snapshot.Ref.Path, version, connect.SchemaVersion))
	}
	if err := snapshot.DataTo(v); err != nil {
		return unreadable(snapshot, err)
	}
	return nil
}

func newer(version any) bool {
	n, ok := version.(int64)
	return ok && n > connect.SchemaVersion
}

// unreadable is the error of a document that is not as it was stored: another
// release's, or damaged. A retry may find a release that can read it.
func unreadable(snapshot *firestore.DocumentSnapshot, err error) error {
	return connect.Errorf(connect.Internal, "Stored data cannot be read.").Because(fmt.Errorf("decode %s: %w", snapshot.Ref.Path, err))
}

func decodeSetup(snapshot *firestore.DocumentSnapshot) (*connect.Setup, error) {
	var d setupDocument
	if err := dataTo(snapshot, &d); err != nil {
		return nil, err
	}
	if d.ExpireAt != nil {
		d.Setup.ExpireAt = *d.ExpireAt
	}
	var many bulk
	if err := unpack(d.Bulk, &many); err != nil {
		return nil, unreadable(snapshot, err)
	}
	d.Selected, d.Billing, d.Eligible, d.Projects, d.Warnings = many.Selected, many.Billing, many.Eligible, many.Projects, many.Warnings
	return &d.Setup, nil
}

// pair is an entry of a map. Keys that come from outside are no names of
// Firestore fields: those may not be empty or like __this__.
type pair[V any] struct {
	Key   string
	Value V
}

func pairs[V any](m map[string]V) []pair[V] {
	var all []pair[V]
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, pair[V]{key, m[key]})
	}
	return all
}

func unpair[V any](all []pair[V]) map[string]V {
	if all == nil {
		return nil
	}
	m := make(map[string]V, len(all))
	for _, p := range all {
		m[p.Key] = p.Value
	}
	return m
}

// resourceDocument is a resource as it is stored. Labels hides the resource's
// own.
type resourceDocument struct {
	connect.Resource
	Labels []pair[string]
}

func encodeResource(r connect.Resource) any {
	d := resourceDocument{Resource: r, Labels: pairs(r.Labels)}
	d.Resource.Labels = nil
	return d
}

func decodeResource(snapshot *firestore.DocumentSnapshot) (r connect.Resource, err error) {
	var d resourceDocument
	if err := dataTo(snapshot, &d); err != nil {
		return r, err
	}
	d.Resource.Labels = unpair(d.Labels)
	return d.Resource, nil
}

// discoveryDocument is a discovery as it is stored. Counts hides the
// discovery's own.
type discoveryDocument struct {
	connect.Discovery
	Tx     string
	Counts []pair[int]
}

func encodeDiscovery(d *connect.Discovery, tx string) (any, error) {
	stored := discoveryDocument{Discovery: *d, Tx: tx, Counts: pairs(d.Counts)}
	stored.Discovery.Counts = nil
	return stored, nil
}

func decodeDiscovery(snapshot *firestore.DocumentSnapshot) (*connect.Discovery, error) {
	var d discoveryDocument
	if err := dataTo(snapshot, &d); err != nil {
		return nil, err
	}
	d.Discovery.Counts = unpair(d.Counts)
	return &d.Discovery, nil
}

func encodeLogin(l *connect.Login, tx string) (any, error) { return loginDocument{*l, tx}, nil }

func decodeLogin(snapshot *firestore.DocumentSnapshot) (*connect.Login, error) {
	d := new(loginDocument)
	if err := dataTo(snapshot, d); err != nil {
		return nil, err
	}
	return &d.Login, nil
}

func encodeConnection(c *connect.Connection, tx string) (any, error) {
	bulk, err := pack(c.Projects)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	return connectionWith(c, tx, bulk), nil
}

// connectionWith is a connection as it is stored, with its projects packed.
func connectionWith(c *connect.Connection, tx string, bulk []byte) connectionDocument {
	d := connectionDocument{Connection: *c, Tx: tx, Bulk: bulk}
	d.Projects, d.Version = nil, connect.SchemaVersion // a release that knows no Bulk must leave it alone
	return d
}

func decodeConnection(snapshot *firestore.DocumentSnapshot) (*connect.Connection, error) {
	c, bulk, err := decodeLean(snapshot)
	if err != nil || bulk == nil {
		return c, err
	}
	if err := unpack(bulk, &c.Projects); err != nil {
		return nil, unreadable(snapshot, err)
	}
	return c, nil
}

// decodeLean leaves the projects packed; an earlier schema had none of that.
func decodeLean(snapshot *firestore.DocumentSnapshot) (c *connect.Connection, bulk []byte, err error) {
	d := new(connectionDocument)
	if err := dataTo(snapshot, d); err != nil {
		return nil, nil, err
	}
	return &d.Connection, d.Bulk, nil
}

// changeDocument is an entry of the ledger as it is stored: without what is
// empty, because a setup writes a hundred a project, and each field costs.
type changeDocument struct {
	ID         string
	UserID     string
	SetupID    string `firestore:",omitempty"`
	ProjectID  string `firestore:",omitempty"`
	Kind       connect.ChangeKind
	Target     string
	UniqueID   string `firestore:",omitempty"`
	Role       string `firestore:",omitempty"`
	Member     string `firestore:",omitempty"`
	Before     string `firestore:",omitempty"`
	State      connect.ChangeState
	Unanswered bool `firestore:",omitempty"`
	PlannedAt  time.Time
	DoneAt     time.Time `firestore:",omitempty"`
	UndoneAt   time.Time `firestore:",omitempty"`
	Version    int
}

func decodeChange(snapshot *firestore.DocumentSnapshot) (connect.Change, error) {
	var d changeDocument
	err := dataTo(snapshot, &d)
	return connect.Change(d), err
}
