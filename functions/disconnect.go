package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// disconnect ends the connection at once and removes its tokens; or, with
// cleanup, after what setups changed in the customer's cloud is undone.
func (e *edge) disconnect(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	var request struct {
		Cleanup     bool `json:"cleanup"`
		DisableAPIs bool `json:"disable_apis"`
	}
	// A cleanup that is misspelled must not become a disconnect without one.
	if err := decodeStrict(r, &request); err != nil {
		return err
	}
	if request.DisableAPIs && !request.Cleanup {
		return connect.Errorf(connect.Invalid, "disable_apis goes with cleanup.")
	}
	answer := disconnected{Success: true, Message: "GCP disconnected successfully"}
	if !request.Cleanup {
		revocation, err := e.Service.Disconnect(r.Context(), user)
		if err != nil {
			return err
		}
		answer.Revocation, answer.Notice = optional(string(revocation)), revocation.Words()
		return e.json(w, http.StatusOK, answer)
	}
	s, err := e.Service.Remove(r.Context(), user, request.DisableAPIs)
	if err != nil {
		return err
	}
	answer.TaskID, answer.Message = s.ID, "GCP disconnected. What Aurora set up is being removed."
	return e.json(w, http.StatusAccepted, answer)
}

// disconnected is the answer to a disconnect.
type disconnected struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	TaskID  string `json:"task_id,omitempty"`
	// Revocation is the outcome at Google: revoked, shared (it
	// stands, for another connection's sake), unknown; absent if there was none.
	Revocation *string `json:"google_grant,omitempty"`
	Notice     string  `json:"notice,omitempty"`
}
