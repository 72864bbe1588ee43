package google

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// An operation is a change of services under way. Its end is a matter of the
// clock: the services change at doneAt without anybody looking.
type operation struct {
	name     string
	project  *project
	kind     string // the response's type
	services []string
	failures []serviceFailureJSON
	err      *apiError
	doneAt   time.Time
}

type operationJSON struct {
	Name     string         `json:"name"`
	Metadata map[string]any `json:"metadata,omitempty"`
	Done     bool           `json:"done,omitempty"`
	Response map[string]any `json:"response,omitempty"`
	Error    map[string]any `json:"error,omitempty"`
}

// newOperation makes an operation with a name as Google's: opaque, and its
// prefix does not say for sure what it is.
func (c *call) newOperation(kind string, services []string) *operation {
	prefix := "acf"
	if kind == "BatchEnableServicesResponse" {
		prefix = "acat"
	}
	a, b := c.random.Uint64(), c.random.Uint64()
	uuid := fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, 0x8000|uint16(b)&0x3fff, b>>16) //nolint:gosec // the parts of a number are meant to be cut
	return &operation{
		name: "operations/" + prefix + ".p2-" + c.project.number + "-" + uuid, project: c.project, kind: kind,
		services: services, doneAt: after(c.now, c.world.scenario.Latencies.Operation),
	}
}

func (c *call) getOperation() (any, *apiError) {
	op := c.world.ops["operations/"+c.vars["operation"]]
	if op == nil || !c.allowed("serviceusage.operations.get", op.project.chain()) {
		return nil, deniedByServiceUsage(c, "serviceusage.operations.get")
	}
	resources := make([]string, len(op.services))
	for i, name := range op.services {
		resources[i] = op.project.name + "/services/" + name
	}
	out := operationJSON{Name: op.name, Metadata: map[string]any{"@type": suType + "OperationMetadata", "resourceNames": resources}}
	if c.now.Before(op.doneAt) {
		return out, nil
	}
	out.Done = true
	if op.err != nil {
		out.Error = map[string]any{"code": rpcCode(op.err.status), "message": op.err.message}
		if len(op.err.details) > 0 {
			out.Error["details"] = op.err.details
		}
		return out, nil
	}
	out.Response = op.project.enabledResponse(op.kind, op.services, op.failures, c.now)
	return out, nil
}

func (p *project) enabledResponse(kind string, names []string, failures []serviceFailureJSON, now time.Time) map[string]any {
	out := map[string]any{"@type": suType + kind}
	if kind != "BatchEnableServicesResponse" {
		out["service"] = p.service(names[0], now)
		return out
	}
	var services []serviceJSON
	for _, name := range names {
		if !slices.ContainsFunc(failures, func(f serviceFailureJSON) bool { return f.ServiceID == name }) {
			services = append(services, p.service(name, now))
		}
	}
	if len(services) > 0 {
		out["services"] = services
	}
	if len(failures) > 0 {
		out["failures"] = failures
	}
	return out
}

func (c *call) busy() *apiError {
	if !c.world.scenario.ExclusiveOperations {
		return nil
	}
	// One at a time means that only the last can be under way.
	if op := c.project.lastChange; op != nil && c.now.Before(op.doneAt) {
		return precondition("Another activation or deactivation is in progress for the following service(s): %s.", strings.Join(op.services, ","))
	}
	return nil
}

// begin lets an operation run.
func (w *world) begin(op *operation) {
	w.ops[op.name] = op
	op.project.lastChange = op
}

// rpcCode is the number of a google.rpc.Code.
func rpcCode(status string) int {
	i := slices.Index([]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
		"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
		"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}, status)
	if i < 0 {
		return 2 // UNKNOWN
	}
	return i
}
