package functions

import (
	"net/http"
	"time"
	"unicode/utf8"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/oauth"
)

// login begins a login: it remembers who began it in which browser, and
// answers where to send the browser.
func (e *edge) login(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		UserID string `json:"userId"`
		OrgID  string `json:"orgId"`
	}
	unreadable := decode(r, &request)
	if r.Header.Get(userHeader) == "" && request.UserID != "" {
		r.Header.Set(userHeader, request.UserID) // the original named the user in the body
	}
	user, err := e.user(r)
	if err != nil {
		return err
	}
	if unreadable != nil { // said to nobody but a user
		return unreadable
	}
	if org := r.Header.Get("X-Org-ID"); org != "" {
		request.OrgID = org
	}
	if len(request.OrgID) > maxUserID || !utf8.ValidString(request.OrgID) {
		return connect.Errorf(connect.Invalid, "orgId must be UTF-8 of at most %d bytes.", maxUserID)
	}
	state, browser := oauth.NewState(), ""
	if !e.ConfirmLogins {
		browser = connect.NewID()
	}
	l, err := connect.NewLogin(user, request.OrgID, state, browser, time.Now())
	if err != nil {
		return err
	}
	var address string
	address, l.KeyVersion = e.Logins.Begin(state)
	if err := e.Store.CreateLogin(r.Context(), l); err != nil {
		return err
	}
	if browser != "" {
		http.SetCookie(w, e.cookie(l.StateHash, browser, connect.LoginLifetime))
	}
	return e.json(w, http.StatusOK, struct {
		LoginURL string `json:"login_url"`
	}{address})
}

// cookie binds a login to the browser that began it. Its name holds a part of
// the state's hash, so that logins in several tabs do not disturb each other.
// A negative lifetime deletes it.
func (e *edge) cookie(stateHash, value string, lifetime time.Duration) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure but on loopback, where configuration allows plain http
		Name: e.cookieName(stateHash), Value: value, Path: "/", MaxAge: int(lifetime.Seconds()),
		HttpOnly: true, Secure: e.SecureCookies,
		SameSite: http.SameSiteLaxMode, // sent on the top-level redirect from Google
	}
}

func (e *edge) cookieName(stateHash string) string {
	name := "aurora-login-" + stateHash[:16]
	if e.SecureCookies {
		return "__Host-" + name // browsers take it only from this very host, over HTTPS
	}
	return name
}
