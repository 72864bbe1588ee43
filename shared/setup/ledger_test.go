package setup

import (
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/memory"
)

// An execution that dies after it has made changes, and before it has told of
// them, tells nobody how many there were. The one after it finds out.
func TestChangesOfADeadExecutionCount(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), memory.NewStore()
	execution := func() *ledger { return &ledger{store: store, userID: "u", setupID: "s"} }
	bindings := func(l *ledger) []connect.Change {
		return []connect.Change{
			l.entry("p", connect.ChangeAddBinding, "p", "roles/made", "m"),
			l.entry("p", connect.ChangeAddBinding, "p", "roles/planned", "m"),
			l.entry("p", connect.ChangeAddBinding, "p", "roles/there", "m"),
		}
	}
	dead := execution()
	changes := bindings(dead)
	if err := dead.plan(ctx, changes[:2]); err != nil {
		t.Fatal(err)
	}
	if err := dead.mark(ctx, changes[:1], connect.ChangeDone); err != nil {
		t.Fatal(err)
	}
	next := execution()
	if err := next.recover(ctx); err != nil {
		t.Fatal(err)
	}
	if ours, err := next.found(ctx, bindings(next)[:1]); err != nil || !ours {
		t.Errorf("what was made and marked counts as another's: %t, %v", !ours, err)
	}
	if ours, err := next.found(ctx, bindings(next)); err != nil || !ours {
		t.Errorf("what was made counts as another's: %t, %v", !ours, err)
	}
	if made, stood := next.counts(); made+stood != 0 {
		t.Errorf("unsettled work counts: %d made, %d stood", made, stood)
	}
	next.settle("p")
	if made, stood := next.counts(); made != 2 || stood != 1 {
		t.Errorf("%d made and %d stood, want 2 and 1", made, stood)
	}

	// So in a removal: it is the ledger that tells.
	began := time.Now()
	if err := execution().mark(ctx, changes, connect.ChangeUndone); err != nil {
		t.Fatal(err)
	}
	for since, want := range map[time.Time]int{began: 3, time.Now().Add(time.Second): 0} {
		removal := execution()
		if err := removal.undone(ctx, since); err != nil {
			t.Fatal(err)
		}
		if made, _ := removal.counts(); made != want {
			t.Errorf("%d undone, want %d", made, want)
		}
	}
}
