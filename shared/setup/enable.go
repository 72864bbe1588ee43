package setup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// maxBatchEnable is how many APIs one batchEnable takes
// (https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable).
const maxBatchEnable = 20

// stepEnable is where errors of enabling belong, also those that come to
// light when verify-permissions settles the operations.
const stepEnable = "enable-apis"

// enableAPIs starts to enable what is missing in each project. It does not
// wait: verify-permissions settles the operations.
func enableAPIs(ctx context.Context, r *Run) error {
	return r.each(ctx,
		func(p *connect.Project) bool { return p.APIs == "" },
		func(ctx context.Context, p *connect.Project) error {
			e := r.enabling(p)
			if err := e.begin(ctx); err != nil {
				e.refuse()
				p.APIs = r.outcome(err)
				return apiError(p.ID, err)
			}
			e.conclude()
			return nil
		})
}

// enabling is the work of enabling APIs in one project.
type enabling struct {
	r       *Run
	p       *connect.Project
	at      time.Time         // when what it starts was asked for
	refused map[string]string // API by API, Google's words
	changed bool
	// mayEnable says that the user is known to be allowed to enable APIs.
	mayEnable bool
}

func (r *Run) enabling(p *connect.Project) *enabling {
	return &enabling{r: r, p: p, at: time.Now(), refused: map[string]string{}}
}

