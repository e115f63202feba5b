// SPDX-License-Identifier: Apache-2.0
// The attributes that Envoy answers for by number.

#include <algorithm>
#include <iterator>

#include "properties.h"
#include "property_encoding.h"

namespace proxywasm_envoy {

using proxywasm::status;

namespace {

using abi::attribute;
using namespace std::string_view_literals;

// `mtls` is a truth that Envoy knows for TLS only; without TLS it is false.
enum class kind { text, number, mtls };

struct entry {
  std::string_view path;
  attribute id;
  kind type;
};

// In the order of their paths.
constexpr entry table[] = {
    {"connection\0dns_san_local_certificate"sv, attribute::connection_dns_san_local_certificate, kind::text},
    {"connection\0dns_san_peer_certificate"sv, attribute::connection_dns_san_peer_certificate, kind::text},
    {"connection\0id"sv, attribute::connection_id, kind::number},
    {"connection\0mtls"sv, attribute::connection_mtls, kind::mtls},
    {"connection\0requested_server_name"sv, attribute::connection_requested_server_name, kind::text},
    {"connection\0sha256_peer_certificate_digest"sv, attribute::connection_sha256_peer_certificate_digest, kind::text},
    {"connection\0subject_local_certificate"sv, attribute::connection_subject_local_certificate, kind::text},
    {"connection\0subject_peer_certificate"sv, attribute::connection_subject_peer_certificate, kind::text},
    {"connection\0termination_details"sv, attribute::connection_termination_details, kind::text},
    {"connection\0tls_version"sv, attribute::connection_tls_version, kind::text},
    {"connection\0transport_failure_reason"sv, attribute::connection_transport_failure_reason, kind::text},
    {"connection\0uri_san_local_certificate"sv, attribute::connection_uri_san_local_certificate, kind::text},
    {"connection\0uri_san_peer_certificate"sv, attribute::connection_uri_san_peer_certificate, kind::text},
    // The older name of connection.id.
    {"connection_id"sv, attribute::connection_id, kind::number},
    {"destination\0address"sv, attribute::destination_address, kind::text},
    {"destination\0port"sv, attribute::destination_port, kind::number},
    {"request\0host"sv, attribute::request_host, kind::text},
    {"request\0id"sv, attribute::request_id, kind::text},
    {"request\0method"sv, attribute::request_method, kind::text},
    {"request\0path"sv, attribute::request_path, kind::text},
    {"request\0protocol"sv, attribute::request_protocol, kind::text},
    {"request\0query"sv, attribute::request_query, kind::text},
    {"request\0referer"sv, attribute::request_referer, kind::text},
    {"request\0scheme"sv, attribute::request_scheme, kind::text},
    {"request\0size"sv, attribute::request_size, kind::number},
    {"request\0total_size"sv, attribute::request_total_size, kind::number},
    {"request\0url_path"sv, attribute::request_url_path, kind::text},
    {"request\0useragent"sv, attribute::request_useragent, kind::text},
    {"response\0code"sv, attribute::response_code, kind::number},
    {"response\0code_details"sv, attribute::response_code_details, kind::text},
    {"response\0flags"sv, attribute::response_flags, kind::number},
    {"response\0grpc_status"sv, attribute::response_grpc_status, kind::number},
    {"response\0size"sv, attribute::response_size, kind::number},
    {"response\0total_size"sv, attribute::response_total_size, kind::number},
    {"source\0address"sv, attribute::source_address, kind::text},
    {"source\0port"sv, attribute::source_port, kind::number},
    {"upstream\0address"sv, attribute::upstream_address, kind::text},
    {"upstream\0cx_pool_ready_duration"sv, attribute::upstream_cx_pool_ready_duration, kind::number},
    {"upstream\0dns_san_local_certificate"sv, attribute::upstream_dns_san_local_certificate, kind::text},
    {"upstream\0dns_san_peer_certificate"sv, attribute::upstream_dns_san_peer_certificate, kind::text},
    {"upstream\0local_address"sv, attribute::upstream_local_address, kind::text},
    {"upstream\0port"sv, attribute::upstream_port, kind::number},
    {"upstream\0request_attempt_count"sv, attribute::upstream_request_attempt_count, kind::number},
    {"upstream\0sha256_peer_certificate_digest"sv, attribute::upstream_sha256_peer_certificate_digest, kind::text},
    {"upstream\0subject_local_certificate"sv, attribute::upstream_subject_local_certificate, kind::text},
    {"upstream\0subject_peer_certificate"sv, attribute::upstream_subject_peer_certificate, kind::text},
    {"upstream\0tls_version"sv, attribute::upstream_tls_version, kind::text},
    {"upstream\0transport_failure_reason"sv, attribute::upstream_transport_failure_reason, kind::text},
    {"upstream\0uri_san_local_certificate"sv, attribute::upstream_uri_san_local_certificate, kind::text},
    {"upstream\0uri_san_peer_certificate"sv, attribute::upstream_uri_san_peer_certificate, kind::text},
    {"xds\0cluster_name"sv, attribute::xds_cluster_name, kind::text},
    {"xds\0filter_chain_name"sv, attribute::xds_filter_chain_name, kind::text},
    {"xds\0listener_direction"sv, attribute::xds_listener_direction, kind::number},
    {"xds\0route_name"sv, attribute::xds_route_name, kind::text},
    {"xds\0virtual_host_name"sv, attribute::xds_virtual_host_name, kind::text},
};

constexpr bool is_sorted() {
  for (std::size_t i = 1; i < std::size(table); ++i) {
    if (!(table[i - 1].path < table[i].path)) {
      return false;
    }
  }
  return true;
}
static_assert(is_sorted(), "found by halving");

}  // namespace

status get_attribute(const attribute_source &source, void *filter, std::string_view path, std::string &room,
                     std::string_view &value) {
  const entry *found = std::lower_bound(std::begin(table), std::end(table), path,
                                        [](const entry &one, std::string_view wanted) { return one.path < wanted; });
  if (source.text == nullptr || found == std::end(table) || found->path != path) {
    return status::not_found;
  }
  if (found->type == kind::text) {
    abi::buffer text{};
    if (!source.text(filter, found->id, &text)) {
      return status::not_found;
    }
    value = abi::view(text);
    return status::ok;
  }
  if (found->type == kind::mtls) {
    bool truth = false;
    room.assign(1, source.boolean(filter, found->id, &truth) && truth ? '\1' : '\0');
  } else {
    std::uint64_t number = 0;
    if (!source.number(filter, found->id, &number)) {
      return status::not_found;
    }
    room = encode_integer(number);
  }
  value = room;
  return status::ok;
}

}  // namespace proxywasm_envoy
