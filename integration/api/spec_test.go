package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// spec is docs/openapi.yaml, and what was seen of it.
type spec struct {
	doc *openapi3.T
	// seen counts by what was seen: "Account.reason present", "GET /status 200", ...
	seen map[string]int
	// told are all answers, for secrets.
	told []string
}

func loadSpec(t *testing.T) *spec {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	return &spec{doc: doc, seen: map[string]int{}}
}

// operation finds what the file says of a request.
func (s *spec) operation(method, path string) (*openapi3.PathItem, *openapi3.Operation) {
	item := s.doc.Paths.Value(path)
	if item == nil {
		return nil, nil
	}
	return item, item.GetOperation(method)
}

// check holds a request and its answer against the file.
func (s *spec) check(t *testing.T, r *http.Request, body []byte, a *answer) {
	t.Helper()
	checked++
	s.told = append(s.told, string(a.body))
	where := fmt.Sprintf("%s %s %d", r.Method, r.URL.RequestURI(), a.status)
	if a.status == http.StatusMethodNotAllowed {
		s.checkMethod(t, r, a)
		return
	}
	item, operation := s.operation(r.Method, r.URL.Path)
	if operation == nil {
		t.Errorf("%s: answered, and not in the file: %s", where, a.body)
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r, QueryParams: r.URL.Query(), Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true, IncludeResponseStatus: true},
		Route: &routers.Route{Spec: s.doc, Path: r.URL.Path, PathItem: item, Method: r.Method, Operation: operation},
	}
	if a.status < 300 {
		sent := r.Clone(context.Background())
		sent.Body = newBody(body)
		input.Request = sent
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			t.Errorf("%s was served, and the file does not allow it: %v", where, err)
		}
		s.sawRequest(item, operation, r.URL.Query(), body)
	}
	s.checkAnswer(t, where, input, a)
	s.saw(fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, a.status))
	response := operation.Responses.Status(a.status)
	if response == nil {
		return
	}
	if media := response.Value.Content.Get(a.kind()); media != nil && a.kind() == "application/json" {
		var v any
		if err := json.Unmarshal(a.body, &v); err == nil {
			s.walk("", media.Schema, v)
		}
	}
}

// checkAnswer holds the answer against the file. What is not JSON is only looked at for
// its kind.
func (s *spec) checkAnswer(t *testing.T, where string, input *openapi3filter.RequestValidationInput, a *answer) {
	t.Helper()
	response := input.Route.Operation.Responses.Status(a.status)
	switch {
	case response == nil:
		t.Errorf("%s: the status is not in the file: %s", where, a.body)
		return
	case response.Value.Content.Get(a.kind()) == nil:
		t.Errorf("%s: the kind %q is not in the file: %s", where, a.kind(), a.body)
		return
	case a.kind() != "application/json":
		s.saw(where[:strings.LastIndexByte(where, ' ')] + " " + a.kind())
		return
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header, Body: newBody(a.body), Options: input.Options,
	})
	if err != nil {
		t.Errorf("%s: %v\n%s", where, err, a.body)
	}
	if cache := a.header.Get("Cache-Control"); a.status == http.StatusOK && cache != "no-store" {
		t.Errorf("%s: Cache-Control is %q", where, cache)
	}
}

// checkMethod holds a 405 against the file: just the other methods get it, and its Allow
// names them.
func (s *spec) checkMethod(t *testing.T, r *http.Request, a *answer) {
	t.Helper()
	item := s.doc.Paths.Value(r.URL.Path)
	if item == nil || item.GetOperation(r.Method) != nil {
		t.Errorf("%s %s: 405, and it is in the file, or the path is not", r.Method, r.URL.Path)
		return
	}
	var allowed []string
	for method, operation := range item.Operations() {
		allowed = append(allowed, method)
		if method == http.MethodGet && r.URL.Path != "/dashboard/events" {
			allowed = append(allowed, http.MethodHead)
		}
		input := &openapi3filter.RequestValidationInput{
			Request: r, Options: &openapi3filter.Options{IncludeResponseStatus: true},
			Route: &routers.Route{Spec: s.doc, Path: r.URL.Path, PathItem: item, Method: method, Operation: operation},
		}
		s.checkAnswer(t, r.Method+" "+r.URL.Path+" 405", input, a)
		s.saw(fmt.Sprintf("%s %s 405", method, r.URL.Path))
	}
	told := strings.Split(a.header.Get("Allow"), ", ")
	slices.Sort(told)
	slices.Sort(allowed)
	if !slices.Equal(told, allowed) {
		t.Errorf("%s %s: Allow is %v, in the file are %v", r.Method, r.URL.Path, told, allowed)
	}
}

func (s *spec) saw(what string) { s.seen[what]++ }

func (s *spec) sawRequest(item *openapi3.PathItem, operation *openapi3.Operation, query url.Values, body []byte) {
	for _, p := range append(slices.Clone(item.Parameters), operation.Parameters...) {
		if value := query.Get(p.Value.Name); value != "" {
			s.saw(operation.OperationID + "?" + p.Value.Name)
			if len(p.Value.Schema.Value.Enum) > 0 {
				s.saw(operation.OperationID + "?" + p.Value.Name + "=" + value)
			}
		}
	}
	if operation.RequestBody != nil {
		var v any
		if json.Unmarshal(body, &v) == nil {
			s.walk("", operation.RequestBody.Value.Content.Get("application/json").Schema, v)
		}
	}
}

