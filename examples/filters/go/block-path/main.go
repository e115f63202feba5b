// SPDX-License-Identifier: Apache-2.0

// Block-path answers requests for the configured paths, and all below them, in place of the upstream.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{} })
}

type config struct {
	Prefixes []string `json:"prefixes"`
	Status   uint32   `json:"status"`
	Body     string   `json:"body"`
}

func parse(text []byte) (*config, error) {
	parsed := &config{Status: 403, Body: "blocked\n"}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(parsed); err == io.EOF {
		return nil, errors.New("it is empty, and \"prefixes\" is needed")
	} else if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	if len(parsed.Prefixes) == 0 {
		return nil, errors.New("\"prefixes\" is empty")
	}
	for i, prefix := range parsed.Prefixes {
		if !strings.HasPrefix(prefix, "/") {
			return nil, fmt.Errorf("prefix %q does not start with /", prefix)
		}
		parsed.Prefixes[i] = path.Clean(prefix)
	}
	if parsed.Status < 200 || parsed.Status > 599 {
		return nil, fmt.Errorf("%d is not a response status", parsed.Status)
	}
	return parsed, nil
}

// blocks tells whether a request path is one of the prefixes or below one: /admin blocks /admin/users, and
// does not block /administrators.
func (c *config) blocks(requested string) bool {
	requested, _, _ = strings.Cut(requested, "?")
	// What the upstream may take for the same path must not pass: /x/../admin, //admin, /%61dmin.
	decoded, err := url.PathUnescape(requested)
	if err != nil {
		return true
	}
	cleaned := path.Clean("/" + decoded)
	for _, prefix := range c.Prefixes {
		if cleaned == prefix || strings.HasPrefix(cleaned, strings.TrimSuffix(prefix, "/")+"/") {
			return true
		}
	}
	return false
}

type plugin struct {
	types.DefaultPluginContext
	config *config
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	// The SDK reports an empty configuration as one that was not found.
	if err == nil || errors.Is(err, types.ErrorStatusNotFound) {
		p.config, err = parse(text)
	}
	if err != nil {
		proxywasm.LogErrorf("block-path: configuration refused: %v", err)
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
	requested, err := proxywasm.GetHttpRequestHeader(":path")
	if err == nil && !s.config.blocks(requested) {
		return types.ActionContinue
	}
	headers := [][2]string{{"content-type", "text/plain"}}
	if err := proxywasm.SendHttpResponse(s.config.Status, headers, []byte(s.config.Body), -1); err != nil {
		proxywasm.LogErrorf("block-path: cannot answer: %v", err)
	}
	return types.ActionPause
}
