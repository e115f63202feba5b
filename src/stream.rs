// SPDX-License-Identifier: Apache-2.0
//! A stream: one HTTP exchange or TCP connection on its way through a chain. Its state, and what ends or resumes it from outside;
//! how a message moves from plugin to plugin is in `phases`.

use crate::abi::pairs::PairList;
use crate::abi::{MapType, PeerType, StreamType};
use crate::body::{Body, Chunk};
use crate::chain::{Chain, Isolation};
use crate::context::{Context, Root};
use crate::deferred::OwnedResponse;
use crate::error::{Error, ErrorKind, Result};
use crate::exports::Exports;
use crate::host::{LocalResponse, StreamData};
use crate::lane::Lane;
use crate::phases::Progress;
use crate::plugin::{FailurePolicy, Phases, Plugin};
use crate::vm::{Vm, VmState};
use hashbrown::HashMap;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use wasmtime::Store;

/// What a stream carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// An HTTP request and its response.
    Http,
    /// A TCP connection.
    Tcp,
}

/// The two directions of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// From the client.
    Request = 0,
    /// To the client.
    Response = 1,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Request, Self::Response];
}

/// What the host does next with a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Forward what is ready.
    Continue,
    /// Forward what is ready, then offer no more.
    Pause,
    /// Forward what is ready, go on offering body.
    PauseAndBuffer,
    /// A local response took its place.
    LocalResponse,
    /// The stream is closed.
    Close,
}

/// The result of a phase.
#[derive(Debug)]
pub struct Outcome {
    /// What to do next.
    pub action: Action,
    /// The headers may go on.
    pub headers: bool,
    /// The trailers may go on.
    pub trailers: bool,
    /// This direction is complete.
    pub end_of_stream: bool,
    /// A plugin failed on the way; what became of it is in `action`, by its policy.
    pub failure: Option<Error>,
}

/// How a local response came in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Replied {
    No,
    /// Before the response began: the response phases run on the local response.
    Request,
    /// In place of the upstream's response.
    Response,
}

/// gRPC status of a plugin's failure.
const GRPC_UNAVAILABLE: u32 = 14;

/// Where a plugin of the chain stands in this stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LegState {
    /// Has no context yet.
    Fresh,
    /// Has a context.
    Live,
    /// Its VM failed, or it had none to give.
    Failed,
    /// Its context has been deleted.
    Gone,
}

/// A plugin's part in a stream.
struct Leg {
    state: Cell<LegState>,
    context: Cell<u32>,
    vm: RefCell<Option<(Rc<Vm>, Rc<Root>)>>,
    lanes: [Lane; 2],
}

/// What the host has shown of a direction, and what has passed all plugins.
#[derive(Default)]
pub(crate) struct Way {
    pub(crate) headers_seen: Cell<bool>,
    pub(crate) end_seen: Cell<bool>,
    pub(crate) headers_passed: Cell<bool>,
    /// A plugin added trailers while it saw the end of the body.
    pub(crate) trailers_added: Cell<bool>,
    pub(crate) trailers_seen: Cell<bool>,
    /// The last chunk of the body is at a plugin: trailers may be made.
    pub(crate) at_end: Cell<bool>,
    /// A plugin changed the headers, so the number that the host gave is stale.
    pub(crate) changed: Cell<bool>,
    forward: RefCell<Body>,
}

/// Values by path.
type Properties = HashMap<Vec<u8>, Vec<u8>>;

/// A stream, as hostcalls and contexts reach it.
pub(crate) struct Stream {
    pub(crate) chain: Chain,
    isolation: Isolation,
    kind: StreamKind,
    data: StreamData,
    legs: Box<[Leg]>,
    ways: [Way; 2],
    replied: Cell<Replied>,
    /// The local response is the library's own, for a plugin that failed: it passes the plugins that have.
    failure_answered: Cell<bool>,
    closed: Cell<bool>,
    logging: Cell<bool>,
    done: Cell<bool>,
    abandoned: Cell<bool>,
    /// What `proxy_set_property` stored.
    properties: RefCell<Option<Box<Properties>>>,
}

