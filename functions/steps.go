package functions

import (
	"net/http"
	"strconv"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// stepFunction is the function of one step of the chain. An answer of 2xx
// tells the queue that it is done with the task.
func stepFunction(name string) func(*edge, http.ResponseWriter, *http.Request) error {
	return func(e *edge, w http.ResponseWriter, r *http.Request) error {
		content, err := e.task(r)
		if err != nil {
			return err
		}
		t, err := setup.ParseTask(content)
		if err != nil {
			return err
		}
		if t.Step != name {
			return connect.Errorf(connect.Invalid, "This function runs the step %s, not %s.", name, t.Step)
		}
		if err := e.Runner.Handle(r.Context(), t, e.delivery(r)); err != nil {
			return unavailable(err)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// discoverProject is the function that discovers one project's resources.
func (e *edge) discoverProject(w http.ResponseWriter, r *http.Request) error {
	content, err := e.task(r)
	if err != nil {
		return err
	}
	if err := e.Runner.Discover(r.Context(), content, e.delivery(r)); err != nil {
		if connect.CodeOf(err) == connect.Invalid {
			return err
		}
		return unavailable(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// task reads the body of a request that only the queue may make.
func (e *edge) task(r *http.Request) ([]byte, error) {
	if _, err := e.Queue(e.function.Name).Service(r); err != nil {
		return nil, err
	}
	e.watch.delivery(r)
	return body(r)
}

// delivery reads from the queue's headers whether this is the last time that
// it delivers the task
// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler).
func (e *edge) delivery(r *http.Request) setup.Delivery {
	retries, err := strconv.Atoi(r.Header.Get("X-CloudTasks-TaskRetryCount"))
	return setup.Delivery{Last: err == nil && retries+1 >= e.MaxAttempts}
}

// unavailable makes the queue deliver the task again, whatever went wrong.
func unavailable(err error) error {
	if connect.CodeOf(err) == connect.Unavailable {
		return err
	}
	return connect.Errorf(connect.Unavailable, "The task could not be done yet.").Because(err)
}
