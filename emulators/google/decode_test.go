package google

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBodiesAreReadAsProto3JSON(t *testing.T) {
	t.Parallel()
	type request struct {
		AccountID string         `json:"accountId"`
		Policy    *policyJSON    `json:"policy"`
		Check     usageCheck     `json:"check"`
		Force     bool           `json:"force"`
		Any       map[string]any `json:"any"`
	}
	tests := map[string]struct {
		body string
		want request
		text string // of the refusal
	}{
		"nothing":          {},
		"names":            {body: `{"accountId": "a", "force": true, "any": {"x": [1]}}`, want: request{AccountID: "a", Force: true, Any: map[string]any{"x": []any{1.0}}}},
		"names of the IDL": {body: `{"account_id": "a", "policy": {"bindings": [{"role": "r"}]}}`, want: request{AccountID: "a", Policy: &policyJSON{Bindings: []Binding{{Role: "r"}}}}},
		"null is absent":   {body: `{"accountId": null, "policy": null}`},
		"enumeration":      {body: `{"check": "SKIP"}`, want: request{Check: "SKIP"}},
		"other case":       {body: `{"AccountId": "a"}`, text: `Invalid JSON payload received. Unknown name "AccountId": Cannot find field.`},
		"all faults at once": {body: `{"policy": {"version": "x", "bindings": [{"role": "r", "nonsense": {}}]}, "force": "yes"}`, text: `Invalid value at 'force' (TYPE_BOOL), "yes"
Invalid JSON payload received. Unknown name "nonsense" at 'policy.bindings[0]': Cannot find field.
Invalid value at 'policy.version' (TYPE_INT32), "x"`},
		"number for text":       {body: `{"accountId": 5}`, text: `Invalid value at 'account_id' (TYPE_STRING), 5`},
		"list for text":         {body: `{"accountId": ["a"]}`, text: `Invalid JSON payload received. Unknown name "account_id": Proto field is not repeating, cannot start list.`},
		"object for text":       {body: `{"policy": {"etag": {}}}`, text: `Invalid JSON payload received. Unknown name "etag" at 'policy': Proto field is not a message.`},
		"no such value":         {body: `{"check": "MAYBE"}`, text: `Invalid value at 'check' (type.googleapis.com/google.api.serviceusage.v1.DisableServiceRequest.CheckIfServiceHasUsage), "MAYBE"`},
		"a list":                {body: `[]`, text: `Invalid JSON payload received. Unknown name "": Root element must be a message.`},
		"something more":        {body: `{} {}`, text: `Invalid JSON payload received. Unexpected token.`},
		"a fraction for number": {body: `{"policy": {"version": 1.5}}`, text: `Invalid value at 'policy.version' (TYPE_INT32), 1.5`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got request
			text := ""
			if err := decode([]byte(test.body), &got); err != nil {
				text = err.message
			}
			if diff := cmp.Diff(test.text, text); diff != "" {
				t.Fatalf("refusal (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// The etag of these bytes has both letters in which the alphabets differ.
func TestBytesComeInBothAlphabets(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"+/8=", "-_8=", "+/8", "-_8"} {
		if got, err := decodeBytes(text); err != nil || string(got) != "\xfb\xff" {
			t.Errorf("%s is %x, %v", text, got, err)
		}
	}
}