impl Stream {
    fn new(chain: &Chain, kind: StreamKind, data: StreamData) -> Rc<Self> {
        let leg = |_| Leg {
            state: Cell::new(LegState::Fresh),
            context: Cell::new(0),
            vm: RefCell::new(None),
            lanes: Default::default(),
        };
        Rc::new(Self {
            chain: chain.clone(),
            isolation: chain.isolation(),
            kind,
            data,
            legs: (0..chain.len()).map(leg).collect(),
            ways: Default::default(),
            replied: Cell::new(Replied::No),
            failure_answered: Cell::new(false),
            closed: Cell::new(false),
            logging: Cell::new(false),
            done: Cell::new(false),
            abandoned: Cell::new(false),
            properties: RefCell::default(),
        })
    }

    pub(crate) fn data(&self) -> StreamData {
        self.data
    }

    pub(crate) fn kind(&self) -> StreamKind {
        self.kind
    }

    pub(crate) fn plugin(&self, index: usize) -> &Plugin {
        &self.chain.instances[index].plugin
    }

    pub(crate) fn context_id(&self, index: usize) -> u32 {
        self.legs[index].context.get()
    }

    pub(crate) fn root(&self, index: usize) -> Option<Rc<Root>> {
        self.legs[index].vm.borrow().as_ref().map(|(_, root)| root.clone())
    }

    pub(crate) fn way(&self, direction: Direction) -> &Way {
        &self.ways[direction as usize]
    }

    pub(crate) fn lane(&self, index: usize, direction: Direction) -> &Lane {
        &self.legs[index].lanes[direction as usize]
    }

    pub(crate) fn forward(&self, direction: Direction) -> &RefCell<Body> {
        &self.way(direction).forward
    }

    /// Whether a header map can be read, and whether it can be changed.
    pub(crate) fn map_access(&self, map: MapType) -> (bool, bool) {
        // A new connection is announced as headers are, and has none.
        if self.kind == StreamKind::Tcp {
            return (false, false);
        }
        let (direction, trailers) = match map {
            MapType::RequestHeaders => (Direction::Request, false),
            MapType::RequestTrailers => (Direction::Request, true),
            MapType::ResponseHeaders => (Direction::Response, false),
            MapType::ResponseTrailers => (Direction::Response, true),
            _ => return (false, false),
        };
        let way = self.way(direction);
        let there = if trailers { way.trailers_seen.get() } else { way.headers_seen.get() };
        let writable = (there || trailers && way.at_end.get()) && !self.logging.get();
        (there, writable)
    }

    /// A plugin has changed a header map.
    pub(crate) fn map_changed(&self, map: MapType) {
        match map {
            MapType::RequestHeaders => self.way(Direction::Request).changed.set(true),
            MapType::ResponseHeaders => self.way(Direction::Response).changed.set(true),
            MapType::RequestTrailers => self.trailers_made(Direction::Request),
            MapType::ResponseTrailers => self.trailers_made(Direction::Response),
            _ => {}
        }
    }

    fn trailers_made(&self, direction: Direction) {
        let way = self.way(direction);
        if !way.trailers_seen.replace(true) {
            way.trailers_added.set(true);
        }
    }

    /// Whether the plugins log.
    pub(crate) fn is_logging(&self) -> bool {
        self.logging.get()
    }

    // Properties

    pub(crate) fn property(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        let properties = self.properties.borrow();
        properties
            .as_ref()
            .and_then(|properties| properties.get(path))
            .map(|value| out.extend_from_slice(value))
            .is_some()
    }

