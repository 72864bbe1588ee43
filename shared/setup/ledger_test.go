package setup

import (
	"testing"

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
	if err := next.recover(ctx, true); err != nil {
		t.Fatal(err)
	}
	if ours, err := next.found(ctx, bindings(next)[:1]); err != nil || !ours {
		t.Errorf("what was made and marked counts as another's: %t, %v", !ours, err)
	}
	if ours, err := next.found(ctx, bindings(next)); err != nil || !ours {
		t.Errorf("what was made counts as another's: %t, %v", !ours, err)
	}
	if _, stood := next.counts(); stood != 0 {
		t.Errorf("%d stood count of unsettled work", stood)
	}
	next.settle("p")
	if made, stood := next.counts(); made != 2 || stood != 1 {
		t.Errorf("%d made and %d stood, want 2 and 1", made, stood)
	}
}
