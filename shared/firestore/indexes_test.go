package firestore_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/firestore"
)

// The emulator answers every query, with or without an index; production
// answers FAILED_PRECONDITION to one that needs an index which is not there.
func TestEveryQueryHasItsIndex(t *testing.T) {
	t.Parallel()
	var file struct {
		Indexes []struct {
			CollectionGroup string
			Fields          []struct{ FieldPath, Order string }
		}
		FieldOverrides []override
	}
	content, err := os.ReadFile("indexes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	used := map[int]bool{}
	queries := queriesOf(t)
	if len(queries) != 8+4+8+2+6 { // changes, resources, deletions of them, discoveries, what the sweep and a disconnect look for
		t.Errorf("there are %d queries", len(queries))
	}
	for _, q := range queries {
		collection := q.GetFrom()[0].GetCollectionId()
		equal, rest := fieldsOf(q)
		if len(rest) == 0 || len(equal) == 0 && len(rest) == 1 {
			// An index of the single field serves it, or those of several
			// merged, unless the field is exempt from indexing.
			for _, field := range append(equal, rest...) {
				scope := "COLLECTION"
				if q.GetFrom()[0].GetAllDescendants() {
					scope = "COLLECTION_GROUP"
				}
				if !indexed(file.FieldOverrides, collection, field, scope) {
					t.Errorf("the query %v needs %s, which is not indexed for a %s", q, field, scope)
				}
			}
			continue
		}
		serves := func(equal []string) bool {
			served := false
			for i, index := range file.Indexes {
				var fields []string
				for _, f := range index.Fields {
					fields = append(fields, f.FieldPath+" "+f.Order)
				}
				if index.CollectionGroup != collection || len(fields) != len(equal)+len(rest) {
					continue
				}
				if first := slices.Sorted(slices.Values(fields[:len(equal)])); slices.Equal(first, equal) && slices.Equal(fields[len(equal):], rest) {
					served, used[i] = true, true
				}
			}
			return served
		}
		// One index, or one for each field that is compared, merged
		// (https://cloud.google.com/firestore/docs/query-data/index-overview#taking_advantage_of_index_merging).
		merged := !slices.ContainsFunc(equal, func(field string) bool { return !serves([]string{field}) })
		if !serves(equal) && !merged {
			t.Errorf("no index serves the query %v of fields %v and %v", q, equal, rest)
		}
	}
	// What expires is deleted, and what is large or has many values has no index.
	wanted := []override{
		{"logins", "ExpireAt", true, []fieldIndex{}}, {"setups", "ExpireAt", true, []fieldIndex{}},
		{"setups", "Bulk", false, []fieldIndex{}}, {"connections", "Bulk", false, []fieldIndex{}}, {"connections", "Projects", false, []fieldIndex{}}, {"resources", "Labels", false, []fieldIndex{}},
		{"discoveries", "StallsAt", false, []fieldIndex{{"ASCENDING", "COLLECTION"}, {"ASCENDING", "COLLECTION_GROUP"}}},
	}
	if diff := cmp.Diff(wanted, file.FieldOverrides); diff != "" {
		t.Errorf("field overrides (-want +got):\n%s", diff)
	}
	for i, index := range file.Indexes {
		if !used[i] {
			t.Errorf("no query needs the index %v", index)
		}
	}
}

// override is a field override of the file.
type override struct {
	CollectionGroup, FieldPath string
	TTL                        bool
	Indexes                    []fieldIndex
}

// fieldIndex is an index of one field.
type fieldIndex struct{ Order, QueryScope string }

// indexed reports whether a field, with its direction, has an index of its own.
// Where nothing else is said it has one within its collection.
func indexed(overrides []override, collection, field, scope string) bool {
	for _, o := range overrides {
		if order, ok := strings.CutPrefix(field, o.FieldPath+" "); ok && o.CollectionGroup == collection {
			return slices.Contains(o.Indexes, fieldIndex{order, scope})
		}
	}
	return scope == "COLLECTION"
}

// fieldsOf returns the fields that a query compares with ==, sorted, and those
// that it compares otherwise or orders by, in order, each with a direction.
func fieldsOf(q *firestorepb.StructuredQuery) (equal, rest []string) {
	var filters []*firestorepb.StructuredQuery_Filter
	switch f := q.GetWhere(); {
	case f.GetCompositeFilter() != nil:
		filters = f.GetCompositeFilter().GetFilters()
	case f != nil:
		filters = []*firestorepb.StructuredQuery_Filter{f}
	}
	for _, f := range filters {
		field, unary := f.GetFieldFilter(), f.GetUnaryFilter()
		switch {
		case unary != nil:
			rest = append(rest, unary.GetField().GetFieldPath()+" ASCENDING")
		case field.GetOp() == firestorepb.StructuredQuery_FieldFilter_EQUAL:
			equal = append(equal, field.GetField().GetFieldPath()+" ASCENDING")
		default:
			rest = append(rest, field.GetField().GetFieldPath()+" ASCENDING")
		}
	}
	slices.Sort(equal)
	for _, o := range q.GetOrderBy() {
		field := o.GetField().GetFieldPath()
		if field != "__name__" && !slices.Contains(equal, field+" ASCENDING") {
			rest = append(rest, field+" "+o.GetDirection().String())
		}
	}
	return equal, rest
}

// queriesOf returns every query that a store makes. None is answered.
func queriesOf(t *testing.T) []*firestorepb.StructuredQuery {
	t.Helper()
	var queries []*firestorepb.StructuredQuery
	errSeen := errors.New("seen")
	s, err := firestore.New(t.Context(), firestore.Options{Project: "test", Emulator: "127.0.0.1:1", DialOptions: []grpc.DialOption{
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return &watched{ctx: ctx, seen: func(m any) error {
				if r, ok := m.(*firestorepb.RunQueryRequest); ok {
					queries = append(queries, r.GetStructuredQuery())
				}
				return errSeen
			}}, nil
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	refused := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("a query that nobody answers succeeded")
		}
	}
	for _, setup := range []string{"", "setup"} {
		for _, state := range []connect.ChangeState{"", connect.ChangeDone} {
			for _, project := range []string{"", "project"} {
				_, _, err := s.Changes(ctx, "user", connect.ChangeQuery{SetupID: setup, ProjectID: project, State: state})
				refused(err)
			}
		}
	}
	for _, project := range []string{"", "project"} {
		for _, kind := range []string{"", "type"} {
			_, _, err := s.Resources(ctx, "user", connect.ResourceQuery{ProjectID: project, Type: kind})
			refused(err)
		}
		for _, runs := range [][2]string{{"", ""}, {"a", ""}, {"", "b"}, {"a", "b"}} {
			refused(s.DeleteResources(ctx, "user", connect.ResourceFilter{ProjectID: project, Run: runs[0], NotRun: runs[1]}))
		}
	}
	_, err = s.Discoveries(ctx, "user")
	refused(err)
	refused(s.DeleteDiscoveries(ctx, "user", 1))
	_, err = s.UsedLogins(ctx, time.Now(), 1)
	refused(err)
	_, err = s.UserLogins(ctx, "user", 1)
	refused(err)
	_, err = s.StaleConnections(ctx, time.Now(), 1)
	refused(err)
	_, err = s.StalledSetups(ctx, time.Now(), 1)
	refused(err)
	_, err = s.StalledDiscoveries(ctx, time.Now(), 1)
	refused(err)
	_, err = s.Grants(ctx, "subject")
	refused(err)
	return queries
}

// watched is a stream to nobody that shows what is sent on it.
type watched struct {
	grpc.ClientStream
	ctx  context.Context //nolint:containedctx // a stream has one
	seen func(any) error
}

func (w *watched) Context() context.Context { return w.ctx }
func (w *watched) SendMsg(m any) error      { return w.seen(m) }
func (w *watched) RecvMsg(any) error        { return errors.New("nobody answers") }

func TestNew_RefusesMissingProject(t *testing.T) {
	t.Parallel()
	for _, project := range []string{"", "*detect-project-id*"} {
		if s, err := firestore.New(t.Context(), firestore.Options{Project: project, Emulator: "127.0.0.1:1"}); err == nil {
			t.Errorf("made a store of project %q", project)
			_ = s.Close()
		}
	}
}