    pub(crate) fn set_property(&self, path: &[u8], value: &[u8]) -> bool {
        /// Most properties that the library keeps for a stream.
        const MAX_PROPERTIES: usize = 1024;
        let mut properties = self.properties.borrow_mut();
        let properties = properties.get_or_insert_default();
        if properties.len() >= MAX_PROPERTIES && !properties.contains_key(path) {
            return false;
        }
        properties.insert(path.to_vec(), value.to_vec());
        true
    }

    // Calling the plugins

    /// Whether a plugin has a context, or had one.
    pub(crate) fn has_context(&self, index: usize) -> bool {
        self.legs[index].state.get() != LegState::Fresh
    }

    /// Whether a plugin can be called.
    pub(crate) fn is_live(&self, index: usize) -> bool {
        self.legs[index].state.get() == LegState::Live
    }

    /// Whether a plugin has failed and takes the stream with it.
    pub(crate) fn is_failed_closed(&self, index: usize) -> bool {
        self.legs[index].state.get() == LegState::Failed
            && self.plugin(index).config().failure_policy != FailurePolicy::Open
    }

    /// Gives a plugin its context in this stream. A failure leaves the plugin failed.
    pub(crate) fn create_context(self: &Rc<Self>, index: usize) -> Result<()> {
        let (leg, instance) = (&self.legs[index], &self.chain.instances[index]);
        let held = self.legs.iter().filter_map(|leg| leg.vm.borrow().clone());
        let acquired = instance.acquire_for(self.isolation, self.data, held).and_then(|(vm, root)| {
            let id = vm.add_stream_context(|_| Context::Stream(self.clone(), index))?;
            Ok((vm, root, id))
        });
        let (vm, root, id) = acquired.inspect_err(|_| leg.state.set(LegState::Failed))?;
        leg.context.set(id);
        leg.state.set(LegState::Live);
        let parent = root.id;
        *leg.vm.borrow_mut() = Some((vm, root));
        instance.stream_began();
        self.call(index, "proxy_on_context_create", |exports, store, id| {
            exports.on_context_create.as_ref().map_or(Ok(()), |create| create.call(store, (id, parent)))
        })
    }

    /// Calls a plugin in its context.
    pub(crate) fn call<R>(
        self: &Rc<Self>,
        index: usize,
        callback: &'static str,
        run: impl FnOnce(&Exports, &mut Store<VmState>, u32) -> wasmtime::Result<R>,
    ) -> Result<R> {
        let (vm, id) = self.guest(index)?;
        vm.call(Context::Stream(self.clone(), index), callback, |exports, store| run(exports, store, id))
    }

    /// The VM of a plugin, and the id of its context there.
    fn guest(&self, index: usize) -> Result<(Rc<Vm>, u32)> {
        let leg = &self.legs[index];
        match &*leg.vm.borrow() {
            Some((vm, _)) => Ok((vm.clone(), leg.context.get())),
            None => Err(Error::new(ErrorKind::GuestUnavailable, "the plugin has no VM")),
        }
    }

    /// The VM of a plugin has failed. A direction that it paused is resumed, so that its policy can take effect.
    pub(crate) fn plugin_failed(&self, index: usize) {
        let leg = &self.legs[index];
        leg.state.set(LegState::Failed);
        let let_go = leg.vm.borrow_mut().take();
        if let_go.is_some() {
            self.chain.instances[index].stream_ended(None);
        }
        for direction in Direction::BOTH {
            self.request_resume(index, direction);
        }
    }

    // What plugins ask for

    /// A plugin wants its pause in a direction to end. Without a pause nothing happens.
    pub(crate) fn request_resume(&self, index: usize, direction: Direction) {
        if self.lane(index, direction).request_resume() && !self.is_over() {
            self.chain.services.host.resume_stream(self.data, direction);
        }
    }

