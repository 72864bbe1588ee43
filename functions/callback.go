package functions

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
)

// refusals are the answers of Google that have a value of their own
// (https://developers.google.com/identity/protocols/oauth2/web-server#authorization-errors).
var refusals = map[string]string{
	"access_denied":         loginDenied,
	"admin_policy_enforced": loginAdminPolicy,
	"org_internal":          loginAdminPolicy,
}

// answer is what Google sends with the browser.
type answer struct {
	Code  connect.Secret
	State connect.Secret
	Error string
}

// parseAnswer reads Google's answer from the query or the form.
func parseAnswer(form url.Values) (answer, error) {
	a := answer{connect.Secret(form.Get("code")), connect.Secret(form.Get("state")), form.Get("error")}
	switch {
	case a.State == "":
		return answer{}, connect.Errorf(connect.Invalid, "state is missing. Begin the login again in Aurora.")
	case a.Code == "" && a.Error == "":
		return answer{}, connect.Errorf(connect.Invalid, "code is missing. Begin the login again in Aurora.")
	case len(a.State) > 512:
		return answer{}, connect.Errorf(connect.Invalid, "state is too long. Begin the login again in Aurora.")
	case len(a.Code) > 4096:
		return answer{}, connect.Errorf(connect.Invalid, "code is too long. Begin the login again in Aurora.")
	}
	return a, nil
}

// callback takes the browser back from Google: it uses up the login, checks
// that the browser is the one that began it, turns the code into tokens and
// starts the setup. Where logins are bound by confirmation instead of a cookie,
// it parks the tokens and starts nothing. It redirects to the configured
// frontend and nowhere else.
func (e *edge) callback(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if r.Method == http.MethodHead { // a preview of the address must not use up the login
		return connect.Errorf(connect.Invalid, "This path takes GET or POST.")
	}
	if err := r.ParseForm(); err != nil {
		return connect.Errorf(connect.Invalid, "The parameters cannot be read.").Because(err)
	}
	a, err := parseAnswer(r.Form)
	if err != nil {
		return err
	}
	stateHash := connect.Hash(a.State.Reveal())
	l, err := e.Store.ConsumeLogin(ctx, stateHash, time.Now())
	http.SetCookie(w, e.cookie(stateHash, "", -time.Second))
	if err == nil && (a.Error != "" || l.BrowserHash != "" && !e.began(r, l)) {
		e.forget(ctx, l)
	}
	switch {
	case refusals[a.Error] != "":
		return e.toFront(w, r, refusals[a.Error], "")
	case connect.CodeOf(err) == connect.NotFound:
		return e.toFront(w, r, loginExpired, "")
	case err != nil:
		e.Log.ErrorContext(ctx, "login could not be read", "error", err)
		return e.toFront(w, r, loginFailed, "")
	case l.BrowserHash != "" && !e.began(r, l):
		e.Log.WarnContext(ctx, "callback came from another browser than the login", "user", l.UserID)
		return e.toFront(w, r, loginOtherBrowser, "")
	case a.Error != "":
		e.Log.WarnContext(ctx, "google refused the login", "user", l.UserID, "cause", clip(a.Error))
		return e.toFront(w, r, loginFailed, "")
	}
	proof, err := e.Logins.Proof(ctx, a.State.Reveal(), l.KeyVersion)
	if err != nil {
		e.Log.ErrorContext(ctx, "login key could not be read", "user", l.UserID, "error", err)
		e.forget(ctx, l)
		return e.toFront(w, r, loginFailed, "")
	}
	grant, err := e.OAuth.Exchange(ctx, a.Code, proof)
	if err != nil {
		e.Log.WarnContext(ctx, "code was not exchanged", "user", l.UserID, "error", err)
		e.forget(ctx, l)
		if connect.ReasonOf(err) == oauth.ReasonScopeMissing {
			return e.toFront(w, r, loginScopeMissing, "")
		}
		return e.toFront(w, r, loginFailed, "")
	}
	if l.BrowserHash == "" { // which browser this is, the user will say
		handle, err := e.Service.Park(ctx, l, setup.Consent(grant))
		if connect.CodeOf(err) == connect.NotFound { // the user has disconnected meanwhile
			return e.toFront(w, r, loginExpired, "")
		}
		if err != nil {
			e.Log.ErrorContext(ctx, "login was not parked", "user", l.UserID, "error", err)
			return e.toFront(w, r, loginFailed, "")
		}
		return e.toFront(w, r, loginConfirm, handle)
	}
	s, err := e.Service.Connect(ctx, l, setup.Consent(grant))
	if connect.CodeOf(err) == connect.NotFound { // the user has disconnected meanwhile
		return e.toFront(w, r, loginExpired, "")
	}
	if err != nil {
		e.Log.ErrorContext(ctx, "setup was not started", "user", l.UserID, "error", err)
		return e.toFront(w, r, loginFailed, "")
	}
	return e.toFront(w, r, loginPending, s.ID)
}

// forget deletes the record of a login that ended without tokens: it says who
// tried to connect, and nobody needs it any more.
func (e *edge) forget(ctx context.Context, l *connect.Login) {
	if err := e.Store.DeleteLogin(ctx, l.StateHash); err != nil {
		e.Log.WarnContext(ctx, "login record stays for now", "error", err)
	}
}

// began reports whether the request's browser is the one that began the login.
func (e *edge) began(r *http.Request, l *connect.Login) bool {
	c, err := r.Cookie(e.cookieName(l.StateHash))
	return err == nil && l.Began(c.Value)
}

// toFront redirects to the frontend with the outcome of the login.
func (e *edge) toFront(w http.ResponseWriter, r *http.Request, login, taskID string) error {
	target := *e.Front
	query := target.Query()
	query.Set("login", login)
	if taskID != "" {
		query.Set("task_id", taskID)
	}
	target.RawQuery = query.Encode()
	http.Redirect(w, r, target.String(), http.StatusFound)
	return nil
}

// clip shortens what came from outside for the log.
func clip(s string) string { return s[:min(len(s), 64)] }
