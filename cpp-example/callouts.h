// SPDX-License-Identifier: Apache-2.0
// HTTP calls that plugins make to clusters (`proxy_http_call`).

#pragma once

#include <map>
#include <memory>

#include "http_client.h"

class event_loop;

class callouts {
 public:
  explicit callouts(event_loop &loop);
  ~callouts();

  // Inside a callback of the library: begins the call and returns.
  proxywasm::status start(proxywasm_token token, const proxywasm_http_request &request);
  void cancel(proxywasm_token token);

 private:
  class call;
  // Takes the call out and gives the answer, or its absence, to the library.
  void finish(proxywasm_token token, bool answered);

  event_loop &loop_;
  std::map<proxywasm_token, std::unique_ptr<call>> calls_;
};