    /// Answers the client in place of the upstream. The first answer counts; one that passes the plugins can be replaced as an
    /// answer of the upstream can.
    pub(crate) fn send_local_response(&self, response: &OwnedResponse) {
        let response_begun = self.way(Direction::Response).headers_seen.get();
        let answered = match self.replied.get() {
            Replied::No => false,
            Replied::Request => !response_begun,
            Replied::Response => true,
        };
        if self.kind == StreamKind::Tcp || self.is_over() || answered {
            return;
        }
        if self.way(Direction::Response).headers_passed.get() {
            return self.close(StreamType::HttpResponse);
        }
        self.replied.set(if response_begun { Replied::Response } else { Replied::Request });
        let response = LocalResponse {
            status: response.status,
            grpc_status: response.grpc_status,
            details: &response.details,
            body: &response.body,
            headers: &response.headers,
        };
        if self.chain.services.host.send_local_response(self.data, &response).is_err() {
            self.close(StreamType::HttpResponse);
        }
    }

    /// Ends the stream.
    pub(crate) fn close(&self, which: StreamType) {
        if !self.done.get() && !self.closed.replace(true) {
            self.chain.services.host.close_stream(self.data, which);
        }
    }

    /// Ends the stream with a status of the library's own; one whose response was replaced already is closed.
    pub(crate) fn fail(&self, status: u32, grpc_status: u32, details: &str) {
        match (self.kind, self.replied.get()) {
            (StreamKind::Tcp, _) => self.close(StreamType::Downstream),
            (StreamKind::Http, Replied::Response) => self.close(StreamType::HttpResponse),
            (StreamKind::Http, _) => self.send_local_response(&OwnedResponse {
                status,
                grpc_status: Some(grpc_status),
                details: details.as_bytes().to_vec(),
                body: Vec::new(),
                headers: PairList::new(),
            }),
        }
    }

    /// Ends the stream because a plugin has failed; false when that was done before, and the answer is on its way.
    pub(crate) fn fail_for_plugin(&self) -> bool {
        let first = !self.failure_answered.replace(true);
        if first {
            self.fail(503, GRPC_UNAVAILABLE, "wasm_fail_stream");
        }
        first
    }

    /// Whether the stream was closed or has ended.
    fn is_over(&self) -> bool {
        self.closed.get() || self.done.get()
    }

    /// Whether a direction moves no more, and what the host is told then.
    pub(crate) fn stopped(&self, direction: Direction) -> Option<Action> {
        if self.is_over() {
            return Some(Action::Close);
        }
        match (self.replied.get(), direction) {
            (Replied::No, _) | (Replied::Request, Direction::Response) => None,
            _ => Some(Action::LocalResponse),
        }
    }
}

/// A stream, as the host holds it. Dropping it ends it, as `finish` does.
pub struct StreamHandle {
    stream: Rc<Stream>,
}

impl StreamHandle {
    pub(crate) fn new(chain: &Chain, kind: StreamKind, data: StreamData) -> Result<Self> {
        let services = &chain.services;
        services.check_outside()?;
        services.count(|stats| {
            stats.streams += 1;
            stats.streams_created += 1;
        });
        Ok(Self { stream: Stream::new(chain, kind, data) })
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.stream.chain
    }

    fn enter<R>(&self, run: impl FnOnce(&Rc<Stream>) -> R) -> Result<R> {
        self.stream.chain.services.enter(|| run(&self.stream))
    }

