// What GitOps tools think of objects: kstatus, as Flux asks it, and a health script in Lua, run as Argo CD runs it.
//
//	health SCRIPT < OBJECTS
//
// reads a JSON list of objects and writes a JSON list with a verdict for each.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type opinion struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdict struct {
	Kstatus opinion `json:"kstatus"`
	Argo    opinion `json:"argo"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: health SCRIPT < OBJECTS")
	}
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var objects []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, object := range objects {
		integers(object)
		argo, err := judgeByScript(string(script), object)
		if err != nil {
			return err
		}
		result, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			return err
		}
		verdicts = append(verdicts, verdict{opinion{string(result.Status), result.Message}, argo})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

// integers turns whole numbers into int64, as clients of Kubernetes decode them.
func integers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, each := range value {
			value[key] = integers(each)
		}
	case []any:
		for n, each := range value {
			value[n] = integers(each)
		}
	case float64:
		if whole := int64(value); float64(whole) == value {
			return whole
		}
	}
	return value
}

// judgeByScript gives the script what Argo CD gives it unless it is told useOpenLibs: obj, and the base and
// table libraries, none for strings or files.
func judgeByScript(script string, object map[string]any) (opinion, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", lift(state, object))
	if err := state.DoString(script); err != nil {
		return opinion{}, err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return opinion{}, errors.New("the script returns no table")
	}
	return opinion{lua.LVAsString(answer.RawGetString("status")), lua.LVAsString(answer.RawGetString("message"))}, nil
}

// lift turns what JSON says into values of Lua.
func lift(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, each := range value {
			table.Append(lift(state, each))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, each := range value {
			table.RawSetString(key, lift(state, each))
		}
		return table
	}
	return lua.LNil
}
