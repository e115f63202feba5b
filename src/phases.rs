// SPDX-License-Identifier: Apache-2.0
//! How a message moves through a chain: Envoy's filter iteration, for one direction of one stream.
//!
//! Positions count in the direction of travel: position 0 is the first plugin for requests and the last for responses.

use crate::abi::MapType;
use crate::body::{Body, Chunk};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Flow, Lane, Trailers};
use crate::plugin::Phases;
use crate::stream::{Action, Direction, Outcome, Stream, StreamKind, Way};
use std::rc::Rc;

/// Statuses of the data callbacks (`Http::FilterDataStatus`); larger numbers mean the last.
mod data_status {
    pub(super) const CONTINUE: u32 = 0;
    pub(super) const STOP_AND_BUFFER: u32 = 1;
    pub(super) const STOP_AND_WATERMARK: u32 = 2;
}

/// gRPC status of a body over its limit.
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;

/// What to do about a plugin.
#[derive(PartialEq, Eq)]
enum Turn {
    Call,
    /// It takes no part: the message passes it untouched.
    Skip,
    /// The stream has been stopped.
    Stop,
}

/// One call of the host on one direction.
pub(crate) struct Progress<'a> {
    stream: &'a Rc<Stream>,
    direction: Direction,
    /// Number of headers or trailers that the host has said, good until a plugin changes them.
    count: Option<u32>,
    outcome: Outcome,
}

impl<'a> Progress<'a> {
    /// Runs a phase and tells what it came to.
    pub(crate) fn run(
        stream: &'a Rc<Stream>,
        direction: Direction,
        phase: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Outcome> {
        match stream.forward(direction).try_borrow_mut() {
            Ok(mut forward) => forward.clear(),
            Err(_) => {
                let text = "what the phase before gave to forward is still in use";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
        }
        let outcome =
            Outcome { action: Action::Continue, headers: false, trailers: false, end_of_stream: false, failure: None };
        let mut progress = Self { stream, direction, count: None, outcome };
        if stream.stopped(direction).is_none() {
            phase(&mut progress)?;
        }
        let mut outcome = progress.outcome;
        outcome.action = match stream.stopped(direction) {
            Some(action) => {
                stream.forward(direction).borrow_mut().clear();
                (outcome.headers, outcome.trailers, outcome.end_of_stream) = (false, false, false);
                action
            }
            None => match blocking_lane(stream, direction).map(|lane| lane.flow.get()) {
                None | Some(Flow::Open) => Action::Continue,
                Some(Flow::Stopped { more: false } | Flow::StoppedAll { more: false }) => Action::Pause,
                Some(_) => Action::PauseAndBuffer,
            },
        };
        Ok(outcome)
    }

    fn way(&self) -> &'a Way {
        self.stream.way(self.direction)
    }

    fn index(&self, position: usize) -> usize {
        index_of(self.stream, self.direction, position)
    }

    fn lane(&self, position: usize) -> &'a Lane {
        self.stream.lane(self.index(position), self.direction)
    }

    fn is_last(&self, position: usize) -> bool {
        position == self.stream.chain.len()
    }

    fn stopped(&self) -> bool {
        self.stream.stopped(self.direction).is_some()
    }

    /// TCP data to the client follows no headers: the connection was announced in the other direction.
    fn has_headers(&self) -> bool {
        self.stream.kind() == StreamKind::Http || self.direction == Direction::Request
    }

    // What the host calls

    pub(crate) fn headers(&mut self, count: u32, end: bool) -> Result<()> {
        if self.way().headers_seen.replace(true) {
            return Err(out_of_order("these headers, or this connection, were announced before"));
        }
        self.way().end_seen.set(end);
        self.count = Some(count);
        self.headers_at(0, end);
        Ok(())
    }

