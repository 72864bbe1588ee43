// Command terraform is Google's provider for Terraform, emulated: it has the schema
// of the real one (schema.json, as `terraform providers schema -json` writes it for
// the resource types in use), so that configuration can be validated, tested and
// planned without a network and without credentials.
//
// It finds what the schema says: unknown and missing arguments, wrong types, values
// that an argument does not take. It does not find what the real provider checks in
// code, and it can neither apply nor read.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// name is the provider's, in whose place this one is.
const name = "registry.terraform.io/hashicorp/google"

//go:embed schema.json
var recorded []byte

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "terraform provider:", err)
		os.Exit(1)
	}
}

func run() error {
	p, err := newProvider()
	if err != nil {
		return err
	}
	return tf5server.Serve(name, func() tfprotov5.ProviderServer { return p })
}

// block is a block of the recorded schema.
type block struct {
	Attributes map[string]struct {
		Type                         json.RawMessage
		Required, Optional, Computed bool
		Description                  string
	}
	Blocks map[string]struct {
		Nesting string `json:"nesting_mode"`
		Block   block
		Min     int64 `json:"min_items"`
		Max     int64 `json:"max_items"`
	} `json:"block_types"`
}

// schema is the recorded schema of a type.
type schema struct {
	Version int64
	Block   block
}

// provider answers Terraform from the recorded schema.
type provider struct {
	tfprotov5.ProviderServer // what is not here is not called

	self     *tfprotov5.Schema
	types    map[string]*tfprotov5.Schema
	data     map[string]*tfprotov5.Schema
	recorded map[string]schema // of types
}

func newProvider() (*provider, error) {
	var file struct {
		Providers map[string]struct {
			Provider  schema
			Resources map[string]schema `json:"resource_schemas"`
			Data      map[string]schema `json:"data_source_schemas"`
		} `json:"provider_schemas"`
	}
	if err := json.Unmarshal(recorded, &file); err != nil {
		return nil, fmt.Errorf("read the recorded schema: %w", err)
	}
	found, ok := file.Providers[name]
	if !ok {
		return nil, fmt.Errorf("the recorded schema has no %s", name)
	}
	p := &provider{types: map[string]*tfprotov5.Schema{}, data: map[string]*tfprotov5.Schema{}, recorded: found.Resources}
	var faults []error
	convert := func(s schema) *tfprotov5.Schema {
		b, err := s.Block.convert()
		faults = append(faults, err)
		return &tfprotov5.Schema{Version: s.Version, Block: b}
	}
	p.self = convert(found.Provider)
	for n, s := range found.Resources {
		p.types[n] = convert(s)
	}
	for n, s := range found.Data {
		p.data[n] = convert(s)
	}
	return p, errors.Join(faults...)
}

var nestings = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"list": tfprotov5.SchemaNestedBlockNestingModeList, "set": tfprotov5.SchemaNestedBlockNestingModeSet,
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle, "map": tfprotov5.SchemaNestedBlockNestingModeMap,
}

// convert is b as the protocol has it.
func (b block) convert() (*tfprotov5.SchemaBlock, error) {
	out := &tfprotov5.SchemaBlock{}
	for n, a := range b.Attributes {
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // the one function that reads what `providers schema` writes
		if err != nil {
			return nil, fmt.Errorf("type of %s: %w", n, err)
		}
		out.Attributes = append(out.Attributes, &tfprotov5.SchemaAttribute{Name: n, Type: kind, Required: a.Required, Optional: a.Optional, Computed: a.Computed})
	}
	for n, nested := range b.Blocks {
		inner, err := nested.Block.convert()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		out.BlockTypes = append(out.BlockTypes, &tfprotov5.SchemaNestedBlock{TypeName: n, Block: inner, Nesting: nestings[nested.Nesting], MinItems: nested.Min, MaxItems: nested.Max})
	}
	return out, nil
}

// GetMetadata lists the types.
func (p *provider) GetMetadata(context.Context, *tfprotov5.GetMetadataRequest) (*tfprotov5.GetMetadataResponse, error) {
	response := &tfprotov5.GetMetadataResponse{ServerCapabilities: &tfprotov5.ServerCapabilities{}}
	for n := range p.types {
		response.Resources = append(response.Resources, tfprotov5.ResourceMetadata{TypeName: n})
	}
	for n := range p.data {
		response.DataSources = append(response.DataSources, tfprotov5.DataSourceMetadata{TypeName: n})
	}
	return response, nil
}

// GetProviderSchema returns the recorded schema.
func (p *provider) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return &tfprotov5.GetProviderSchemaResponse{ServerCapabilities: &tfprotov5.ServerCapabilities{}, Provider: p.self, ResourceSchemas: p.types, DataSourceSchemas: p.data}, nil
}

// GetResourceIdentitySchemas returns none.
func (p *provider) GetResourceIdentitySchemas(context.Context, *tfprotov5.GetResourceIdentitySchemasRequest) (*tfprotov5.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov5.GetResourceIdentitySchemasResponse{}, nil
}

// GetFunctions returns none.
func (p *provider) GetFunctions(context.Context, *tfprotov5.GetFunctionsRequest) (*tfprotov5.GetFunctionsResponse, error) {
	return &tfprotov5.GetFunctionsResponse{}, nil
}

