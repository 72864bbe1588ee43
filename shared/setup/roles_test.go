package setup

import (
	"slices"
	"strings"
	"testing"
)

func TestDefaultRolesAreNamedOneByOneWithReasonAndProof(t *testing.T) {
	t.Parallel()
	for set, roles := range map[string][]Role{"agent": DefaultAgentRoles(), "ask": DefaultAskRoles()} {
		for _, r := range roles {
			if r.Why == "" || r.Proof == "" {
				t.Errorf("%s role %s lacks its reason or its proof", set, r.Name)
			}
			if set == "ask" && !strings.Contains(r.Name, "iewer") && r.Name != "roles/serviceusage.serviceUsageConsumer" {
				t.Errorf("ask role %s is not known to be read-only", r.Name)
			}
		}
	}
}

func TestParseRoles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		names []string
		want  []string // role=proof
		err   string
	}{
		"a known role needs no proof":       {[]string{"roles/run.admin"}, []string{"roles/run.admin=run.services.setIamPolicy"}, ""},
		"another role names its own":        {[]string{" roles/dns.admin=dns.changes.create "}, []string{"roles/dns.admin=dns.changes.create"}, ""},
		"an unknown one without proof":      {[]string{"roles/dns.admin"}, nil, "PERMISSION"},
		"owner is refused":                  {[]string{"roles/owner"}, nil, "roles/owner is not granted"},
		"token creator is refused":          {[]string{tokenCreator}, nil, "impersonates every service account"},
		"editor is refused also with proof": {[]string{"roles/editor=x.y.z"}, nil, "roles/editor is not granted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roles, err := ParseRoles(tt.names)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("ParseRoles(%v) error = %v, want one with %q", tt.names, err, tt.err)
				}
				return
			}
			var got []string
			for _, r := range roles {
				got = append(got, r.Name+"="+r.Proof)
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("ParseRoles(%v) = %v, %v, want %v", tt.names, got, err, tt.want)
			}
		})
	}
}

func TestRequiredAPIs(t *testing.T) {
	t.Parallel()
	names := requiredAPIs()
	if len(names) != 25 {
		t.Errorf("%d APIs are required, want 25", len(names))
	}
	if slices.Contains(names, "containerregistry.googleapis.com") {
		t.Error("containerregistry.googleapis.com was shut down")
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
		t.Error("an API is named twice")
	}
	for _, a := range apis {
		if a.why == "" {
			t.Errorf("%s lacks its reason", a.name)
		}
	}
}

func TestAccountIDsFitGooglesRules(t *testing.T) {
	t.Parallel()
	got := accountID("user-1", "-f")
	if want := "aurora-c6c289e49e9c05b21458-f"; got != want { // printf user-1 | sha256sum
		t.Errorf("accountID = %q, want %q", got, want)
	}
	if got == accountID("user-2", "-f") || got == accountID("user-1", "-r") {
		t.Error("two accounts have one ID")
	}
	if email := accountEmail(got, "example.com:p"); email != got+"@p.example.com.iam.gserviceaccount.com" {
		t.Errorf("email in a domain's project = %q", email)
	}
}