    pub(crate) fn data(&mut self, chunks: &[Chunk], end: bool) -> Result<()> {
        self.expect_more("body")?;
        if let Some((lane, limit)) = self.full_lane() {
            let text = format!("{} bytes are held back, the limit is {limit}", lane.body.borrow().len());
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let mut body = Body::new();
        chunks.iter().for_each(|chunk| body.push(chunk.clone()));
        if end {
            self.way().end_seen.set(true);
        } else if body.is_empty() {
            return Ok(());
        }
        self.data_at(0, body, end);
        Ok(())
    }

    pub(crate) fn trailers(&mut self, count: u32) -> Result<()> {
        self.expect_more("trailers")?;
        self.way().end_seen.set(true);
        self.way().trailers_seen.set(true);
        self.count = Some(count);
        self.trailers_at(0);
        Ok(())
    }

    pub(crate) fn metadata(&mut self, count: u32) {
        for position in 0..self.stream.chain.len() {
            let index = self.index(position);
            if !self.stream.is_live(index) || !self.stream.plugin(index).phases().has(Phases::METADATA) {
                continue;
            }
            let direction = self.direction;
            let name = match direction {
                Direction::Request => "proxy_on_request_metadata",
                Direction::Response => "proxy_on_response_metadata",
            };
            let result = self.stream.call(index, name, |exports, store, id| {
                let callback = match direction {
                    Direction::Request => &exports.on_request_metadata,
                    Direction::Response => &exports.on_response_metadata,
                };
                callback.as_ref().map_or(Ok(0), |metadata| metadata.call(store, (id, count)))
            });
            // The result does not count, a failure does.
            if self.settle(index, result).is_none() {
                return;
            }
        }
    }

    pub(crate) fn resume(&mut self) {
        for position in 0..self.stream.chain.len() {
            if self.lane(position).take_resume() {
                self.resume_at(position);
            }
            if self.stopped() {
                return;
            }
        }
    }

    /// Body or trailers may come after headers and before the end.
    fn expect_more(&self, what: &str) -> Result<()> {
        if self.has_headers() && !self.way().headers_seen.get() {
            return Err(out_of_order(&format!("{what} before the headers, or data before the connection")));
        }
        if self.way().end_seen.get() {
            return Err(out_of_order(&format!("{what} after the end of the stream")));
        }
        Ok(())
    }

    /// The lane that holds a message back without wanting more, if it holds as much as it may.
    fn full_lane(&self) -> Option<(&'a Lane, u64)> {
        let position = blocking_position(self.stream, self.direction)?;
        let (lane, limit) = (self.lane(position), self.limit(position));
        let paused = matches!(lane.flow.get(), Flow::Stopped { more: false } | Flow::StoppedAll { more: false });
        (paused && lane.body.borrow().len() as u64 >= limit).then_some((lane, limit))
    }

    fn limit(&self, position: usize) -> u64 {
        self.stream.plugin(self.index(position)).config().limits.max_body_buffer
    }

    // From plugin to plugin

    /// Decides whether the plugin at a position is called for a phase, and gives it its context when it is its first.
    fn turn(&mut self, index: usize, phase: Phases) -> Turn {
        let stream = self.stream;
        if !stream.has_context(index) {
            // As in Envoy a context begins with the request: what answers without one passes the plugin by.
            if self.direction == Direction::Response {
                return Turn::Skip;
            }
            let created = stream.create_context(index);
            self.note(created);
        }
        if stream.is_failed_closed(index) && stream.fail_for_plugin() {
            return Turn::Stop;
        }
        stream.lane(index, self.direction).begin_callback();
        match self.stopped() {
            true => Turn::Stop,
            false if stream.is_live(index) && stream.plugin(index).phases().has(phase) => Turn::Call,
            false => Turn::Skip,
        }
    }

    /// Keeps the first failure for the host; `None` when the callback gave nothing.
    fn note<R>(&mut self, result: Result<R>) -> Option<R> {
        result.map_err(|error| self.outcome.failure.get_or_insert(error)).ok()
    }

    /// After a callback: its status, or what the policy makes of its failure.
    fn settle(&mut self, index: usize, result: Result<u32>) -> Option<u32> {
        let status = self.note(result).unwrap_or(0);
        if self.stream.is_failed_closed(index) {
            self.stream.fail_for_plugin();
        }
        (!self.stopped()).then_some(status)
    }

    /// The number of headers that a plugin is told.
    fn count(&mut self, map: MapType) -> u32 {
        let changed = self.way().changed.replace(false);
        match self.count {
            Some(count) if !changed => count,
            stale => {
                let services = &self.stream.chain.services;
                let count = services.host.header_count(self.stream.data(), map).unwrap_or(stale.unwrap_or(0));
                self.count = Some(count);
                count
            }
        }
    }

    fn headers_at(&mut self, first: usize, end: bool) {
        let direction = self.direction;
        let (phase, map) = match (self.stream.kind(), direction) {
            (StreamKind::Tcp, _) => (Phases::NEW_CONNECTION, MapType::RequestHeaders),
            (_, Direction::Request) => (Phases::REQUEST_HEADERS, MapType::RequestHeaders),
            (_, Direction::Response) => (Phases::RESPONSE_HEADERS, MapType::ResponseHeaders),
        };
        for position in first..self.stream.chain.len() {
            let index = self.index(position);
            let status = match self.turn(index, phase) {
                Turn::Stop => return,
                Turn::Skip => 0,
                Turn::Call => {
                    let result = if phase == Phases::NEW_CONNECTION {
                        self.stream.call(index, "proxy_on_new_connection", |exports, store, id| {
                            exports.on_new_connection.as_ref().map_or(Ok(0), |f| f.call(store, (id,)))
                        })
                    } else {
                        let count = self.count(map);
                        let name = match direction {
                            Direction::Request => "proxy_on_request_headers",
                            Direction::Response => "proxy_on_response_headers",
                        };
                        self.stream.call(index, name, |exports, store, id| {
                            let callback = match direction {
                                Direction::Request => &exports.on_request_headers,
                                Direction::Response => &exports.on_response_headers,
                            };
                            callback.as_ref().map_or(Ok(0), |f| f.call(store, id, count, end))
                        })
                    };
                    match self.settle(index, result) {
                        Some(status) => status,
                        None => return,
                    }
                }
            };
            let lane = self.lane(position);
            match self.headers_flow(index, status) {
                Flow::Open => lane.headers_passed.set(true),
                flow => {
                    lane.ended_by_headers.set(end);
                    return self.stop(position, flow);
                }
            }
        }
        self.way().headers_passed.set(true);
        self.outcome.headers = true;
        self.outcome.end_of_stream |= end;
    }

    /// Sends headers on that were held. What the host said the number of may be the trailers that come now.
    fn held_headers_at(&mut self, first: usize, end: bool) {
        let count = self.count.take();
        self.headers_at(first, end);
        self.count = count;
    }

    /// `Http::FilterHeadersStatus`. A plain pause stops everything, unless the plugin is configured otherwise; Continue-and-end-stream
    /// is a plain continue, as in Envoy.
    fn headers_flow(&self, index: usize, status: u32) -> Flow {
        let tcp = self.stream.kind() == StreamKind::Tcp;
        match status {
            0 => Flow::Open,
            _ if tcp => Flow::Stopped { more: true },
            2 => Flow::Open,
            1 if self.stream.plugin(index).config().allow_on_headers_stop_iteration => Flow::Stopped { more: true },
            3 => Flow::StoppedAll { more: true },
            _ => Flow::StoppedAll { more: false },
        }
    }

    fn data_at(&mut self, position: usize, mut chunk: Body, end: bool) {
        if self.is_last(position) {
            self.stream.forward(self.direction).borrow_mut().append(&mut chunk);
            self.outcome.end_of_stream |= end;
            return;
        }
        let (index, lane) = (self.index(position), self.lane(position));
        if let Flow::StoppedAll { more } = lane.flow.get() {
            lane.ended_by_data.set(end);
            return self.hold(position, chunk, more);
        }
        // The plugin sees the new chunk, or everything that it collects; what it only holds back stays out of its sight.
        let collected = lane.buffering.get();
        let mut held = Body::new();
        let size = {
            let mut body = lane.body.borrow_mut();
            if !collected {
                std::mem::swap(&mut *body, &mut held);
            }
            body.append(&mut chunk);
            body.len() as u32
        };
        // As in Envoy the limit is for what is collected, also when this chunk is the last: the plugin is not called.
        if collected && self.stream.kind() == StreamKind::Http && u64::from(size) > self.limit(position) {
            return self.too_large(lane);
        }
        lane.shown.set(true);
        let Some(status) = self.call_data(index, size, end) else { return };
        let mut seen = std::mem::take(&mut *lane.body.borrow_mut());
        let trailers_added = end && self.way().trailers_added.take();
        let end = end && !trailers_added;
        if status == data_status::CONTINUE {
            lane.buffering.set(false);
            held.append(&mut seen);
            return self.pass(position, held, end, trailers_added);
        }
        lane.ended_by_data.set(end);
        if trailers_added {
            lane.trailers.set(Trailers::Seen);
        }
        lane.buffering.set(status == data_status::STOP_AND_BUFFER);
        // Without buffering the plugin takes the chunk for itself; what it had collected before stays.
        if collected || status <= data_status::STOP_AND_WATERMARK {
            held.append(&mut seen);
        }
        self.stop(position, Flow::Stopped { more: status != data_status::STOP_AND_WATERMARK });
        self.hold(position, held, status == data_status::STOP_AND_BUFFER);
    }

    /// A callback has answered with a pause. One that has asked to go on as well gets what it asked for: the other reading would keep
    /// the stream for ever.
    fn stop(&self, position: usize, flow: Flow) {
        if self.lane(position).stop(flow) {
            self.stream.request_resume(self.index(position), self.direction);
        }
    }

    /// Calls the data callback of a plugin; `None` when the stream has been stopped.
    fn call_data(&mut self, index: usize, size: u32, end: bool) -> Option<u32> {
        let phase = match (self.stream.kind(), self.direction) {
            (StreamKind::Http, Direction::Request) => Phases::REQUEST_BODY,
            (StreamKind::Http, Direction::Response) => Phases::RESPONSE_BODY,
            (StreamKind::Tcp, Direction::Request) => Phases::DOWNSTREAM_DATA,
            (StreamKind::Tcp, Direction::Response) => Phases::UPSTREAM_DATA,
        };
        match self.turn(index, phase) {
            Turn::Stop => return None,
            Turn::Skip => return Some(data_status::CONTINUE),
            Turn::Call => {}
        }
        self.way().at_end.set(end);
        let name = match phase {
            Phases::REQUEST_BODY => "proxy_on_request_body",
            Phases::RESPONSE_BODY => "proxy_on_response_body",
            Phases::DOWNSTREAM_DATA => "proxy_on_downstream_data",
            _ => "proxy_on_upstream_data",
        };
        let result = self.stream.call(index, name, |exports, store, id| {
            let callback = match phase {
                Phases::REQUEST_BODY => &exports.on_request_body,
                Phases::RESPONSE_BODY => &exports.on_response_body,
                Phases::DOWNSTREAM_DATA => &exports.on_downstream_data,
                _ => &exports.on_upstream_data,
            };
            callback.as_ref().map_or(Ok(0), |f| f.call(store, (id, size, u32::from(end))))
        });
        self.way().at_end.set(false);
        let status = self.settle(index, result)?;
        // TCP knows stop only, and what was stopped is seen again with what follows.
        let tcp = self.stream.kind() == StreamKind::Tcp;
        Some(if tcp && status != 0 { data_status::STOP_AND_BUFFER } else { status })
    }

    /// Keeps bytes at a plugin until it resumes; `bounded`: more than the limit ends the stream.
    fn hold(&mut self, position: usize, mut bytes: Body, bounded: bool) {
        let lane = self.lane(position);
        bytes.own();
        let len = {
            let mut body = lane.body.borrow_mut();
            body.append(&mut bytes);
            body.len() as u64
        };
        if len <= self.limit(position) {
            return;
        }
        if self.stream.kind() == StreamKind::Tcp {
            // A connection can wait: the sender is held up instead.
            return lane.flow.set(Flow::Stopped { more: false });
        }
        if bounded {
            self.too_large(lane);
        }
    }

    /// Ends the stream because a plugin collects more than it may.
    fn too_large(&mut self, lane: &Lane) {
        lane.clear();
        match self.direction {
            Direction::Request => self.stream.fail(413, GRPC_RESOURCE_EXHAUSTED, "request_payload_too_large"),
            Direction::Response => self.stream.fail(500, GRPC_RESOURCE_EXHAUSTED, "response_payload_too_large"),
        }
    }

    /// Sends on from a plugin that lets go: the headers, if they were held, then body, then trailers.
    fn pass(&mut self, position: usize, body: Body, end: bool, trailers: bool) {
        let lane = self.lane(position);
        lane.open();
        lane.shown.set(false);
        if self.has_headers() && !lane.headers_passed.replace(true) {
            let all = lane.ended_by_headers.get() && end && body.is_empty() && !trailers;
            self.held_headers_at(position + 1, all);
            if all || self.stopped() {
                return;
            }
        }
        if !body.is_empty() || end {
            self.data_at(position + 1, body, end);
        }
        if trailers && !self.stopped() {
            self.trailers_at(position + 1);
        }
    }

    fn trailers_at(&mut self, position: usize) {
        if self.is_last(position) {
            self.outcome.trailers = true;
            self.outcome.end_of_stream = true;
            return;
        }
        let (index, lane) = (self.index(position), self.lane(position));
        if matches!(lane.flow.get(), Flow::StoppedAll { .. }) {
            return lane.trailers.set(Trailers::Unseen);
        }
        let (phase, map) = match self.direction {
            Direction::Request => (Phases::REQUEST_TRAILERS, MapType::RequestTrailers),
            Direction::Response => (Phases::RESPONSE_TRAILERS, MapType::ResponseTrailers),
        };
        let status = match self.turn(index, phase) {
            Turn::Stop => return,
            Turn::Skip => 0,
            Turn::Call => {
                let services = &self.stream.chain.services;
                let count = match self.count.take() {
                    Some(count) => count,
                    None => services.host.header_count(self.stream.data(), map).unwrap_or(0),
                };
                let direction = self.direction;
                let name = match direction {
                    Direction::Request => "proxy_on_request_trailers",
                    Direction::Response => "proxy_on_response_trailers",
                };
                let result = self.stream.call(index, name, |exports, store, id| {
                    let callback = match direction {
                        Direction::Request => &exports.on_request_trailers,
                        Direction::Response => &exports.on_response_trailers,
                    };
                    callback.as_ref().map_or(Ok(0), |f| f.call(store, (id, count)))
                });
                match self.settle(index, result) {
                    Some(status) => status,
                    None => return,
                }
            }
        };
        if status == 0 {
            lane.buffering.set(false);
            let held = std::mem::take(&mut *lane.body.borrow_mut());
            self.pass(position, held, false, true);
        } else {
            lane.trailers.set(Trailers::Seen);
            self.stop(position, Flow::Stopped { more: false });
        }
    }

    /// Goes on at a plugin whose pause has ended.
    fn resume_at(&mut self, position: usize) {
        let (index, lane) = (self.index(position), self.lane(position));
        if self.stream.is_failed_closed(index) && self.stream.fail_for_plugin() {
            return;
        }
        let was_unseen = matches!(lane.flow.get(), Flow::StoppedAll { .. });
        let body = std::mem::take(&mut *lane.body.borrow_mut());
        let (trailers, ended) = (lane.trailers.take(), lane.ended_by_data.take());
        lane.buffering.set(false);
        if !was_unseen {
            let end = ended || lane.ended_by_headers.get() && !lane.headers_passed.get();
            return self.pass(position, body, end && trailers == Trailers::None, trailers != Trailers::None);
        }
        // Nothing but the headers has been shown to this plugin: they go on first, then it sees the rest.
        lane.open();
        if self.has_headers() && !lane.headers_passed.replace(true) {
            // An end that came after the headers, even alone, is shown as the end of the body.
            let all = lane.ended_by_headers.get() && body.is_empty() && trailers == Trailers::None;
            self.held_headers_at(position + 1, all);
            if all || self.stopped() {
                return;
            }
        }
        let end = ended && trailers == Trailers::None;
        if !body.is_empty() || end {
            self.data_at(position, body, end);
        }
        if trailers != Trailers::None && !self.stopped() {
            self.trailers_at(position);
        }
    }
}

fn out_of_order(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("phases out of order: {what}"))
}

fn index_of(stream: &Stream, direction: Direction, position: usize) -> usize {
    match direction {
        Direction::Request => position,
        Direction::Response => stream.chain.len() - 1 - position,
    }
}

/// The first plugin, in the direction of travel, that holds the message back.
fn blocking_position(stream: &Stream, direction: Direction) -> Option<usize> {
    (0..stream.chain.len())
        .find(|&position| stream.lane(index_of(stream, direction, position), direction).flow.get() != Flow::Open)
}

fn blocking_lane(stream: &Stream, direction: Direction) -> Option<&Lane> {
    blocking_position(stream, direction).map(|position| stream.lane(index_of(stream, direction, position), direction))
}
