package setup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPolicyEditsLeaveConditionalBindingsAlone(t *testing.T) {
	t.Parallel()
	condition := &Condition{Title: "working hours", Expression: "request.time.getHours() < 18"}
	policy := func() *Policy {
		return &Policy{Etag: "e", Bindings: []Binding{
			{Role: "roles/viewer", Members: []string{"user:a"}, Condition: condition},
			{Role: "roles/viewer", Members: []string{"user:b"}},
		}}
	}
	tests := map[string]struct {
		edit    func(*Policy) bool
		changed bool
		want    []Binding
	}{
		"a member with the role only under a condition gets it without one": {
			func(p *Policy) bool { return p.Add("roles/viewer", "user:a") }, true,
			[]Binding{{Role: "roles/viewer", Members: []string{"user:a"}, Condition: condition}, {Role: "roles/viewer", Members: []string{"user:b", "user:a"}}},
		},
		"a member that has the role is not added": {
			func(p *Policy) bool { return p.Add("roles/viewer", "user:b") }, false, policy().Bindings,
		},
		"a new role gets a binding of its own": {
			func(p *Policy) bool { return p.Add("roles/run.admin", "user:a") }, true,
			append(policy().Bindings, Binding{Role: "roles/run.admin", Members: []string{"user:a"}}),
		},
		"removing the last member removes the binding": {
			func(p *Policy) bool { return p.Remove("roles/viewer", "user:b") }, true, policy().Bindings[:1],
		},
		"a member with the role only under a condition is not removed": {
			func(p *Policy) bool { return p.Remove("roles/viewer", "user:a") }, false, policy().Bindings,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy()
			if changed := tt.edit(p); changed != tt.changed {
				t.Errorf("changed = %v, want %v", changed, tt.changed)
			}
			if diff := cmp.Diff(tt.want, p.Bindings); diff != "" {
				t.Errorf("bindings (-want +got):\n%s", diff)
			}
		})
	}
}
