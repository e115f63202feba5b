// SPDX-License-Identifier: Apache-2.0
// Reads protobuf messages that are written as JSON (the proto3 JSON mapping), strictly: fields under either of their names,
// each once, nothing unknown. What is wrong is a `json_error`, one sentence that begins with the field's path.

#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxywasm_envoy {

class json_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws `json_error` also for what nlohmann's parser takes: objects in objects beyond a depth at which recursion is safe.
nlohmann::json parse_json(std::string_view text);

// One value of an enumeration: its name and its number in protobuf.
template <typename T>
struct enum_name {
  const char *name;
  std::int64_t number;
  T value;
};

class json_message {
 public:
  // `path` is empty for the outermost message. The JSON must outlive this.
  json_message(const nlohmann::json &value, std::string path);

  // Each is given a field's name in lower_snake_case. A field that is not there, or null, gives nothing.
  std::optional<std::string> text(const char *field);
  std::optional<bool> boolean(const char *field);
  std::optional<std::uint64_t> number(const char *field);
  // In nanoseconds, not negative; what 64 bits do not hold becomes their greatest value.
  std::optional<std::uint64_t> duration(const char *field);
  std::optional<std::string> base64(const char *field);
  std::optional<json_message> message(const char *field);
  std::optional<std::vector<std::string>> texts(const char *field);
  // A google.protobuf.Struct, as JSON again.
  std::optional<std::string> struct_text(const char *field);
  // What is in a google.protobuf.Any, as Envoy hands it to plugins: a StringValue's or BytesValue's value, a Struct as JSON.
  std::optional<std::string> any(const char *field);
  // Keys of a map and where their values are.
  std::optional<std::vector<std::pair<std::string, json_message>>> messages(const char *field);
  std::optional<std::vector<std::pair<std::string, std::string>>> text_map(const char *field);
  template <typename T>
  std::optional<T> one_of(const char *field, const std::vector<enum_name<T>> &names) {
    std::vector<std::pair<const char *, std::int64_t>> known;
    for (const enum_name<T> &one : names) {
      known.emplace_back(one.name, one.number);
    }
    const std::optional<std::size_t> found = find_name(field, known);
    return found ? std::optional<T>(names[*found].value) : std::nullopt;
  }

  // Refuses fields that were not asked for. `hint` is added to what is said of the one named `about`.
  void end(const char *about = nullptr, const char *hint = nullptr) const;
  // Refuses a second one of fields that exclude each other.
  void at_most_one(std::initializer_list<const char *> fields) const;
  bool has(const char *field) const;
  bool empty() const;
  // For the path of a field of this message.
  std::string where(std::string_view field) const;
  // The error of a field: what was found and what is wanted.
  [[noreturn]] void refuse(const char *field, const std::string &wanted) const;

 private:
  struct found {
    const nlohmann::json *value;
    std::string path;
  };
  std::optional<found> look(const char *field) const;
  std::optional<found> take(const char *field);
  std::optional<std::size_t> find_name(const char *field,
                                       const std::vector<std::pair<const char *, std::int64_t>> &known);

  const nlohmann::json *value_;
  std::string path_;
  std::vector<std::string> known_;
};

}  // namespace proxywasm_envoy
