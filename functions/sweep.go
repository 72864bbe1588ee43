package functions

import "net/http"

// sweep finishes what nobody works on any more. A scheduler calls it.
func (e *edge) sweep(w http.ResponseWriter, r *http.Request) error {
	if _, err := e.Scheduler(e.function.Name).Service(r); err != nil {
		return err
	}
	if err := e.Service.Sweep(r.Context()); err != nil {
		return unavailable(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
