package google

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"
)

// A when is a condition as far as it is understood: comparisons of the time of
// the request with a timestamp, joined by &&, as access that expires is written
// (https://cloud.google.com/iam/docs/configuring-temporary-access). A nil when
// is no condition.
type when struct {
	other bool // it is about something else
	tests []func(time.Time) bool
}

var timeTest = regexp.MustCompile(`^request\.time\s*(<=|>=|<|>)\s*timestamp\(\s*["']([^"']+)["']\s*\)$`)

// readCondition reads a condition as keyOf wrote it; "" is none.
func readCondition(encoded string) *when {
	if encoded == "" {
		return nil
	}
	var c Condition
	if json.Unmarshal([]byte(encoded), &c) != nil {
		return &when{other: true}
	}
	w := new(when)
	for _, clause := range strings.Split(c.Expression, "&&") {
		parts := timeTest.FindStringSubmatch(strings.TrimSpace(clause))
		if parts == nil {
			return &when{other: true}
		}
		limit, err := time.Parse(time.RFC3339, parts[2])
		if err != nil {
			return &when{other: true}
		}
		w.tests = append(w.tests, map[string]func(time.Time) bool{
			"<":  func(t time.Time) bool { return t.Before(limit) },
			"<=": func(t time.Time) bool { return !t.After(limit) },
			">":  func(t time.Time) bool { return t.After(limit) },
			">=": func(t time.Time) bool { return !t.Before(limit) },
		}[parts[1]])
	}
	return w
}

// holds says whether the condition does at a time. What is not understood is
// as the scenario says.
func (w *when) holds(t time.Time, others bool) bool {
	if w == nil {
		return true
	}
	if w.other {
		return others
	}
	for _, test := range w.tests {
		if !test(t) {
			return false
		}
	}
	return true
}
