package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// disconnect ends the connection at once and removes its tokens.
func (e *edge) disconnect(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	var request struct {
		Cleanup bool `json:"cleanup"`
	}
	if err := decode(r, &request); err != nil {
		return err
	}
	if request.Cleanup {
		// Refused rather than ignored: the caller would believe that the cloud
		// was cleaned up.
		return connect.Errorf(connect.Invalid, "cleanup is not offered by this release. Disconnect without it, and remove the accounts aurora-* from the root project.")
	}
	if err := e.Service.Disconnect(r.Context(), user); err != nil {
		return err
	}
	return e.json(w, http.StatusOK, struct {
		Success bool   `json:"success"`
		Message string `json:"message"`
	}{true, "GCP disconnected successfully"})
}
