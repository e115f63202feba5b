// SPDX-License-Identifier: Apache-2.0
#include "connection.h"

#include "event_loop.h"

void connection::pump() {
  while (!closed_ && !lingering_) {
    if (exchange_) {
      exchange_->advance();
      if (!exchange_->over()) {
        break;
      }
      end_exchange();
      continue;
    }
    if (closing_) {
      if (evbuffer_get_length(output()) == 0) {
        lingering_ = true;
        close_softly();
      }
      break;
    }
    // A client that pipelines without reading must not fill our memory.
    if (!has_room()) {
      break;
    }
    const message_reader::event event = read_request();
    if (event == message_reader::event::head) {
      begin_exchange();
    } else if (event == message_reader::event::failed) {
      answer(reader_.error_status(), "text/plain", reader_.error() + "\n");
      closing_ = true;
    } else {
      if (loop_.stopping()) {
        closing_ = true;
        continue;
      }
      break;
    }
  }
  if (lingering_) {
    discard(input());
  }
  if (closed_) {
    loop_.remove(this);  // destroys this connection
    return;
  }
  if (!lingering_) {
    arm_timer(exchange_ ? exchange_->patience() : loop_.options().idle_timeout);
  }
}

void connection::begin_exchange() {
  const message_head &head = reader_.head();
  const std::string path = head.target.substr(0, head.target.find('?'));
  const bool wants_metrics = !loop_.options().metrics_path.empty() && path == loop_.options().metrics_path;
  if (wants_metrics || head.method == "CONNECT") {
    if (wants_metrics) {
      answer(200, "text/plain; version=0.0.4", loop_.engine().render_metrics());
    } else {
      answer(501, "text/plain", "CONNECT is not supported\n");
    }
    closing_ = true;
    return;
  }
  try {
    exchange_ = std::make_unique<exchange>(loop_, *this);
  } catch (const proxywasm::error &error) {
    // The worker can run no stream any more.
    loop_.log(proxywasm::log_level::critical, "proxy", std::string(error.name()) + ": " + error.what());
    answer(503, "text/plain", "no plugins\n");
    closing_ = true;
  }
}

void connection::end_exchange() {
  const bool hard = exchange_->aborted() && (gone_ || !exchange_->cut_short());
  closing_ = !exchange_->reusable();
  exchange_.reset();
  if (hard) {
    close_hard();
    closed_ = true;
  } else if (!closing_) {
    reader_.begin_next();
  }
}

// An answer that no plugin sees: to what is not a request, or none for the upstream.
void connection::answer(unsigned status, std::string_view type, std::string_view body) {
  header_map fields;
  fields.add("content-type", type);
  message_writer writer;
  writer.head(output(), "HTTP/1.1 " + status_line_text(status), fields, framing::length, body.size(), true);
  (void)writer.body(output(), body);
}

void connection::stop() {
  if (!exchange_) {
    schedule();
  }
}

void connection::on_ended(short) {
  // End of file or an error: either way the client is gone, as far as a proxy can tell.
  gone_ = true;
  if (exchange_) {
    exchange_->client_gone();
  } else {
    closed_ = true;
  }
}

void connection::on_timeout() {
  if (exchange_) {
    exchange_->on_impatience();
  } else {
    closed_ = true;
  }
}
