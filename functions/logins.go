package functions

import "slices"

// What the frontend is told in the parameter login.
const (
	loginPending      = "gcp_setup_pending" // with task_id: the setup
	loginConfirm      = "gcp_confirm"       // with task_id: what to confirm
	loginDenied       = "gcp_denied"
	loginAdminPolicy  = "gcp_admin_policy"
	loginScopeMissing = "gcp_scope_missing"
	loginExpired      = "gcp_expired"
	loginOtherBrowser = "gcp_other_browser"
	loginFailed       = "gcp_failed"
)

// LoginEnding is a way in which a login can end.
type LoginEnding struct {
	Value string // of the parameter login with which the browser comes back
	Text  string // for the user: what happened, and what to do next
}

// LoginEndings lists the ways in which a login can end, with words that a
// frontend can show as they are.
func LoginEndings() []LoginEnding { return slices.Clone(loginEndings) }

var loginEndings = []LoginEnding{
	{loginPending, "Google Cloud is being set up. This takes some minutes; you may close this page."},
	{loginConfirm, "You have consented at Google. Confirm here that it was you: until then nothing is connected or changed, and after 10 minutes the consent is given back."},
	{loginDenied, "You did not allow Aurora to access Google Cloud. Nothing was changed. Connect again if you did not mean to refuse."},
	{loginAdminPolicy, "The administrator of this Google account does not allow Aurora. Ask them to trust it in the Google Admin console (Security, API controls), or connect with another account."},
	{loginScopeMissing, "Aurora needs every permission on Google's page, and one was left unticked. Connect again and tick all of them."},
	{loginExpired, "This login was not finished within 10 minutes, or was finished before. Connect again."},
	{loginOtherBrowser, "This login was begun in another browser, so nothing was connected. If somebody sent you the link, do not use it. Otherwise connect again, in this browser and with cookies allowed."},
	{loginFailed, "Google Cloud could not be connected. Connect again in some minutes."},
}
