package stack

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"

	"gcpconnect/functions/app"
	"gcpconnect/shared/connect"
)

// Counts are the operations of state, tokens and tasks, in the units that are
// billed: documents for Firestore, calls for Vault, tasks for Cloud Tasks.
type Counts struct {
	Transactions int64 // those that had to be repeated count again
	Reads        int64 // documents
	Writes       int64
	Deletes      int64
	Tasks        int64 // enqueued, those whose name was taken included
	VaultCalls   int64 // requests, logins and renewals included
	TokenWrites  int64 // of VaultCalls, those that store tokens
	TokenDeletes int64 // and those that delete them
}

// countingQueue counts tasks.
type countingQueue struct {
	connect.Queue

	enqueued *atomic.Int64
}

func (q *countingQueue) Enqueue(ctx context.Context, t connect.Task) error {
	q.enqueued.Add(1)
	return q.Queue.Enqueue(ctx, t)
}

// meter counts the calls to Firestore and Vault on their way.
type meter struct {
	transactions, reads, writes, deletes, vault, tokenWrites, tokenDeletes atomic.Int64
}

func (m *meter) watch() app.Watch {
	return app.Watch{
		Firestore: []grpc.DialOption{grpc.WithChainUnaryInterceptor(m.unary), grpc.WithChainStreamInterceptor(m.stream)},
		Vault:     func(next http.RoundTripper) http.RoundTripper { return meteredVault{m, next} },
	}
}

func (m *meter) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	switch r := req.(type) {
	case *firestorepb.BeginTransactionRequest:
		m.transactions.Add(1)
	case *firestorepb.CommitRequest:
		if len(r.GetTransaction()) == 0 {
			m.transactions.Add(1) // a single write, committed by itself
		}
		m.write(r.GetWrites())
	case *firestorepb.BatchWriteRequest:
		m.write(r.GetWrites())
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (m *meter) write(writes []*firestorepb.Write) {
	for _, w := range writes {
		if w.GetDelete() != "" {
			m.deletes.Add(1)
		} else {
			m.writes.Add(1)
		}
	}
}

func (m *meter) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, d, cc, method, opts...)
	return &meteredStream{stream, m}, err
}

// meteredStream counts the documents that come in; a missing one is read too.
type meteredStream struct {
	grpc.ClientStream
	meter *meter
}

func (s *meteredStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil {
		return err
	}
	switch r := message.(type) {
	case *firestorepb.BatchGetDocumentsResponse:
		if r.GetResult() != nil {
			s.meter.reads.Add(1)
		}
	case *firestorepb.RunQueryResponse:
		if r.GetDocument() != nil {
			s.meter.reads.Add(1)
		}
	}
	return nil
}

// meteredVault counts requests to Vault.
type meteredVault struct {
	meter *meter
	next  http.RoundTripper
}

func (v meteredVault) RoundTrip(r *http.Request) (*http.Response, error) {
	m := v.meter
	m.vault.Add(1)
	switch path := r.URL.Path; {
	case r.Method == http.MethodDelete:
		m.tokenDeletes.Add(1)
	case r.Method != http.MethodGet && strings.Contains(path, "/data/"):
		m.tokenWrites.Add(1)
	}
	return v.next.RoundTrip(r)
}
