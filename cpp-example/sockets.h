// SPDX-License-Identifier: Apache-2.0
// What this program does with libevent's sockets wherever it has one.

#pragma once

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "options.h"

template <typename T, void (*Free)(T *)>
struct libevent_deleter {
  void operator()(T *object) const { Free(object); }
};
using bufferevent_ptr = std::unique_ptr<bufferevent, libevent_deleter<bufferevent, bufferevent_free>>;
using event_ptr = std::unique_ptr<event, libevent_deleter<event, event_free>>;

// Reading pauses by itself when this much is unread. A closed connection is still noticed, as long as less is.
constexpr std::size_t read_mark = 64 * 1024;
// No more is read from the one side when this much waits to be written to the other.
constexpr std::size_t write_mark = 256 * 1024;

// A socket that reads and writes; -1 for one that is yet to connect. Owns `socket`. Callbacks never run inside our own calls, so
// what they belong to may be destroyed anywhere. `on_data`: something has come or gone out.
bufferevent_ptr make_socket(event_base *base, evutil_socket_t socket, bufferevent_data_cb on_data,
                            bufferevent_event_cb on_event, void *self);
// Begins to connect; false when that has failed already.
bool connect_socket(bufferevent *socket, const endpoint &upstream);

// Whether more may be written for now.
inline bool has_room(const evbuffer *output) { return evbuffer_get_length(output) < write_mark; }
// The address of this end, "192.0.2.1:80"; empty when it has none.
std::string local_address(evutil_socket_t socket);
// Sends small writes at once.
void set_no_delay(bufferevent *socket);
// No more is sent; the other end sees the end of the stream.
void end_writing(bufferevent *socket);
// Drops what has come or waits to go out.
void discard(evbuffer *buffer);

timeval to_timeval(std::chrono::milliseconds time);
// What is left of `limit`, at least 0.
std::chrono::milliseconds time_left(std::chrono::steady_clock::time_point since, std::chrono::milliseconds limit);
