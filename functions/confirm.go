package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// confirm turns a login that waits for it into a connection: the user who
// began it is the one whose browser came back from Google.
func (e *edge) confirm(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	var request struct {
		TaskID string `json:"task_id"`
	}
	if err := decodeStrict(r, &request); err != nil {
		return err
	}
	if request.TaskID == "" {
		return connect.Errorf(connect.Invalid, "task_id is missing: it came with login=%s.", loginConfirm)
	}
	s, err := e.Service.Confirm(r.Context(), user, request.TaskID)
	if err != nil {
		return err
	}
	return e.json(w, http.StatusOK, started{"started", s.ID})
}

// started answers which setup was started.
type started struct {
	Status string `json:"status"`
	TaskID string `json:"task_id"`
}