// begin reads what is missing and starts to enable it.
func (e *enabling) begin(ctx context.Context) error {
	e.p.Operations = nil // of a try before this one: whatever is missing is asked for again
	required := requiredAPIs()
	missing, err := e.r.user.DisabledAPIs(ctx, e.p.ID, required)
	if err != nil {
		return err
	}
	standing := without(required, missing)
	if e.changed, err = e.r.ledger.found(ctx, e.entries(standing)); err != nil {
		return err
	}
	for batch := range slices.Chunk(missing, maxBatchEnable) {
		if err := e.start(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// start asks Google to enable APIs. A batch is atomic: one that is refused is
// asked for API by API, so that the good ones are enabled and the bad ones
// are named. It returns errors that are about the whole project.
func (e *enabling) start(ctx context.Context, names []string) error {
	entries := e.entries(names)
	ledger := e.r.ledger
	if err := ledger.plan(ctx, entries); err != nil {
		return err
	}
	operation, err := e.r.user.EnableAPIs(ctx, e.p.ID, names)
	if err == nil {
		e.changed = true
		if operation == "" {
			return ledger.mark(ctx, entries, connect.ChangeDone)
		}
		e.p.Operations = append(e.p.Operations, connect.Operation{Name: operation, APIs: shortAPIs(names), Batch: len(names) > 1})
		e.p.OperationsAt = e.at
		return nil
	}
	if retryable(err) {
		return err
	}
	if markErr := ledger.mark(ctx, entries, connect.ChangeRefused); markErr != nil {
		return markErr
	}
	switch whole, askErr := e.wholeProject(ctx, err); {
	case askErr != nil:
		return askErr
	case whole:
		return err
	case len(names) == 1:
		e.refused[names[0]] = connect.MessageOf(err)
		return nil
	}
	for _, name := range names {
		if err := e.start(ctx, []string{name}); err != nil {
			return err
		}
	}
	return nil
}

// settle finds out the results of the operations under way. It asks Google
// for the state of the APIs, which is the fact that counts, and for the
// operations only where an API is not enabled. Whenever it fails, the project
// still holds every operation whose APIs are neither enabled nor refused.
func (e *enabling) settle(ctx context.Context) error {
	var pending []string
	for _, o := range e.p.Operations {
		pending = append(pending, fullAPIs(o.APIs)...)
	}
	disabled, err := e.r.user.DisabledAPIs(ctx, e.p.ID, pending)
	if err != nil {
		return err
	}
	if err := e.mark(ctx, without(pending, disabled), connect.ChangeDone); err != nil {
		return err
	}
	e.changed = true
	var waiting []connect.Operation
	for _, o := range e.p.Operations {
		if o.APIs = shortAPIs(intersect(fullAPIs(o.APIs), disabled)); len(o.APIs) > 0 {
			waiting = append(waiting, o)
		}
	}
	e.p.Operations = waiting
	var under, broken []connect.Operation
	var refused []string
	for _, o := range waiting {
		result, err := e.r.user.Operation(ctx, e.p.ID, o.Name)
		if err != nil {
			return err
		}
		names := fullAPIs(o.APIs)
		switch {
		case result.Done && result.Message != "" && o.Batch: // one by one shows which of them is to blame
			broken = append(broken, o)
			continue
		case result.Done && result.Message != "":
			e.refused[names[0]] = result.Message
			refused = append(refused, names[0])
			continue
		}
		for name, why := range result.Failed {
			e.refused[name] = why
			refused = append(refused, name)
		}
		// The others are under way, or enabled by the operation's word and not
		// yet by the API's own.
		if o.APIs = shortAPIs(without(names, refused)); len(o.APIs) > 0 {
			under = append(under, o)
		}
	}
	if err := e.mark(ctx, refused, connect.ChangeRefused); err != nil {
		return err
	}
	e.refuse()
	e.p.Operations = under
	for i, o := range broken {
		for k, name := range fullAPIs(o.APIs) {
			if err := e.start(ctx, []string{name}); err != nil {
				o.APIs = o.APIs[k:]
				e.p.Operations = append(append(e.p.Operations, o), broken[i+1:]...)
				return err
			}
		}
	}
	return nil
}

// closeBooks finds out, when a setup ends before its operations were settled,
// which of the APIs are enabled by now: nobody will look again, and the ledger
// must not leave open what can be known. What cannot be stays planned.
func (r *Run) closeBooks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	err := concurrently(ctx, len(r.Setup.Projects), func(ctx context.Context, i int) error {
		p := r.Setup.Projects[i].Clone()
		var pending []string
		for _, o := range p.Operations {
			pending = append(pending, fullAPIs(o.APIs)...)
		}
		if len(pending) == 0 {
			return nil
		}
		disabled, err := r.user.DisabledAPIs(ctx, p.ID, pending)
		if err != nil {
			return err
		}
		return r.enabling(&p).mark(ctx, without(pending, disabled), connect.ChangeDone)
	})
	if err != nil {
		r.log.WarnContext(ctx, "it is not known which APIs are enabled", "error", err)
	}
}

// refuse records in the project which APIs were refused.
func (e *enabling) refuse() {
	e.p.Refuse(stepEnable, "Error enabling required APIs in project "+e.p.ID+": ", e.refused, ". Enable them in the Google Cloud console, then retry.")
	clear(e.refused)
}

// conclude puts the outcome into the project.
func (e *enabling) conclude() {
	e.refuse()
	switch {
	case len(e.p.Operations) > 0:
		e.p.APIs = connect.OutcomeStarted
	case e.p.Failed(stepEnable):
		e.p.APIs = connect.OutcomeFailed
	case e.changed:
		e.p.APIs = connect.OutcomeChanged
	default:
		e.p.APIs = connect.OutcomeUnchanged
	}
}

// entries are the ledger's entries of enabling APIs.
func (e *enabling) entries(names []string) []connect.Change {
	entries := make([]connect.Change, len(names))
	for i, name := range names {
		entries[i] = e.r.ledger.entry(e.p.ID, connect.ChangeEnableAPI, name, "", "")
	}
	return entries
}

// mark records the results for APIs whose enabling was asked for earlier.
func (e *enabling) mark(ctx context.Context, names []string, state connect.ChangeState) error {
	entries := e.entries(names)
	for i := range entries {
		entries[i].PlannedAt = e.p.OperationsAt
	}
	return e.r.ledger.mark(ctx, entries, state)
}

// wholeProject reports whether an error of enabling is about the project or
// the user, not about one of the APIs. A 403 can be either, and looks the same:
// whether the user may enable APIs at all is asked, once.
func (e *enabling) wholeProject(ctx context.Context, err error) (bool, error) {
	switch reason := connect.ReasonOf(err); {
	case reason == ReasonBillingMissing, reason == ReasonServiceDisabled, connect.CodeOf(err) == connect.NeedsReauth:
		return true, nil
	case connect.CodeOf(err) != connect.Forbidden || e.mayEnable:
		return false, nil
	}
	granted, err := e.r.user.TestPermissions(ctx, e.p.ID, []string{"serviceusage.services.enable"})
	e.mayEnable = len(granted) == 1
	return !e.mayEnable, err
}

// apiError puts an error of enabling into the words that users know.
func apiError(projectID string, err error) error {
	return explain(err, "Error enabling required APIs in project "+projectID+": ", map[connect.Code]string{
		connect.Forbidden:    "Ask for Editor, or Service Usage Admin, on the project, then retry.",
		connect.Precondition: "Check the project's billing, then retry.",
	})
}

// explain puts an error's message for people into its place: what was being
// done before it, and what to do next, by class, after it.
func explain(err error, doing string, next map[connect.Code]string) error {
	code := connect.CodeOf(err)
	if err == nil || code == connect.NeedsReauth || errors.As(err, new(later)) {
		return err
	}
	advice := next[code]
	if advice == "" && retryable(err) {
		advice = "Retry in some minutes."
	}
	message := strings.TrimSpace(strings.TrimSuffix(doing+connect.MessageOf(err), ".") + ". " + advice)
	explained := &connect.Error{Code: code, Reason: connect.ReasonOf(err), Message: message, Err: err}
	if e, ok := errors.AsType[*connect.Error](err); ok {
		explained.RetryAfter = e.RetryAfter
	}
	return explained
}

// outcome is the outcome of a phase that ended with err: none yet when a
// retry may mend it.
func (r *Run) outcome(err error) connect.Outcome {
	switch {
	case connect.CodeOf(err) == connect.NeedsReauth, errors.As(err, new(later)), paced(err) > 0, retryable(err) && !r.last:
		return ""
	case connect.CodeOf(err) == connect.Forbidden:
		return connect.OutcomeForbidden
	}
	return connect.OutcomeFailed
}

// without returns the names that are not among the others, intersect those
// that are; both in the order of names.
func without(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(others, n) })
}

func intersect(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(others, n) })
}
