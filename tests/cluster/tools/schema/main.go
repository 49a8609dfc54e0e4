// What an API server thinks of CustomResourceDefinitions and of objects, by its own code: structural schema,
// list types, CEL and what that may cost.
//
//	schema VERSION CRD... < CASES
//
// takes Kubernetes to be VERSION (1.N), reads definitions as JSON files and cases as a JSON list of {object, old}
// (old: what an update replaces), and writes {definitions: {file: [error]}, cases: [[error]]}.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definition "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type input struct {
	Object map[string]any `json:"object"`
	Old    map[string]any `json:"old"`
}

type output struct {
	Definitions map[string][]string `json:"definitions"`
	Cases       [][]string          `json:"cases"`
}

// kind is what an API server makes of a definition.
type kind struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 3 {
		return errors.New("usage: schema VERSION CRD... < CASES")
	}
	running, err := version.ParseGeneric(os.Args[1])
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	kinds := map[string]kind{}
	result := output{Definitions: map[string][]string{}, Cases: [][]string{}}
	for _, path := range os.Args[2:] {
		name, known, errs, err := define(scheme, path, running)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		kinds[name], result.Definitions[path] = known, errs
	}
	var cases []input
	data := json.NewDecoder(os.Stdin)
	var raw []json.RawMessage
	if err := data.Decode(&raw); err != nil {
		return err
	}
	for _, each := range raw { // by Kubernetes' own decoder: whole numbers are int64
		var one input
		if err := utiljson.Unmarshal(each, &one); err != nil {
			return err
		}
		cases = append(cases, one)
	}
	for _, each := range cases {
		name, _ := each.Object["kind"].(string)
		known, ok := kinds[name]
		if !ok {
			return fmt.Errorf("no definition of kind %q", name)
		}
		result.Cases = append(result.Cases, known.judge(each))
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func define(scheme *runtime.Scheme, path string, running *version.Version) (string, kind, []string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", kind{}, nil, err
	}
	var external v1.CustomResourceDefinition
	if err := json.Unmarshal(text, &external); err != nil {
		return "", kind{}, nil, err
	}
	scheme.Default(&external)
	var internal apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&external, &internal, nil); err != nil {
		return "", kind{}, nil, err
	}
	internal.Status.StoredVersions = []string{internal.Spec.Versions[0].Name}
	errs := texts(definition.ValidateCustomResourceDefinition(context.Background(), &internal))
	properties, err := apiextensions.GetSchemaForVersion(&internal, internal.Spec.Versions[0].Name)
	if err != nil {
		return "", kind{}, nil, err
	}
	structural, err := schema.NewStructural(properties.OpenAPIV3Schema)
	if err != nil {
		return "", kind{}, nil, err
	}
	validator, _, err := validation.NewSchemaValidator(properties.OpenAPIV3Schema)
	if err != nil {
		return "", kind{}, nil, err
	}
	// An API server takes of new definitions only what the release before it knew, for one may go back to that.
	known := environment.MustBaseEnvSet(version.MajorMinor(1, running.Minor()-1), true)
	errs = append(errs, compile(structural, true, known, nil)...)
	rules := cel.NewValidator(structural, true, limits.PerCallLimit)
	return internal.Spec.Names.Kind, kind{structural, validator, rules}, errs, nil
}

// compile says which rules a release does not understand.
func compile(s *schema.Structural, root bool, known *environment.EnvSet, path *field.Path) []string {
	errs := []string{}
	if len(s.XValidations) > 0 {
		results, err := cel.Compile(s, model.SchemaDeclType(s, root), limits.PerCallLimit, known, cel.NewExpressionsEnvLoader())
		if err != nil {
			errs = append(errs, fmt.Sprintf("%s: %v", path, err))
		}
		for n, result := range results {
			if result.Error != nil {
				errs = append(errs, fmt.Sprintf("%s: %s: %s", path, s.XValidations[n].Rule, result.Error.Detail))
			}
		}
	}
	for name, property := range s.Properties {
		errs = append(errs, compile(&property, false, known, path.Child(name))...)
	}
	if s.Items != nil {
		errs = append(errs, compile(s.Items, false, known, path.Key("*"))...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		errs = append(errs, compile(s.AdditionalProperties.Structural, false, known, path.Key("*"))...)
	}
	return errs
}

// judge says what stands against an object: unknown fields, as kubectl has them refused, and all of the schema.
func (k kind) judge(each input) []string {
	errs := []string{}
	for _, unknown := range pruning.PruneWithOptions(each.Object, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, "unknown field "+unknown)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(each.Object, k.structural)
	defaulting.Default(each.Object, k.structural)
	if each.Old != nil {
		defaulting.Default(each.Old, k.structural)
	}
	invalid := validation.ValidateCustomResource(nil, each.Object, k.validator)
	invalid = append(invalid, listtype.ValidateListSetsAndMaps(nil, k.structural, each.Object)...)
	if len(invalid) == 0 { // as in an API server, rules come last
		var old any
		if each.Old != nil {
			old = each.Old
		}
		broken, _ := k.rules.Validate(context.Background(), nil, k.structural, each.Object, old, limits.RuntimeCELCostBudget)
		invalid = append(invalid, broken...)
	}
	return append(errs, texts(invalid)...)
}

func texts(errs field.ErrorList) []string {
	said := []string{}
	for _, err := range errs {
		said = append(said, err.Error())
	}
	return said
}
