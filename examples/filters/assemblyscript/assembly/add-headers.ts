// SPDX-License-Identifier: Apache-2.0

// Adds the headers named in its configuration to every request and every response.

// The callbacks and malloc, which the proxy calls.
export * from "@gcoredev/proxy-wasm-sdk-as/assembly/proxy";

import {
  Context,
  FilterHeadersStatusValues,
  LogLevelValues,
  registerRootContext,
  RootContext,
  stream_context,
} from "@gcoredev/proxy-wasm-sdk-as/assembly";
import { setLogLevel } from "@gcoredev/proxy-wasm-sdk-as/assembly/fastedge";
import { proxy_log } from "@gcoredev/proxy-wasm-sdk-as/assembly/imports";

import { Header, HeaderConfig } from "./header-config";

// The SDK's own log() writes to stdout, where the proxy cannot see the level.
function logError(text: string): void {
  const bytes = String.UTF8.encode(text);
  proxy_log(LogLevelValues.error, changetype<usize>(bytes), bytes.byteLength);
}

class Root extends RootContext {
  headers: HeaderConfig = new HeaderConfig();

  onConfigure(size: u32): bool {
    // The SDK reads the configuration, and leaves the previous one where the new one is empty.
    super.onConfigure(size);
    const text = size == 0 ? "" : this.getConfiguration();
    let headers: HeaderConfig;
    if (text.trim() == "") {
      headers = new HeaderConfig();
      headers.request.push(new Header("x-proxy-wasm", "assemblyscript"));
      headers.response.push(new Header("x-plugin", "assemblyscript-add-headers"));
    } else {
      headers = HeaderConfig.parse(text);
      if (headers.error != "") {
        logError("add-headers: configuration refused: " + headers.error);
        return false;
      }
    }
    this.headers = headers;
    return true;
  }

  createContext(id: u32): Context {
    return new AddHeaders(id, this, this.headers);
  }
}

class AddHeaders extends Context {
  constructor(id: u32, root: Root, private headers: HeaderConfig) {
    super(id, root);
  }

  onRequestHeaders(count: u32, endOfStream: bool): FilterHeadersStatusValues {
    for (let i = 0; i < this.headers.request.length; i++) {
      const header = this.headers.request[i];
      stream_context.headers.request.add(header.name, header.value);
    }
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(count: u32, endOfStream: bool): FilterHeadersStatusValues {
    for (let i = 0; i < this.headers.response.length; i++) {
      const header = this.headers.response[i];
      stream_context.headers.response.add(header.name, header.value);
    }
    return FilterHeadersStatusValues.Continue;
  }
}

// At the level of the SDK it would print a line for every callback.
setLogLevel(LogLevelValues.warn);

// This version of the SDK ignores the name, so the plugin works under every root id.
registerRootContext((id: u32): RootContext => new Root(id), "");
