// Package memory keeps state, tokens and tasks in the memory of one process:
// the parts that the demonstration embeds and that fast tests run on. They
// pass the same suites (connecttest) as Firestore, Vault and Cloud Tasks do,
// and they are as strict: a closure that is not pure, a page token taken for
// an offset or a task that is not idempotent fails here too, and not for the
// first time in production.
//
// Nothing survives the process, and two processes share nothing: on Cloud Run,
// where every function is a process of its own, these are of no use.
package memory

import (
	"context"

	"gcpconnect/shared/connect"
)

// Counts are the operations since the start, in the units that Firestore
// bills: documents. Benchmarks print them.
type Counts struct {
	Transactions int64 // runs of a transaction, those that had to be repeated included
	Reads        int64 // documents read
	Writes       int64 // documents written; one that a closure left as it was is none
	Deletes      int64 // documents deleted
}

// alive fails when the caller has gone. A database in memory could answer
// nevertheless; one behind a network could not.
func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return connect.Errorf(connect.Unavailable, "The request ended before it was done.").Because(err)
	}
	return nil
}
