// SPDX-License-Identifier: Apache-2.0

// Add-headers adds the headers named in its configuration to every request and every response.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{} })
}

type header struct{ name, value string }

type config struct{ request, response []header }

var headerName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func parse(text []byte) (*config, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return &config{
			request:  []header{{"x-proxy-wasm", "go"}},
			response: []header{{"x-plugin", "go-add-headers"}},
		}, nil
	}
	var sections map[string]map[string]*string
	if err := json.Unmarshal(text, &sections); err != nil {
		return nil, err
	}
	parsed := &config{}
	for section, values := range sections {
		var headers []header
		// Sorted, since Go walks a map in another order each time.
		for _, name := range slices.Sorted(maps.Keys(values)) {
			value := values[name]
			if !headerName.MatchString(name) {
				return nil, fmt.Errorf("%q is not a header name", name)
			}
			if value == nil {
				return nil, fmt.Errorf("the value of %q is not a string", name)
			}
			// A line break would let a value become another header.
			if strings.ContainsFunc(*value, isControl) {
				return nil, fmt.Errorf("the value of %q has a control character", name)
			}
			headers = append(headers, header{name, *value})
		}
		switch section {
		case "request":
			parsed.request = headers
		case "response":
			parsed.response = headers
		default:
			return nil, fmt.Errorf("unknown field %q", section)
		}
	}
	return parsed, nil
}

type plugin struct {
	types.DefaultPluginContext
	config *config
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	// The SDK reports an empty configuration as one that was not found.
	if errors.Is(err, types.ErrorStatusNotFound) {
		err = nil
	}
	if err == nil {
		p.config, err = parse(text)
	}
	if err != nil {
		proxywasm.LogErrorf("add-headers: configuration refused: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	return &stream{config: p.config}
}

type stream struct {
	types.DefaultHttpContext
	config *config
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	add("request", s.config.request, proxywasm.AddHttpRequestHeader)
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(int, bool) types.Action {
	add("response", s.config.response, proxywasm.AddHttpResponseHeader)
	return types.ActionContinue
}

func add(what string, headers []header, one func(name, value string) error) {
	for _, h := range headers {
		if err := one(h.name, h.value); err != nil {
			proxywasm.LogErrorf("add-headers: cannot add %s header %s: %v", what, h.name, err)
		}
	}
}