    fn phase(
        &self,
        kind: StreamKind,
        direction: Direction,
        run: impl FnOnce(&mut Progress<'_>) -> Result<()>,
    ) -> Result<Outcome> {
        if self.stream.kind != kind {
            let text = format!("a {:?} stream has no such phase", self.stream.kind);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.enter(|stream| Progress::run(stream, direction, run))?
    }

    /// The headers of a direction have come; `count` is their number.
    pub fn on_headers(&self, direction: Direction, count: u32, end_of_stream: bool) -> Result<Outcome> {
        self.phase(StreamKind::Http, direction, |progress| progress.headers(count, end_of_stream))
    }

    /// A part of the body has come, or its end. The chunks are taken on success only.
    pub fn on_body(&self, direction: Direction, chunks: &[Chunk], end_of_stream: bool) -> Result<Outcome> {
        self.phase(StreamKind::Http, direction, |progress| progress.data(chunks, end_of_stream))
    }

    /// The trailers have come; they end the direction.
    pub fn on_trailers(&self, direction: Direction, count: u32) -> Result<Outcome> {
        self.phase(StreamKind::Http, direction, |progress| progress.trailers(count))
    }

    /// HTTP/2 METADATA frames have come. Plugins are told, and cannot stop it.
    pub fn on_metadata(&self, direction: Direction, count: u32) -> Result<Outcome> {
        self.phase(StreamKind::Http, direction, |progress| {
            progress.metadata(count);
            Ok(())
        })
    }

    /// The connection has been made.
    pub fn on_new_connection(&self) -> Result<Outcome> {
        self.phase(StreamKind::Tcp, Direction::Request, |progress| progress.headers(0, false))
    }

    /// Bytes have come from the client (`Request`) or the upstream (`Response`), or their end.
    pub fn on_data(&self, direction: Direction, chunks: &[Chunk], end_of_stream: bool) -> Result<Outcome> {
        self.phase(StreamKind::Tcp, direction, |progress| progress.data(chunks, end_of_stream))
    }

    /// The connection to the client (`Request`) or the upstream (`Response`) was closed.
    pub fn on_close(&self, direction: Direction, peer: PeerType) -> Result<()> {
        if self.stream.kind != StreamKind::Tcp {
            return Err(Error::new(ErrorKind::Unsupported, "an HTTP stream is not told of closes"));
        }
        let name = match direction {
            Direction::Request => "proxy_on_downstream_connection_close",
            Direction::Response => "proxy_on_upstream_connection_close",
        };
        self.enter(|stream| {
            stream.tell_all(Some(Phases::CONNECTION_CLOSE), false, name, &|exports, store, id| {
                let callback = match direction {
                    Direction::Request => &exports.on_downstream_close,
                    Direction::Response => &exports.on_upstream_close,
                };
                callback.as_ref().map_or(Ok(()), |close| close.call(store, (id, peer as u32)))
            })
        })?
    }

    /// Goes on after `Host::resume_stream`, from the plugin that had paused.
    pub fn resume(&self, direction: Direction) -> Result<Outcome> {
        self.phase(self.stream.kind, direction, |progress| {
            progress.resume();
            Ok(())
        })
    }

    /// What a direction has ready to forward; cleared by the next phase.
    pub fn forward(&self, direction: Direction) -> Forward<'_> {
        Forward(self.stream.forward(direction).borrow())
    }

    /// The stream is complete: plugins may log. Header maps can be read, not changed.
    pub fn log(&self) -> Result<()> {
        self.enter(|stream| stream.log_all())?
    }

    /// Nothing more will come: plugins are told. Their answer does not count for streams, as in Envoy.
    pub fn done(&self) -> Result<()> {
        self.enter(|stream| stream.done_all())?
    }

    /// Ends the stream: `done` if it was not called, then the contexts are deleted.
    pub fn finish(&self) -> Result<()> {
        self.enter(|stream| stream.end(false))?
    }

    /// `log` and `finish` at once.
    pub fn complete(&self) -> Result<()> {
        self.enter(|stream| stream.end(true))?
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.stream.abandon();
        self.stream.chain.services.count(|stats| stats.streams -= 1);
    }
}

/// Bytes to forward.
pub struct Forward<'a>(Ref<'a, Body>);

impl Forward<'_> {
    /// The slices, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.segments()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Calls one callback of a guest with the id of a context.
type Callback<'a> = &'a dyn Fn(&Exports, &mut Store<VmState>, u32) -> wasmtime::Result<()>;

fn call_log(exports: &Exports, store: &mut Store<VmState>, id: u32) -> wasmtime::Result<()> {
    exports.on_log.as_ref().map_or(Ok(()), |log| log.call(store, (id,)))
}

