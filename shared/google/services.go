package google

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	serviceusage "google.golang.org/api/serviceusage/v1"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// noopOperation is the operation of enabling what is enabled already. It must
// not be polled.
const noopOperation = "operations/noop.DONE_OPERATION"

// serviceFields are what is read of services.
const serviceFields = "services(name,state)"

// operationFields are what is read of an operation, which names each of its APIs
// again in its metadata. Of the response only the failures are read; but it is of
// any type, and nothing says that a mask reaches into it.
const operationFields = "name,done,error,response"

// DisabledAPIs implements setup.Cloud. Of each API its configuration is left out,
// which is hundreds of times as long as its name.
func (c *cloud) DisabledAPIs(ctx context.Context, projectID string, apis []string) ([]string, error) {
	if len(apis) == 0 {
		return nil, nil
	}
	names := make([]string, len(apis))
	for i, api := range apis {
		names[i] = "projects/" + projectID + "/services/" + api
	}
	answer, err := do(ctx, c, serviceUsage.rpc("services.batchGet"), projectID, "read APIs of "+projectID, func(ctx context.Context) call[*serviceusage.BatchGetServicesResponse] {
		return c.services.BatchGet("projects/" + projectID).Names(names...).Fields(serviceFields).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	enabled := map[string]bool{}
	for _, s := range answer.Services {
		enabled[lastSegment(s.Name)] = s.State == "ENABLED"
	}
	var disabled []string
	for _, api := range apis {
		if !enabled[api] {
			disabled = append(disabled, api)
		}
	}
	return disabled, nil
}

// EnableAPIs implements setup.Cloud.
func (c *cloud) EnableAPIs(ctx context.Context, projectID string, apis []string) (string, error) {
	if len(apis) == 0 {
		return "", nil
	}
	method := apiBatches.rpc("services.batchEnable")
	if len(apis) == 1 { // which it refuses
		method = apiWrites.rpc("services.enable")
	}
	operation, err := do(ctx, c, method, projectID, "enable APIs in "+projectID, func(ctx context.Context) call[*serviceusage.Operation] {
		if len(apis) == 1 {
			return c.services.Enable("projects/"+projectID+"/services/"+apis[0], &serviceusage.EnableServiceRequest{}).Fields(operationFields).Context(ctx)
		}
		return c.services.BatchEnable("projects/"+projectID, &serviceusage.BatchEnableServicesRequest{ServiceIds: apis}).Fields(operationFields).Context(ctx)
	})
	switch {
	case err != nil:
		return "", err
	case operation.Name == noopOperation:
		return "", nil
	case !operation.Done && operation.Name == "":
		return "", connect.Errorf(connect.Unavailable, "Google's answer names no operation.")
	case !operation.Done:
		return operation.Name, nil
	}
	result, err := readOperation(operation)
	if err != nil {
		return "", err
	}
	// A batch is atomic: what one API fails with, none was enabled with.
	if result.Message != "" {
		return "", connect.Errorf(connect.Precondition, "%s", result.Message)
	}
	if len(result.Failed) > 0 {
		return "", connect.Errorf(connect.Precondition, "%s", listed(result.Failed))
	}
	return "", nil
}

// DisableAPI implements setup.Cloud. Google is asked to look whether the API
// was used lately, and not to disable others with it
// (https://cloud.google.com/service-usage/docs/reference/rest/v1/services/disable).
func (c *cloud) DisableAPI(ctx context.Context, projectID, name string) error {
	_, err := do(ctx, c, apiWrites.rpc("services.disable"), projectID, "disable "+name+" in "+projectID, func(ctx context.Context) call[*serviceusage.Operation] {
		return c.services.Disable("projects/"+projectID+"/services/"+name, &serviceusage.DisableServiceRequest{CheckIfServiceHasUsage: "CHECK"}).Fields("name").Context(ctx)
	})
	return err
}

// listed names each API with Google's words.
func listed(failed map[string]string) string {
	var parts []string
	for _, api := range slices.Sorted(maps.Keys(failed)) {
		parts = append(parts, api+" ("+failed[api]+")")
	}
	return strings.Join(parts, ", ")
}

// Operation implements setup.Cloud.
func (c *cloud) Operation(ctx context.Context, projectID, name string) (setup.Operation, error) {
	operation, err := do(ctx, c, serviceUsage.rpc("operations.get"), projectID, "read operation in "+projectID, func(ctx context.Context) call[*serviceusage.Operation] {
		return c.operations.Get(name).Fields(operationFields).Context(ctx)
	})
	if err != nil {
		return setup.Operation{}, err
	}
	return readOperation(operation)
}

// readOperation reads the state of an operation.
func readOperation(operation *serviceusage.Operation) (setup.Operation, error) {
	result := setup.Operation{Done: operation.Done}
	if e := operation.Error; e != nil {
		result.Message = words(e.Message, fmt.Sprintf("The operation failed with code %d.", e.Code))
		return result, nil
	}
	if len(operation.Response) == 0 {
		return result, nil
	}
	// Of a batch; the response to enabling one API has no failures.
	var response struct {
		Failures []struct {
			ServiceID    string `json:"serviceId"`
			ErrorMessage string `json:"errorMessage"`
		} `json:"failures"`
	}
	if err := json.Unmarshal(operation.Response, &response); err != nil {
		return setup.Operation{}, connect.Errorf(connect.Unavailable, "Google's answer about an operation cannot be read.").Because(err)
	}
	for _, f := range response.Failures {
		if result.Failed == nil {
			result.Failed = map[string]string{}
		}
		result.Failed[lastSegment(f.ServiceID)] = words(f.ErrorMessage, "Google gave no reason.")
	}
	return result, nil
}

// lastSegment is the API in a name such as projects/123/services/x: answers
// name the project by number, so that only the last part is known.
func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
