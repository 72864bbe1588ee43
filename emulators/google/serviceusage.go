package google

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

type serviceJSON struct {
	Name   string `json:"name"`
	Parent string `json:"parent,omitempty"`
	State  string `json:"state"`
}

type serviceFailureJSON struct {
	ServiceID    string `json:"serviceId"`
	ErrorMessage string `json:"errorMessage"`
}

const suType = "type.googleapis.com/google.api.serviceusage.v1."

// service renders a service: only an enabled one has a parent.
func (p *project) service(name string, now time.Time) serviceJSON {
	out := serviceJSON{Name: p.name + "/services/" + name, State: "DISABLED"}
	if p.services[name].enabled(now) {
		out.Parent, out.State = p.name, "ENABLED"
	}
	return out
}

func notFoundOrDenied(services ...string) *apiError {
	list := strings.Join(services, ",")
	return errorf(http.StatusForbidden, "PERMISSION_DENIED", "Not found or permission denied for service(s): %s.", list).with(
		preconditionFailure("googleapis.com", "?error_code=220002&services="+list, ""),
		errorInfo("SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "serviceusage.googleapis.com", map[string]string{"services": list}))
}

func (c *call) getService() (any, *apiError) {
	if name := c.vars["service"]; !c.world.scenario.serviceExists(name) {
		return nil, notFoundOrDenied(name)
	}
	return c.project.service(c.vars["service"], c.now), nil
}

func (c *call) listServices() (any, *apiError) {
	filter := c.r.URL.Query().Get("filter")
	want, ok := map[string]string{"": "", "state:ENABLED": "ENABLED", "state:DISABLED": "DISABLED"}[filter]
	if !ok {
		return nil, invalid("Invalid filter: %s", filter)
	}
	var names []string
	for name := range catalog {
		names = append(names, name)
	}
	names = append(names, c.world.scenario.Services...)
	names = slices.DeleteFunc(names, func(name string) bool {
		return want != "" && c.project.service(name, c.now).State != want
	})
	slices.Sort(names)
	names = slices.Compact(names)
	from, to, next, err := c.page(names, 50, 200, filter)
	if err != nil {
		return nil, err
	}
	var out struct {
		Services      []serviceJSON `json:"services,omitempty"`
		NextPageToken string        `json:"nextPageToken,omitempty"`
	}
	out.NextPageToken = next
	for _, name := range names[from:to] {
		out.Services = append(out.Services, c.project.service(name, c.now))
	}
	return out, nil
}

func (c *call) batchGetServices() (any, *apiError) {
	names := c.r.URL.Query()["names"]
	if len(names) > 30 {
		return nil, invalid("Number of services to get exceeds the limit of 30.")
	}
	var out struct {
		Services []serviceJSON `json:"services,omitempty"`
	}
	var unknown []string
	for _, full := range names {
		parent, name, ok := strings.Cut(full, "/services/")
		if !ok || c.world.projectNamed(strings.TrimPrefix(parent, "projects/")) != c.project {
			return nil, invalid("Service name %q does not belong to the parent %q.", full, "projects/"+c.vars["project"])
		}
		if !c.world.scenario.serviceExists(name) {
			unknown = append(unknown, name)
			continue
		}
		out.Services = append(out.Services, c.project.service(name, c.now))
	}
	if len(unknown) > 0 {
		return nil, notFoundOrDenied(unknown...)
	}
	return out, nil
}

func (c *call) enableService() (any, *apiError) {
	if err := decode(c.body, &struct{}{}); err != nil {
		return nil, err
	}
	return c.enable([]string{c.vars["service"]}, "EnableServiceResponse")
}

func (c *call) batchEnableServices() (any, *apiError) {
	var req struct {
		ServiceIDs []string `json:"serviceIds"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	switch n := len(req.ServiceIDs); {
	case n == 0:
		return nil, invalid("At least one service must be specified.")
	case n == 1:
		return nil, invalid("Batch enabling a single service is not supported. Use EnableService instead.")
	case n > 20:
		return nil, invalid("Number of services to enable exceeds the limit of 20.")
	}
	for i, name := range req.ServiceIDs {
		if slices.Contains(req.ServiceIDs[:i], name) {
			return nil, invalid("Service %s is specified more than once.", name)
		}
	}
	return c.enable(req.ServiceIDs, "BatchEnableServicesResponse")
}

// enable is atomic: whatever is wrong with one service is wrong with the call,
// and nothing changes.
func (c *call) enable(names []string, kind string) (any, *apiError) {
	p := c.project
	var unknown, missing, unpaid []string
	for _, name := range names {
		if !c.world.scenario.serviceExists(name) {
			unknown = append(unknown, name)
		}
		if !p.services[name].enabled(c.now) {
			missing = append(missing, name)
			if needBilling[name] && !p.billingEnabled() {
				unpaid = append(unpaid, name)
			}
		}
	}
	if len(unknown) > 0 {
		return nil, notFoundOrDenied(unknown...)
	}
	if len(missing) == 0 {
		return operationJSON{Name: "operations/noop.DONE_OPERATION", Done: true, Response: p.enabledResponse(kind, names, nil, c.now)}, nil
	}
	if len(unpaid) > 0 {
		return nil, p.billingMissing(unpaid)
	}
	if err := c.busy(); err != nil {
		return nil, err
	}
	op := c.newOperation(kind, names)
	for _, name := range missing {
		switch failure := p.nextFailure(name); {
		case failure == nil:
		case failure.At == "failures":
			op.failures = append(op.failures, serviceFailureJSON{name, failure.error(name).message})
		case failure.At == "operation":
			op.err = failure.error(name)
		default:
			return nil, failure.error(name)
		}
	}
	c.world.begin(op)
	if op.err == nil {
		for _, name := range missing {
			if !slices.ContainsFunc(op.failures, func(f serviceFailureJSON) bool { return f.ServiceID == name }) && !p.pending(name, c.now) {
				p.services[name] = &serviceState{from: op.doneAt}
			}
		}
	}
	return operationJSON{Name: op.name}, nil
}

// pending reports whether an earlier operation will enable the service.
func (p *project) pending(name string, now time.Time) bool {
	state := p.services[name]
	return state != nil && state.until.IsZero() && now.Before(state.from)
}

type usageCheck string

func (usageCheck) values() (string, []string) {
	return "google.api.serviceusage.v1.DisableServiceRequest.CheckIfServiceHasUsage", []string{"CHECK_IF_SERVICE_HAS_USAGE_UNSPECIFIED", "SKIP", "CHECK"}
}

// disableService finds no usage and no dependent services: neither is emulated.
func (c *call) disableService() (any, *apiError) {
	var req struct {
		CheckIfServiceHasUsage   usageCheck `json:"checkIfServiceHasUsage"`
		DisableDependentServices bool       `json:"disableDependentServices"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	name := c.vars["service"]
	switch state := c.project.services[name]; {
	case !c.world.scenario.serviceExists(name):
		return nil, notFoundOrDenied(name)
	case !state.enabled(c.now):
		return nil, precondition("Service %s is not enabled.", name)
	}
	if err := c.busy(); err != nil {
		return nil, err
	}
	op := c.newOperation("DisableServiceResponse", []string{name})
	c.world.begin(op)
	c.project.services[name].until = op.doneAt
	return operationJSON{Name: op.name}, nil
}

func (p *project) billingMissing(services []string) *apiError {
	list := strings.Join(services, ",")
	return precondition("Billing account for project '%s' is not found. Billing must be enabled for activation of service(s) '%s' to proceed.", p.number, list).with(
		preconditionFailure("googleapis.com/billing-enabled", "?error_code=390001&project="+p.number+"&services="+list, ""),
		errorInfo("UREQ_PROJECT_BILLING_NOT_FOUND", "serviceusage.googleapis.com/billing-enabled", map[string]string{"project": p.number, "services": list}))
}

// nextFailure takes one of the scenario's failures for a service.
func (p *project) nextFailure(service string) *ServiceFailure {
	for i := range p.failures {
		f := &p.failures[i]
		if f.Service != service || f.Times < 0 {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				f.Times = -1 // used up; 0 would be for ever
			}
		}
		return f
	}
	return nil
}

func (f *ServiceFailure) error(service string) *apiError {
	code, status, message := f.Code, f.Status, f.Message
	if code == 0 {
		code = http.StatusForbidden
	}
	if status == "" {
		status = statusOf(code)
	}
	if message == "" {
		message = fmt.Sprintf("Permission denied to enable service [%s]", service)
	}
	e := errorf(code, status, "%s", message)
	reason := f.Reason
	if reason == "" && code == http.StatusForbidden {
		reason = "AUTH_PERMISSION_DENIED"
	}
	if reason != "" {
		e = e.with(errorInfo(reason, "serviceusage.googleapis.com", map[string]string{"service": service}))
	}
	return e
}
