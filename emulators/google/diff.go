package google

import (
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
)

// Diff says what changed from one snapshot to another: a sorted line for each
// thing that was added (+), removed (-) or changed (~), such as
//
//   - project-001 binding roles/viewer serviceAccount:a@project-001.iam.gserviceaccount.com
//     ~ project-001 project ACTIVE, billing true -> ACTIVE, billing false
//
// Bindings are compared member by member. Snapshots of equal state give nil.
func Diff(before, after Snapshot) []string {
	was, is := facts(before), facts(after)
	names := maps.Clone(was)
	maps.Copy(names, is)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, had := was[name]
		now, has := is[name]
		switch {
		case !had:
			lines = append(lines, strings.TrimSuffix("+ "+name+" "+now, " "))
		case !has:
			lines = append(lines, strings.TrimSuffix("- "+name+" "+old, " "))
		case old != now:
			lines = append(lines, fmt.Sprintf("~ %s %s -> %s", name, old, now))
		}
	}
	return lines
}

// Changes is the Diff from the scenario's beginning to now.
func (s *Server) Changes() []string {
	s.mu.Lock()
	started := s.world.started
	random := mathrand.New(mathrand.NewPCG(s.seed, seedOfRuns)) //nolint:gosec // so that IDs are those of the beginning
	beginning := newWorld(s.loaded.clone(), random, started).state(started)
	s.mu.Unlock()
	return Diff(beginning, s.Snapshot())
}

// facts are the things of a snapshot by name, each with what may change of it.
func facts(s Snapshot) map[string]string {
	out := map[string]string{}
	bind := func(where string, bindings []Binding) {
		for _, b := range bindings {
			role := b.Role
			if b.Condition != nil {
				role += " if " + asJSON(b.Condition)
			}
			for _, member := range b.Members {
				out[where+" binding "+role+" "+member] = ""
			}
		}
	}
	for _, p := range s.Projects {
		out[p.ID+" project"] = fmt.Sprintf("%s, billing %t", p.State, p.BillingEnabled)
		bind(p.ID, p.Bindings)
		for _, api := range p.EnabledAPIs {
			out[p.ID+" api "+api] = ""
		}
		for _, a := range p.ServiceAccounts {
			out[p.ID+" account "+a.Email] = asJSON(map[string]any{"uniqueId": a.UniqueID, "displayName": a.DisplayName, "description": a.Description, "disabled": a.Disabled})
			bind(p.ID+" account "+a.Email, a.Bindings)
		}
		for name, spec := range p.OrgPolicies {
			out[p.ID+" policy "+name] = asJSON(spec)
		}
	}
	for _, c := range s.Consents {
		out["consent "+c.User+" "+c.Project] = fmt.Sprintf("%s, %d refresh tokens", strings.Join(c.Scopes, " "), c.RefreshTokens)
	}
	return out
}

func asJSON(v any) string {
	encoded, _ := json.Marshal(v) // texts, numbers and what is made of them always encode
	return string(encoded)
}
