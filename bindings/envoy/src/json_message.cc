// SPDX-License-Identifier: Apache-2.0
#include "json_message.h"

#include "json_values.h"

namespace proxywasm_envoy {

namespace {

using nlohmann::json;

// Protobuf's own limit. What comes from Envoy has passed it.
constexpr std::size_t max_depth = 100;

// Brackets outside of strings. Malformed text may be counted wrongly; that is the parser's to refuse.
bool too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) {
        return true;
      }
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

std::string lower_camel_case(std::string_view snake) {
  std::string camel;
  bool upper = false;
  for (const char c : snake) {
    if (c == '_') {
      upper = true;
      continue;
    }
    camel += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    upper = false;
  }
  return camel;
}

[[noreturn]] void refuse_value(const std::string &path, const json &value, const std::string &wanted) {
  throw json_error(path + ": found " + describe(value) + ", wanted " + wanted);
}

const std::string &text_of(const json &value, const std::string &path) {
  if (const auto *text = value.get_ptr<const std::string *>()) {
    return *text;
  }
  refuse_value(path, value, "text");
}

std::string any_bytes(json_message any, const std::string &path) {
  const std::optional<std::string> type = any.text("@type");
  if (!type) {
    if (!any.empty()) {
      throw json_error(path + ": found an object without \"@type\", wanted a google.protobuf.Any");
    }
    return {};
  }
  const std::string name = type->substr(type->rfind('/') + 1);
  std::string bytes;
  if (type->find('/') == std::string::npos) {
    any.refuse("@type", "a URL such as type.googleapis.com/google.protobuf.StringValue");
  } else if (name == "google.protobuf.StringValue") {
    bytes = any.text("value").value_or("");
  } else if (name == "google.protobuf.BytesValue") {
    bytes = any.base64("value").value_or("");
  } else if (name == "google.protobuf.Struct") {
    bytes = any.struct_text("value").value_or("{}");
  } else if (name != "google.protobuf.Empty") {
    any.refuse("@type", "google.protobuf.StringValue, BytesValue or Struct");
  }
  any.end();
  return bytes;
}

}  // namespace

json parse_json(std::string_view text) {
  if (text.empty()) {
    throw json_error("the configuration: found nothing, wanted a google.protobuf.Struct");
  }
  if (too_deep(text)) {
    throw json_error("the configuration: found more than " + std::to_string(max_depth) +
                     " levels of objects and lists, wanted fewer");
  }
  try {
    return json::parse(text);
  } catch (const json::exception &error) {
    // "[json.exception.parse_error.101] parse error at line 1, …"; it quotes bytes as they are.
    std::string_view what = error.what();
    if (const std::size_t end = what.find("] "); end != std::string_view::npos) {
      what.remove_prefix(end + 2);
    }
    throw json_error("the configuration: found no JSON (" + printable(what, 200) +
                     "), wanted a google.protobuf.Struct");
  }
}

json_message::json_message(const json &value, std::string path) : value_(&value), path_(std::move(path)) {
  if (!value.is_object()) {
    refuse_value(path_.empty() ? "the configuration" : path_, value, "an object");
  }
}

std::string json_message::where(std::string_view field) const {
  const std::string name = printable(field, 80);
  return path_.empty() ? name : path_ + "." + name;
}

std::optional<json_message::found> json_message::look(const char *field) const {
  const auto snake = value_->find(field);
  const std::string camel_name = lower_camel_case(field);
  const auto camel = camel_name == field ? value_->end() : value_->find(camel_name);
  if (snake != value_->end() && camel != value_->end()) {
    throw json_error(where(field) + ": found also as " + camel_name + ", wanted it once");
  }
  const auto it = snake != value_->end() ? snake : camel;
  if (it == value_->end() || it->is_null()) {
    return std::nullopt;
  }
  return found{&*it, where(it.key())};
}

std::optional<json_message::found> json_message::take(const char *field) {
  known_.emplace_back(field);
  return look(field);
}

bool json_message::has(const char *field) const { return look(field).has_value(); }

bool json_message::empty() const { return value_->empty(); }

void json_message::refuse(const char *field, const std::string &wanted) const {
  const std::optional<found> one = look(field);
  if (!one) {
    throw json_error(where(field) + ": found nothing, wanted " + wanted);
  }
  refuse_value(one->path, *one->value, wanted);
}

std::optional<std::string> json_message::text(const char *field) {
  const std::optional<found> one = take(field);
  return one ? std::optional<std::string>(text_of(*one->value, one->path)) : std::nullopt;
}

