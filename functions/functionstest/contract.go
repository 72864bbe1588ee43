// Package functionstest checks what the functions are asked, and what they
// answer, against the description of it: whatever tests send through a Watch is
// checked on its way.
package functionstest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	faults "github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/responses"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"

	"gcpconnect/functions"
)

// Contract is the description, ready to be checked against. It is safe for
// concurrent use.
//
// It is an interface so that packages which use it do not compile the library's
// generic types again: each would take ten seconds.
type Contract interface {
	// Valid returns what of the description is not OpenAPI.
	Valid() error
	// Answers are those that are described.
	Answers() map[Answer]bool
	// Check returns which operation an exchange is of ("" for none), and what in it
	// is not as described: whatever is answered, and, if that is no error, whatever
	// was asked.
	Check(x Exchange) (operation string, err error)
	// Watch returns a watch that reports to, say, a test's Errorf.
	Watch(report func(format string, args ...any)) *Watch
}

// contract is a Contract by libopenapi.
type contract struct {
	model     *v3.Document
	validator validator.Validator
	options   *config.ValidationOptions
	routes    *http.ServeMux // of the operations
	// good are the exchanges that were as described: tests that do the same
	// again and again need not wait for the same verdict each time.
	good sync.Map // by their key
}

// Load reads the description, once. That takes a moment, and goroutines: it is
// to be called outside of testing/synctest's bubbles.
var Load = sync.OnceValues(load)

