package functions

import _ "embed" // the description

// OpenAPI is the description of what users, browsers and services ask of the
// functions, and of every answer, in OpenAPI 3.1.
//
//go:embed openapi.yaml
var OpenAPI string
