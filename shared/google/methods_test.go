package google

import (
	"context"
	"reflect"
	"testing"

	"gcpconnect/shared/setup"
)

const agent = "aurora-f@p.iam.gserviceaccount.com"

// method is one call of a method of setup.Cloud, about project p.
type method struct {
	name string
	call func(context.Context, setup.Cloud) error
}

// methods are all of them.
func methods() []method {
	apis := []string{"run.googleapis.com", "compute.googleapis.com"}
	policy := func() *setup.Policy { return &setup.Policy{Etag: "BwYAAAAAAAA="} }
	return []method{
		{"Projects", func(ctx context.Context, c setup.Cloud) error { _, err := c.Projects(ctx); return err }},
		{"BillingEnabled", func(ctx context.Context, c setup.Cloud) error { _, err := c.BillingEnabled(ctx, "p"); return err }},
		{"TestPermissions", func(ctx context.Context, c setup.Cloud) error {
			_, err := c.TestPermissions(ctx, "p", []string{"run.services.list"})
			return err
		}},
		{"DisabledAPIs", func(ctx context.Context, c setup.Cloud) error { _, err := c.DisabledAPIs(ctx, "p", apis); return err }},
		{"EnableAPIs", func(ctx context.Context, c setup.Cloud) error { _, err := c.EnableAPIs(ctx, "p", apis); return err }},
		{"Operation", func(ctx context.Context, c setup.Cloud) error {
			_, err := c.Operation(ctx, "p", "operations/acat.p2-1-a")
			return err
		}},
		{"Account", func(ctx context.Context, c setup.Cloud) error { _, err := c.Account(ctx, "p", agent); return err }},
		{"CreateAccount", func(ctx context.Context, c setup.Cloud) error {
			_, err := c.CreateAccount(ctx, "p", "aurora-f", "Aurora", "Made by Aurora")
			return err
		}},
		{"EnableAccount", func(ctx context.Context, c setup.Cloud) error { return c.EnableAccount(ctx, "p", agent) }},
		{"DisableAccount", func(ctx context.Context, c setup.Cloud) error { return c.DisableAccount(ctx, "p", agent) }},
		{"DeleteAccount", func(ctx context.Context, c setup.Cloud) error { return c.DeleteAccount(ctx, "p", agent) }},
		{"DisableAPI", func(ctx context.Context, c setup.Cloud) error { return c.DisableAPI(ctx, "p", apis[0]) }},
		{"Policy", func(ctx context.Context, c setup.Cloud) error { _, err := c.Policy(ctx, "p"); return err }},
		{"SetPolicy", func(ctx context.Context, c setup.Cloud) error { return c.SetPolicy(ctx, "p", policy()) }},
		{"AccountPolicy", func(ctx context.Context, c setup.Cloud) error { _, err := c.AccountPolicy(ctx, "p", agent); return err }},
		{"SetAccountPolicy", func(ctx context.Context, c setup.Cloud) error { return c.SetAccountPolicy(ctx, "p", agent, policy()) }},
		{"EffectivelyAllowsAll", func(ctx context.Context, c setup.Cloud) error {
			_, err := c.EffectivelyAllowsAll(ctx, "p", "iam.allowedPolicyMemberDomains")
			return err
		}},
		{"OrgPolicy", func(ctx context.Context, c setup.Cloud) error {
			_, err := c.OrgPolicy(ctx, "p", "iam.allowedPolicyMemberDomains")
			return err
		}},
		{"AllowAll", func(ctx context.Context, c setup.Cloud) error {
			return c.AllowAll(ctx, "p", "iam.allowedPolicyMemberDomains", "")
		}},
		{"RestoreOrgPolicy", func(ctx context.Context, c setup.Cloud) error {
			return c.RestoreOrgPolicy(ctx, "p", "iam.allowedPolicyMemberDomains", "BwYAAAAAAAA=", `{"rules":[{"denyAll":true}]}`)
		}},
		{"Impersonate", func(ctx context.Context, c setup.Cloud) error { _, err := c.Impersonate(ctx, agent); return err }},
		{"SearchResources", func(ctx context.Context, c setup.Cloud) error {
			_, _, err := c.SearchResources(ctx, "p", "")
			return err
		}},
	}
}

func TestTheTableOfMethodsIsWhole(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, m := range methods() {
		listed[m.name] = true
	}
	for m := range reflect.TypeFor[setup.Cloud]().Methods() {
		if !listed[m.Name] {
			t.Errorf("%s is not in the table", m.Name)
		}
	}
}