func load() (Contract, error) {
	document, err := libopenapi.NewDocument([]byte(functions.OpenAPI))
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	c := &contract{model: &model.Model, routes: http.NewServeMux(), options: config.NewValidationOptions(
		config.WithFormatAssertions(), config.WithURLEncodedBodyValidation())}
	c.validator = validator.NewValidatorFromV3Model(c.model, config.WithExistingOpts(c.options))
	c.validator.SetDocument(document)
	for path, item := range c.model.Paths.PathItems.FromOldest() {
		for method := range item.GetOperations().FromOldest() {
			c.routes.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	return c, nil
}

func (c *contract) Valid() error {
	_, failed := c.validator.ValidateDocument()
	return list("the description", failed)
}

// Answer names an answer of an operation.
type Answer struct {
	Operation string
	Status    int
}

func (c *contract) Answers() map[Answer]bool {
	described := map[Answer]bool{}
	for _, item := range c.model.Paths.PathItems.FromOldest() {
		for _, operation := range item.GetOperations().FromOldest() {
			for code := range operation.Responses.Codes.FromOldest() {
				status, err := strconv.Atoi(code)
				if err != nil { // a range of them, which nothing is seen of
					status = 0
				}
				described[Answer{operation.OperationId, status}] = true
			}
		}
	}
	return described
}

// Exchange is a request and its answer, with their bodies.
type Exchange struct {
	Request *http.Request
	Sent    []byte
	Status  int
	Header  http.Header // of the answer
	Body    []byte      // of the answer
}

func (c *contract) Check(x Exchange) (operation string, err error) {
	if x.Request.Method == http.MethodHead {
		x.Body = nil // which the server keeps to itself
	}
	_, pattern := c.routes.Handler(x.Request)
	_, at, _ := strings.Cut(pattern, " ")
	switch {
	case x.Request.Method == http.MethodOptions: // of CORS, which is not described
		return "", nil
	case path.Clean(x.Request.URL.Path) != x.Request.URL.Path && x.Status == http.StatusTemporaryRedirect: // to the clean path
		return "", nil
	case pattern == "":
		return "", c.checkOther(x)
	}
	item := c.model.Paths.PathItems.GetOrZero(at)
	described, ok := item.GetOperations().Get(strings.ToLower(methodOf(x.Request)))
	if !ok {
		return "", fmt.Errorf("%s is not described", pattern)
	}
	operation, key := described.OperationId, x.key()
	if _, known := c.good.Load(key); known {
		return operation, nil
	}
	var found []error
	answer := x.answered()
	if x.Status < http.StatusBadRequest {
		_, failed := c.validator.ValidateHttpRequestSyncWithPathItem(x.asked(), item, at)
		found = append(found, list("the request", failed))
	}
	_, failed := c.validator.GetResponseBodyValidator().ValidateResponseBodyWithPathItem(x.asked(), &answer, item, at)
	found = append(found, list("the answer", failed), x.plain(described.Responses.Codes.GetOrZero(strconv.Itoa(x.Status))))
	if err = errors.Join(found...); err == nil {
		c.good.Store(key, true)
	}
	return operation, err
}

// key is the same for exchanges in which everything is the same.
func (x Exchange) key() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s %q %q %q %d %q %q", x.Request.Method, x.Request.URL, x.Request.Header, x.Sent, x.Status, x.Header, x.Body))
}

// others are the answers to what is no operation: to the queue, and to who
// asks for what is not there.
var others = map[int]string{
	http.StatusBadRequest: "BadRequest", http.StatusUnauthorized: "Unauthenticated", http.StatusForbidden: "Forbidden",
	http.StatusNotFound: "NotFound", http.StatusMethodNotAllowed: "MethodNotAllowed", http.StatusRequestEntityTooLarge: "BodyTooLarge",
	http.StatusRequestURITooLong: "AddressTooLong", http.StatusUnsupportedMediaType: "WrongType",
	http.StatusInternalServerError: "Broken", http.StatusServiceUnavailable: "Unavailable",
}

// checkOther is Check for an exchange that is of no operation.
func (c *contract) checkOther(x Exchange) error {
	if x.Status == http.StatusNoContent { // the queue is done with its task
		return x.plain(&v3.Response{})
	}
	described := c.model.Components.Responses.GetOrZero(others[x.Status])
	if described == nil {
		return fmt.Errorf("the answer: %d is not described", x.Status)
	}
	answer := x.answered()
	_, headers := responses.ValidateResponseHeaders(x.asked(), &answer, described.Headers, x.Request.URL.Path, strconv.Itoa(x.Status), config.WithExistingOpts(c.options))
	_, body := responses.ValidateResponseSchema(&responses.ValidateResponseSchemaInput{
		Request: x.asked(), Response: &answer, Version: 3.1, Options: []config.Option{config.WithExistingOpts(c.options)},
		Schema: described.Content.GetOrZero("application/json").Schema.Schema(),
	})
	return errors.Join(list("the answer", headers), list("the answer", body), x.plain(described))
}

// telling are the headers that callers act on: an answer has them where they
// are described, and nowhere else.
var telling = []string{"Allow", "Location", "Retry-After", "Set-Cookie"}

// plain returns what an answer has beyond its description. The library does not
// look for that.
func (x Exchange) plain(described *v3.Response) error {
	if described == nil {
		return nil // which the library says
	}
	var found []error
	for _, name := range telling {
		if x.Header.Get(name) != "" && (described.Headers == nil || described.Headers.GetOrZero(name) == nil) {
			found = append(found, fmt.Errorf("the answer: %s is not described", name))
		}
	}
	if described.Content == nil && len(x.Body) > 0 {
		found = append(found, errors.New("the answer: its body is not described"))
	}
	return errors.Join(found...)
}

// methodOf is the method by which a request is described.
func methodOf(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

// asked is a copy of the request to be read.
func (x Exchange) asked() *http.Request {
	r := x.Request.Clone(x.Request.Context())
	r.Body, r.ContentLength = reader(x.Sent), int64(len(x.Sent))
	return r
}

// answered is the answer to be read.
func (x Exchange) answered() http.Response {
	return http.Response{Request: x.Request, StatusCode: x.Status, Header: x.Header.Clone(), Body: reader(x.Body), ContentLength: int64(len(x.Body))}
}

func reader(content []byte) io.ReadCloser {
	if len(content) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(content))
}

// list says what the library found.
func list(of string, failed []*faults.ValidationError) error {
	var found []error
	for _, f := range failed {
		text := of + ": " + f.Message + ": " + f.Reason
		for _, s := range f.SchemaValidationErrors {
			text += "\n\t" + s.FieldPath + " " + s.Reason + " (" + s.KeywordLocation + ")"
		}
		found = append(found, errors.New(text))
	}
	return errors.Join(found...)
}
