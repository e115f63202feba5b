// SPDX-License-Identifier: Apache-2.0
// The callbacks that are the same wherever streams come from: header maps, properties, what plugins ask of a stream.

#pragma once

#include <proxywasm.hpp>

#include <string>
#include <string_view>

#include "header_map.h"

// A stream as plugins reach it. Its address is the `stream_data` that the library hands back. The `on_*` methods are called
// inside calls of the library, so they may only note what is wanted; it is done after that call has returned.
class plugin_stream {
 public:
  virtual ~plugin_stream() = default;
  // Null when the stream has no such map now.
  virtual header_map *find_map(proxywasm::map which) = 0;
  // False when the map has gone on, so that a change would change nothing.
  virtual bool can_change(proxywasm::map) const { return true; }
  // A property in Envoy's encoding; false when there is none.
  virtual bool find_property(std::string_view path, std::string &value) const = 0;
  virtual proxywasm::status on_local_response(const proxywasm_local_response &response) = 0;
  virtual void on_resume(proxywasm::direction way) = 0;
  virtual void on_close(proxywasm::stream_type which) = 0;
};

class stream_host : public proxywasm::host {
 public:
  using host::host;

  proxywasm::status get_header(void *stream, proxywasm::map which, std::string_view name,
                               std::string_view &value) override;
  proxywasm::status get_headers(void *stream, proxywasm::map which, proxywasm::pair_sink &headers) override;
  proxywasm::status add_header(void *stream, proxywasm::map which, std::string_view name,
                               std::string_view value) override;
  proxywasm::status replace_header(void *stream, proxywasm::map which, std::string_view name,
                                   std::string_view value) override;
  proxywasm::status remove_header(void *stream, proxywasm::map which, std::string_view name) override;
  proxywasm::status set_headers(void *stream, proxywasm::map which,
                                proxywasm::array_view<proxywasm_pair> headers) override;
  proxywasm::status get_property(void *stream, std::string_view path, std::string_view &value) override;
  proxywasm::status send_local_response(void *stream, const proxywasm_local_response &response) override;
  void resume_stream(void *stream, proxywasm::direction way) override;
  void close_stream(void *stream, proxywasm::stream_type which) override;

 protected:
  static plugin_stream *to_stream(void *stream) { return static_cast<plugin_stream *>(stream); }

 private:
  // What `get_property` gave back last: it must live until the next callback.
  std::string property_;
};

// The name of a log level, "info".
const char *level_name(std::int32_t level);
// The level of a name; false for an unknown one.
bool parse_level(std::string_view name, proxywasm::log_level &level);
