package functions

import (
	"net/http"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// token gives one of Aurora's services a short-lived access token of one of a
// user's two service accounts. Who got one is in the log, and the token is in
// the answer alone.
func (e *edge) token(w http.ResponseWriter, r *http.Request) error {
	service, err := e.Internal.Service(r)
	if err != nil {
		return err
	}
	var request struct {
		UserID    string `json:"userId"`
		ProjectID string `json:"projectId"`
		Mode      string `json:"mode"`
	}
	if err := decodeStrict(r, &request); err != nil {
		return err
	}
	if request.UserID == "" {
		return connect.Errorf(connect.Invalid, "userId is missing.")
	}
	if _, err := checkUserID(request.UserID); err != nil {
		return err
	}
	t, err := e.Service.AccountToken(r.Context(), request.UserID, request.ProjectID, setup.Mode(request.Mode))
	log := e.Log.With("audit", "account-token", "caller", service, "user", request.UserID, "project", t.ProjectID, "mode", request.Mode)
	if err != nil {
		log.Log(r.Context(), telemetry.LevelAudit, "token refused", "error", err)
		return err
	}
	log.Log(r.Context(), telemetry.LevelAudit, "token given", "account", t.Email, "expires_at", t.Expiry)
	return e.json(w, http.StatusOK, struct {
		AccessToken string `json:"access_token"`
		ExpireTime  string `json:"expire_time"`
		ProjectID   string `json:"project_id"`
		Email       string `json:"service_account_email"`
	}{t.Value.Reveal(), t.Expiry.UTC().Format(time.RFC3339), t.ProjectID, t.Email})
}