std::optional<bool> json_message::boolean(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  if (!one->value->is_boolean()) {
    refuse_value(one->path, *one->value, "true or false");
  }
  return one->value->get<bool>();
}

std::optional<std::uint64_t> json_message::number(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  const std::optional<std::uint64_t> number = whole_number(*one->value);
  if (!number) {
    refuse_value(one->path, *one->value, "a whole number that is not negative and fits in 64 bits");
  }
  return number;
}

std::optional<std::uint64_t> json_message::duration(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  const auto *text = one->value->get_ptr<const std::string *>();
  const std::optional<std::uint64_t> ns = text ? duration_ns(*text) : std::nullopt;
  if (!ns) {
    refuse_value(one->path, *one->value, "a duration in seconds such as \"1.5s\"");
  }
  return ns;
}

std::optional<std::string> json_message::base64(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  const auto *text = one->value->get_ptr<const std::string *>();
  std::optional<std::string> bytes = text ? decode_base64(*text) : std::nullopt;
  if (!bytes) {
    refuse_value(one->path, *one->value, "bytes in base64");
  }
  return bytes;
}

std::optional<json_message> json_message::message(const char *field) {
  const std::optional<found> one = take(field);
  return one ? std::optional<json_message>(json_message(*one->value, one->path)) : std::nullopt;
}

std::optional<std::vector<std::string>> json_message::texts(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  if (!one->value->is_array()) {
    refuse_value(one->path, *one->value, "a list of texts");
  }
  std::vector<std::string> list;
  for (const json &item : *one->value) {
    list.push_back(text_of(item, one->path + "[" + std::to_string(list.size()) + "]"));
  }
  return list;
}

std::optional<std::string> json_message::struct_text(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  if (!one->value->is_object()) {
    refuse_value(one->path, *one->value, "an object");
  }
  return one->value->dump();
}

std::optional<std::string> json_message::any(const char *field) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  if (!one->value->is_object()) {
    refuse_value(one->path, *one->value, "a google.protobuf.Any: an object with \"@type\" and \"value\"");
  }
  return any_bytes(json_message(*one->value, one->path), one->path);
}

std::optional<std::vector<std::pair<std::string, json_message>>> json_message::messages(const char *field) {
  const std::optional<json_message> map = message(field);
  if (!map) {
    return std::nullopt;
  }
  std::vector<std::pair<std::string, json_message>> list;
  for (const auto &[key, value] : map->value_->items()) {
    list.emplace_back(key, json_message(value, map->where(key)));
  }
  return list;
}

std::optional<std::vector<std::pair<std::string, std::string>>> json_message::text_map(const char *field) {
  const std::optional<json_message> map = message(field);
  if (!map) {
    return std::nullopt;
  }
  std::vector<std::pair<std::string, std::string>> list;
  for (const auto &[key, value] : map->value_->items()) {
    list.emplace_back(key, text_of(value, map->where(key)));
  }
  return list;
}

std::optional<std::size_t> json_message::find_name(const char *field,
                                                   const std::vector<std::pair<const char *, std::int64_t>> &known) {
  const std::optional<found> one = take(field);
  if (!one) {
    return std::nullopt;
  }
  const auto *name = one->value->get_ptr<const std::string *>();
  // Only a number is a number here: protobuf takes none that is written as text.
  const std::optional<std::uint64_t> number = name ? std::nullopt : whole_number(*one->value);
  std::string wanted = "one of";
  for (std::size_t i = 0; i < known.size(); ++i) {
    if ((name && *name == known[i].first) || (number && *number == static_cast<std::uint64_t>(known[i].second))) {
      return i;
    }
    wanted += (i == 0 ? " " : ", ") + std::string(known[i].first);
  }
  refuse_value(one->path, *one->value, wanted);
}

void json_message::end(const char *about, const char *hint) const {
  for (const auto &[key, value] : value_->items()) {
    bool known = false;
    std::string wanted;
    for (const std::string &name : known_) {
      known = known || key == name || key == lower_camel_case(name);
      wanted += (wanted.empty() ? "" : ", ") + name;
    }
    if (known) {
      continue;
    }
    if (about != nullptr && key == about) {
      throw json_error(where(key) + ": " + hint);
    }
    throw json_error(where(key) + ": found an unknown field, wanted " + (wanted.empty() ? "none" : "one of " + wanted));
  }
}

void json_message::at_most_one(std::initializer_list<const char *> fields) const {
  const char *first = nullptr;
  for (const char *field : fields) {
    if (!has(field)) {
      continue;
    }
    if (first != nullptr) {
      throw json_error(where(field) + ": found beside " + first + ", wanted one of the two");
    }
    first = field;
  }
}

}  // namespace proxywasm_envoy
