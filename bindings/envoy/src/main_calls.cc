// SPDX-License-Identifier: Apache-2.0
#include "main_calls.h"

#include "process.h"
#include "worker.h"

namespace proxywasm_envoy {

fields copy_fields(const abi::header *headers, std::size_t count) {
  fields list;
  list.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    list.emplace_back(std::string(headers[i].key_ptr, headers[i].key_length),
                      std::string(headers[i].value_ptr, headers[i].value_length));
  }
  return list;
}

void main_calls::bring(const running &to, std::function<void(call &)> what) {
  worker *from = to.from;
  const proxywasm_token token = to.token;
  from->later([from, token, what = std::move(what)] {
    if (call *one = from->find_call(token)) {
      what(*one);
    }
  });
}

std::uint64_t main_calls::start(worker &from, proxywasm_token token, call_request request) {
  const std::uint64_t number = ++last_number_;
  const bool asked = owner_.post([this, number, &from, token, request = std::move(request)](void *config) {
    begin(number, from, token, request, config);
  });
  if (!asked) {
    bring({&from, token, nullptr, 0}, [](call &one) { one.on_refused(); });
  }
  return number;
}

void main_calls::begin(std::uint64_t number, worker &from, proxywasm_token token, const call_request &request,
                       void *config) {
  // Before it starts: it may end at once.
  running &one = calls_.emplace(number, running{&from, token, config, 0}).first->second;
  const std::vector<abi::header> headers = to_headers(request.headers);
  const bool ends = request.ends && request.trailers.empty();
  const abi::callout_init_result result = abi::envoy_dynamic_module_callback_http_filter_config_start_http_stream(
      config, &one.id, abi::to_buffer(request.cluster), headers.data(), headers.size(), abi::to_buffer(request.body),
      ends, request.timeout_ms);
  const auto found = calls_.find(number);
  if (found == calls_.end()) {
    return;
  }
  if (result != abi::callout_init_result::success) {
    const running refused = found->second;
    calls_.erase(found);
    bring(refused, [](call &ended) { ended.on_refused(); });
    return;
  }
  if (!request.trailers.empty()) {
    const std::vector<abi::header> trailers = to_headers(request.trailers);
    (void)abi::envoy_dynamic_module_callback_http_filter_config_stream_send_trailers(config, found->second.id,
                                                                                     trailers.data(), trailers.size());
  }
}

void main_calls::send(std::uint64_t number, std::string bytes, bool end_of_stream) {
  (void)owner_.post([this, number, bytes = std::move(bytes), end_of_stream](void *) {
    const auto found = calls_.find(number);
    if (found != calls_.end()) {
      (void)abi::envoy_dynamic_module_callback_http_filter_config_stream_send_data(
          const_cast<void *>(found->second.config), found->second.id, abi::to_buffer(bytes), end_of_stream);
    }
  });
}

void main_calls::reset(std::uint64_t number) {
  (void)owner_.post([this, number](void *) {
    const auto found = calls_.find(number);
    if (found != calls_.end()) {
      const running one = found->second;
      calls_.erase(found);
      abi::envoy_dynamic_module_callback_http_filter_config_reset_http_stream(const_cast<void *>(one.config), one.id);
    }
  });
}

main_calls::running *main_calls::find(const void *config, std::uint64_t id) {
  for (auto &[number, one] : calls_) {
    if (one.config == config && one.id == id) {
      return &one;
    }
  }
  return nullptr;
}

void main_calls::finish(const void *config, std::uint64_t id, std::function<void(call &)> what) {
  for (auto one = calls_.begin(); one != calls_.end(); ++one) {
    if (one->second.config == config && one->second.id == id) {
      bring(one->second, std::move(what));
      calls_.erase(one);
      return;
    }
  }
}

void main_calls::on_headers(const void *config, std::uint64_t id, const abi::header *headers, std::size_t count,
                            bool end) {
  if (const running *one = find(config, id)) {
    bring(*one, [list = copy_fields(headers, count), end](call &to) { to.on_headers(list, end); });
  }
}

void main_calls::on_data(const void *config, std::uint64_t id, const abi::buffer *chunks, std::size_t count, bool end) {
  if (const running *one = find(config, id)) {
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i) {
      bytes.append(abi::view(chunks[i]));
    }
    bring(*one, [bytes = std::move(bytes), end](call &to) { to.on_data(bytes, end); });
  }
}

void main_calls::on_trailers(const void *config, std::uint64_t id, const abi::header *trailers, std::size_t count) {
  if (const running *one = find(config, id)) {
    bring(*one, [list = copy_fields(trailers, count)](call &to) { to.on_trailers(list); });
  }
}

void main_calls::on_complete(const void *config, std::uint64_t id) {
  finish(config, id, [](call &to) { to.on_complete(); });
}

void main_calls::on_reset(const void *config, std::uint64_t id, abi::stream_reset_reason reason) {
  finish(config, id, [reason](call &to) { to.on_reset(reason); });
}

void main_calls::on_config_end(const void *config) {
  for (auto one = calls_.begin(); one != calls_.end();) {
    if (one->second.config == config) {
      bring(one->second, [](call &to) { to.on_reset(abi::stream_reset_reason::local_reset); });
      one = calls_.erase(one);
    } else {
      ++one;
    }
  }
}

}  // namespace proxywasm_envoy
