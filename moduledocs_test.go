package shunt

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

// TestSettingsAreDocumented: Caddy's site renders the comments of modules and their fields,
// so each setting that a configuration can have says what it means.
func TestSettingsAreDocumented(t *testing.T) {
	comments := make(map[string]map[string]string) // by type, then by field; the type's own is under ""
	for _, folder := range []string{".", "people"} {
		for name, fields := range commentsIn(t, folder) {
			comments[name] = fields
		}
	}
	seen, settings := make(map[reflect.Type]bool), 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || !strings.HasPrefix(typ.PkgPath(), reflect.TypeFor[Handler]().PkgPath()) {
			return
		}
		seen[typ] = true
		of := comments[typ.Name()]
		if of[""] == "" {
			t.Errorf("%s has no comment", typ)
		}
		for i := range typ.NumField() {
			field := typ.Field(i)
			if field.Anonymous {
				walk(field.Type)
				continue
			}
			if tag := field.Tag.Get("json"); tag == "" || tag == "-" {
				continue
			}
			settings++
			if of[field.Name] == "" {
				t.Errorf("%s.%s has no comment", typ, field.Name)
			}
			walk(field.Type)
		}
	}
	for _, module := range []any{Handler{}, RemoteKeys{}, App{}, adminAPI{}} {
		walk(reflect.TypeOf(module))
	}
	if settings < 50 {
		t.Errorf("only %d settings were seen", settings)
	}
}

// commentsIn are the comments of the structs of a package.
func commentsIn(t *testing.T, folder string) map[string]map[string]string {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), folder, func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, parser.ParseComments) //nolint:staticcheck // build tags do not matter to comments
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]map[string]string)
	for _, parsed := range packages {
		for _, typ := range doc.New(parsed, folder, doc.AllDecls|doc.PreserveAST).Types {
			spec, ok := typ.Decl.Specs[0].(*ast.TypeSpec)
			if !ok {
				continue
			}
			fields := map[string]string{"": typ.Doc}
			if structure, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range structure.Fields.List {
					for _, name := range field.Names {
						fields[name.Name] = field.Doc.Text() + field.Comment.Text()
					}
				}
			}
			found[typ.Name] = fields
		}
	}
	return found
}