// PrepareProviderConfig takes any configuration of the schema.
func (p *provider) PrepareProviderConfig(_ context.Context, r *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: r.Config}, nil
}

// ConfigureProvider does nothing: no call is made.
func (p *provider) ConfigureProvider(context.Context, *tfprotov5.ConfigureProviderRequest) (*tfprotov5.ConfigureProviderResponse, error) {
	return &tfprotov5.ConfigureProviderResponse{}, nil
}

// StopProvider does nothing.
func (p *provider) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}

// ValidateResourceTypeConfig refuses values that an argument does not take. All
// else of the schema Terraform has checked itself.
func (p *provider) ValidateResourceTypeConfig(_ context.Context, r *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	v, err := r.Config.Unmarshal(p.types[r.TypeName].ValueType())
	if err != nil {
		return nil, err
	}
	response := &tfprotov5.ValidateResourceTypeConfigResponse{}
	p.recorded[r.TypeName].Block.refuse(v, tftypes.NewAttributePath(), &response.Diagnostics)
	return response, nil
}

// refuse reports the texts in v that are none of those which the description of
// their argument ends with.
func (b block) refuse(v tftypes.Value, at *tftypes.AttributePath, out *[]*tfprotov5.Diagnostic) {
	values := map[string]tftypes.Value{}
	if !v.IsKnown() || v.IsNull() || v.As(&values) != nil {
		return
	}
	for n, a := range b.Attributes {
		_, list, listed := strings.Cut(a.Description, "Possible values: ")
		var takes []string
		var given string
		if !listed || json.Unmarshal([]byte(list), &takes) != nil || !values[n].IsKnown() || values[n].IsNull() || values[n].As(&given) != nil {
			continue
		}
		if !slices.Contains(takes, given) {
			*out = append(*out, &tfprotov5.Diagnostic{
				Severity: tfprotov5.DiagnosticSeverityError, Summary: "Value not allowed",
				Detail: fmt.Sprintf("%q is not one of %v.", given, takes), Attribute: at.WithAttributeName(n),
			})
		}
	}
	for n, nested := range b.Blocks {
		var list []tftypes.Value
		at := at.WithAttributeName(n)
		if nested.Nesting == "single" {
			nested.Block.refuse(values[n], at, out)
			continue
		}
		if !values[n].IsKnown() || values[n].IsNull() || values[n].As(&list) != nil {
			continue
		}
		for i, element := range list {
			if nested.Nesting == "list" {
				nested.Block.refuse(element, at.WithElementKeyInt(i), out)
			} else {
				nested.Block.refuse(element, at.WithElementKeyValue(element), out)
			}
		}
	}
}

// ValidateDataSourceConfig accepts what Terraform has checked.
func (p *provider) ValidateDataSourceConfig(context.Context, *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	return &tfprotov5.ValidateDataSourceConfigResponse{}, nil
}

// PlanResourceChange plans to make what is configured. What is computed is not
// known yet.
func (p *provider) PlanResourceChange(_ context.Context, r *tfprotov5.PlanResourceChangeRequest) (*tfprotov5.PlanResourceChangeResponse, error) {
	s := p.types[r.TypeName]
	kind := s.ValueType()
	proposed, err := r.ProposedNewState.Unmarshal(kind)
	if err != nil {
		return nil, err
	}
	values := map[string]tftypes.Value{}
	if err := proposed.As(&values); err != nil {
		return nil, err
	}
	for _, a := range s.Block.Attributes {
		if a.Computed && values[a.Name].IsNull() {
			values[a.Name] = tftypes.NewValue(a.Type, tftypes.UnknownValue)
		}
	}
	planned, err := tfprotov5.NewDynamicValue(kind, tftypes.NewValue(kind, values))
	return &tfprotov5.PlanResourceChangeResponse{PlannedState: &planned, UnsafeToUseLegacyTypeSystem: true}, err
}

// UpgradeResourceState is not needed: there is no state.
func (p *provider) UpgradeResourceState(context.Context, *tfprotov5.UpgradeResourceStateRequest) (*tfprotov5.UpgradeResourceStateResponse, error) {
	return nil, errors.ErrUnsupported
}

// ReadResource is not needed: there is no state.
func (p *provider) ReadResource(context.Context, *tfprotov5.ReadResourceRequest) (*tfprotov5.ReadResourceResponse, error) {
	return nil, errors.ErrUnsupported
}

// ReadDataSource cannot be: there is nothing to read.
func (p *provider) ReadDataSource(_ context.Context, r *tfprotov5.ReadDataSourceRequest) (*tfprotov5.ReadDataSourceResponse, error) {
	return nil, fmt.Errorf("%s cannot be read without Google", r.TypeName)
}

// ApplyResourceChange cannot be: there is nothing to change.
func (p *provider) ApplyResourceChange(_ context.Context, r *tfprotov5.ApplyResourceChangeRequest) (*tfprotov5.ApplyResourceChangeResponse, error) {
	return nil, fmt.Errorf("%s cannot be made without Google", r.TypeName)
}