/// The answer does not count for streams, as in Envoy.
fn call_done(exports: &Exports, store: &mut Store<VmState>, id: u32) -> wasmtime::Result<()> {
    exports.on_done.as_ref().map_or(Ok(()), |done| done.call(store, (id,)).map(|_| ()))
}

impl Stream {
    /// Calls a callback of every plugin that has a context, in the order of requests; of a phase: of those that take part in it.
    /// The first failure is reported, the others are called all the same.
    fn tell_all(
        self: &Rc<Self>,
        phase: Option<Phases>,
        create: bool,
        callback: &'static str,
        run: Callback<'_>,
    ) -> Result<()> {
        let mut result = Ok(());
        for index in 0..self.legs.len() {
            if phase.is_some_and(|phase| !self.plugin(index).phases().has(phase)) {
                continue;
            }
            if create && !self.has_context(index) {
                result = result.and(self.create_context(index));
            }
            if self.is_live(index) {
                result = result.and(self.call(index, callback, run));
            }
        }
        result
    }

    fn log_all(self: &Rc<Self>) -> Result<()> {
        self.logging.set(true);
        let result = self.tell_all(Some(Phases::LOG), true, "proxy_on_log", &call_log);
        self.logging.set(false);
        result
    }

    fn done_all(self: &Rc<Self>) -> Result<()> {
        if self.done.replace(true) {
            return Ok(());
        }
        self.tell_all(None, false, "proxy_on_done", &call_done)
    }

    /// Ends the stream; `log`: plugins log, in Envoy's order for the kind of stream.
    fn end(self: &Rc<Self>, log: bool) -> Result<()> {
        let mut result = Ok(());
        // Of several plugins each is told the one before any is told the other; of one there is no other.
        let alone = self.legs.len() == 1 && self.kind == StreamKind::Http && !self.done.get();
        if log && !alone {
            if self.kind == StreamKind::Tcp {
                result = result.and(self.done_all());
            }
            result = result.and(self.log_all());
        }
        let log = log && alone && self.plugin(0).phases().has(Phases::LOG);
        if log && !self.has_context(0) {
            result = result.and(self.create_context(0));
        }
        let done = !self.done.replace(true);
        for index in 0..self.legs.len() {
            if self.is_live(index) {
                result = result.and(self.end_plugin(index, log, done));
            }
        }
        self.abandon();
        result
    }

    /// The last callbacks of a plugin.
    fn end_plugin(self: &Rc<Self>, index: usize, log: bool, done: bool) -> Result<()> {
        let (vm, id) = self.guest(index)?;
        vm.visit(Context::Stream(self.clone(), index), |visit| {
            if log {
                self.logging.set(true);
                let logged = visit.call("proxy_on_log", |exports, store| call_log(exports, store, id));
                self.logging.set(false);
                logged?;
            }
            if done {
                visit.call("proxy_on_done", |exports, store| call_done(exports, store, id))?;
            }
            visit.call("proxy_on_delete", |exports, store| {
                exports.on_delete.as_ref().map_or(Ok(()), |delete| delete.call(store, (id,)))
            })
        })
    }

    /// Takes the contexts out of their VMs without running guests.
    fn abandon(&self) {
        if self.abandoned.replace(true) {
            return;
        }
        self.done.set(true);
        for (leg, instance) in self.legs.iter().zip(&self.chain.instances) {
            let let_go = leg.vm.borrow_mut().take();
            if let Some((vm, _)) = let_go {
                vm.remove_stream_context(leg.context.get());
                leg.state.set(LegState::Gone);
                instance.stream_ended(Some(vm));
            }
            leg.lanes.iter().for_each(Lane::clear);
        }
        // What the host still looks at goes with the stream.
        self.ways.iter().filter_map(|way| way.forward.try_borrow_mut().ok()).for_each(|mut forward| forward.clear());
    }
}