// walk notes which fields of the schemas a value has.
func (s *spec) walk(name string, ref *openapi3.SchemaRef, v any) {
	if ref == nil {
		return
	}
	if ref.Ref != "" {
		name = filepath.Base(ref.Ref)
	}
	schema := ref.Value
	for _, value := range schema.Enum {
		if value == v {
			s.saw(fmt.Sprintf("%s = %v", name, v))
		}
	}
	for _, part := range append(slices.Clone(schema.AllOf), schema.AnyOf...) {
		if v != nil {
			s.walk(name, part, v)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for field, of := range schema.Properties {
			at := name + "." + field
			value, present := v[field]
			switch {
			case !present:
				s.saw(at + " missing")
				continue
			case value == nil:
				s.saw(at + " null")
			default:
				s.saw(at + " present")
			}
			s.walk(at, of, value)
		}
		for key, value := range v {
			if schema.Properties[key] == nil {
				s.walk(name+"{}", schema.AdditionalProperties.Schema, value)
			}
		}
	case []any:
		for _, item := range v {
			s.walk(name+"[]", schema.Items, item)
		}
	}
}

// missing lists what the file says and nobody has seen.
func (s *spec) missing() (list []string) {
	want := func(what string) {
		if s.seen[what] == 0 {
			list = append(list, what)
		}
	}
	for path, item := range s.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				want(method + " " + path + " " + status)
			}
			for _, p := range append(slices.Clone(item.Parameters), operation.Parameters...) {
				want(operation.OperationID + "?" + p.Value.Name)
				for _, value := range p.Value.Schema.Value.Enum {
					want(fmt.Sprintf("%s?%s=%v", operation.OperationID, p.Value.Name, value))
				}
			}
		}
	}
	for name, ref := range s.doc.Components.Schemas {
		s.wanted(name, ref, want)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// wanted asks for each field: to be there, to be missing if it may be, to be null if it
// may be, and to have each of the values that are listed.
func (s *spec) wanted(name string, ref *openapi3.SchemaRef, want func(string)) {
	schema := ref.Value
	for field, of := range schema.Properties {
		at := name + "." + field
		want(at + " present")
		if !slices.Contains(schema.Required, field) {
			want(at + " missing")
		}
		if nullable(of.Value) {
			want(at + " null")
		}
		if of.Ref == "" {
			for _, value := range of.Value.Enum {
				want(fmt.Sprintf("%s = %v", at, value))
			}
			s.wanted(at, of, want)
			if items := of.Value.Items; items != nil && items.Ref == "" {
				for _, value := range items.Value.Enum {
					want(fmt.Sprintf("%s[] = %v", at, value))
				}
			}
		}
	}
}

func nullable(schema *openapi3.Schema) bool {
	if schema.Type != nil && schema.Type.Includes("null") {
		return true
	}
	return slices.ContainsFunc(schema.AnyOf, func(ref *openapi3.SchemaRef) bool { return nullable(ref.Value) })
}

// undescribed lists fields without a description, and objects that let anything in.
func (s *spec) undescribed() (list []string) {
	var look func(name string, ref *openapi3.SchemaRef)
	look = func(name string, ref *openapi3.SchemaRef) {
		schema := ref.Value
		if len(schema.Properties) > 0 && name != "StatusFields" && (schema.AdditionalProperties.Has == nil || *schema.AdditionalProperties.Has) && len(schema.AllOf) == 0 {
			list = append(list, name+" lets other fields in")
		}
		for field, of := range schema.Properties {
			if of.Ref == "" {
				if of.Value.Description == "" && len(of.Value.Properties) == 0 {
					list = append(list, name+"."+field+" has no description")
				}
				look(name+"."+field, of)
			}
		}
	}
	for name, ref := range s.doc.Components.Schemas {
		look(name, ref)
	}
	slices.Sort(list)
	return list
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func newBody(b []byte) reader { return reader{bytes.NewReader(b)} }

// keep writes an answer for the examples.
func keep(t *testing.T, name string, a *answer) {
	t.Helper()
	folder := os.Getenv("SHUNT_ANSWERS")
	if folder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(folder, name+".json"), a.body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// resolved finds a schema that is only a reference.
func (s *spec) resolved(ref *openapi3.SchemaRef) *openapi3.SchemaRef {
	if ref.Value == nil && ref.Ref != "" {
		return &openapi3.SchemaRef{Ref: ref.Ref, Value: s.doc.Components.Schemas[filepath.Base(ref.Ref)].Value}
	}
	return ref
}

// valid holds a value against a schema.
func (s *spec) valid(t *testing.T, where string, ref *openapi3.SchemaRef, v any) {
	t.Helper()
	if err := ref.Value.VisitJSON(v, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	s.walk("", ref, v)
}
