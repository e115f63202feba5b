// SPDX-License-Identifier: Apache-2.0
//! A host that calls the library from inside its own callbacks.

use crate::support::{chunk, config, Mock, MockHost};
use crate::trace::*;
use proxywasm::abi::pairs::PairList;
use proxywasm::abi::{MapType, PeerType};
use proxywasm::Direction::Request;
use proxywasm::*;
use std::cell::RefCell;
use std::rc::Rc;

/// What the host calls back into, and what came of it.
#[derive(Default)]
struct Inside {
    worker: Option<Worker>,
    chain: Option<Chain>,
    instance: Option<InstanceHandle>,
    stream: Option<StreamHandle>,
    /// What to do in the next callback.
    action: Option<fn(&Inside)>,
    results: RefCell<Vec<(&'static str, Option<ErrorKind>)>>,
    tokens: RefCell<Vec<Token>>,
}

impl Inside {
    fn note<T>(&self, what: &'static str, result: Result<T>) {
        self.results.borrow_mut().push((what, result.err().map(|error| error.kind())));
    }
}

/// A mock host that does what it is told in `log` and in `http_call`, and answers header counts through them.
struct Reentering {
    mock: MockHost,
    inside: Rc<RefCell<Inside>>,
}

impl Reentering {
    fn act(&self) {
        // Borrowed for reading only, also while the outer call of the test is under way.
        let inside = self.inside.borrow();
        if let Some(action) = inside.action {
            action(&inside);
        }
    }
}

impl Host for Reentering {
    fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
        self.mock.log(stream, record);
        self.act();
    }
    fn get_headers(&self, stream: StreamData, map: MapType, out: &mut PairList) -> HostResult {
        self.act();
        self.mock.get_headers(stream, map, out)
    }
    fn http_call(&self, _: Option<StreamData>, token: Token, _: &HttpCall<'_>) -> HostResult {
        self.inside.borrow().tokens.borrow_mut().push(token);
        self.act();
        Ok(())
    }
    fn send_local_response(&self, stream: StreamData, response: &LocalResponse<'_>) -> HostResult {
        self.act();
        self.mock.send_local_response(stream, response)
    }
    fn resume_stream(&self, stream: StreamData, direction: Direction) {
        self.mock.resume_stream(stream, direction);
        self.act();
    }
}

/// A worker with one plugin and one stream, all of it in reach of the host.
fn set_up(guest: &Guest) -> (Rc<RefCell<Inside>>, Mock) {
    let (engine, mock) = (Engine::new(&EngineConfig::new()).unwrap(), Mock::default());
    let inside = Rc::new(RefCell::new(Inside::default()));
    let host = Reentering { mock: MockHost(mock.clone()), inside: inside.clone() };
    let worker = Worker::new(&engine, Box::new(host)).unwrap();
    let plugin = Plugin::new(&Module::compile(&engine, &guest.build()).unwrap(), config()).unwrap();
    let instance = worker.add_plugin(&plugin).unwrap();
    let chain = worker.chain(&[&instance]).unwrap();
    let stream = worker.stream(&chain, StreamKind::Http, StreamData(1)).unwrap();
    {
        let mut parts = inside.borrow_mut();
        (parts.worker, parts.chain, parts.instance, parts.stream) =
            (Some(worker), Some(chain), Some(instance), Some(stream));
    }
    mock.take_log();
    (inside, mock)
}

/// Breaks the circle of worker and host.
fn tear_down(inside: &RefCell<Inside>) {
    inside.borrow_mut().action = None;
    let parts = std::mem::take(&mut *inside.borrow_mut());
    drop(parts);
}

/// Everything that runs guests.
fn everything(inside: &Inside) {
    let (stream, worker) = (inside.stream.as_ref().unwrap(), inside.worker.as_ref().unwrap());
    let (chain, instance) = (inside.chain.as_ref().unwrap(), inside.instance.as_ref().unwrap());
    inside.note("on_headers", stream.on_headers(Request, 0, false));
    inside.note("on_body", stream.on_body(Request, &chunk("x"), false));
    inside.note("on_trailers", stream.on_trailers(Request, 0));
    inside.note("on_metadata", stream.on_metadata(Request, 0));
    inside.note("resume", stream.resume(Request));
    inside.note("log", stream.log());
    inside.note("done", stream.done());
    inside.note("finish", stream.finish());
    inside.note("stream", worker.stream(chain, StreamKind::Http, StreamData(2)));
    inside.note("add_plugin", worker.add_plugin(instance.plugin()));
    inside.note("remove_plugin", worker.remove_plugin(instance.clone()));
    inside.note("on_timeout", worker.on_timeout());
    inside.note("run_pending", worker.run_pending());
    inside.note("queue_ready", worker.queue_ready(1));
    inside.note("call_foreign", instance.call_foreign(1, b""));
}

fn run_headers(inside: &Rc<RefCell<Inside>>) -> Outcome {
    inside.borrow().stream.as_ref().unwrap().on_headers(Request, 0, true).unwrap()
}

#[track_caller]
fn assert_all_reentrant(inside: &RefCell<Inside>) {
    let results = inside.borrow().results.take();
    assert!(results.len() >= 15, "the callback ran: {results:?}");
    for (what, kind) in results {
        assert_eq!(kind, Some(ErrorKind::Reentrant), "{what}");
    }
}

#[test]
fn everything_that_runs_guests_is_refused_inside_a_callback_while_a_guest_runs() {
    let (inside, mock) = set_up(&Guest::new().log("request_headers"));
    inside.borrow_mut().action = Some(everything);
    let outcome = run_headers(&inside);
    assert_eq!(told(&outcome), (Action::Continue, true, false, true));
    assert_all_reentrant(&inside);
    assert_eq!(mock.take_log(), ["request_headers 2 0 1"]);
    inside.borrow_mut().action = None;
    // Nothing was disturbed.
    inside.borrow().stream.as_ref().unwrap().finish().unwrap();
    tear_down(&inside);
}

#[test]
fn the_same_holds_in_callbacks_after_the_guest_has_returned() {
    let responds = Guest::new().quiet("request_headers", "(call $respond (i32.const 403)) (i32.const 0)");
    let (inside, _mock) = set_up(&responds);
    inside.borrow_mut().action = Some(everything);
    assert_eq!(run_headers(&inside).action, Action::LocalResponse);
    assert_all_reentrant(&inside);
    tear_down(&inside);
}

#[test]
fn a_host_that_resumes_inside_resume_stream_is_refused_and_resumes_later() {
    let guest = Guest::new()
        .quiet("request_headers", "(i32.const 1)")
        .quiet("foreign_function", "(call $effective (i32.const 2)) (call $continue (i32.const 0))");
    let (inside, _mock) = set_up(&guest);
    assert_eq!(run_headers(&inside).action, Action::Pause);
    inside.borrow_mut().action = Some(|inside| inside.note("resume", inside.stream.as_ref().unwrap().resume(Request)));
    inside.borrow().instance.as_ref().unwrap().call_foreign(0, b"").unwrap();
    assert_eq!(inside.borrow().results.take(), [("resume", Some(ErrorKind::Reentrant))]);
    inside.borrow_mut().action = None;
    assert!(inside.borrow().stream.as_ref().unwrap().resume(Request).unwrap().headers);
    tear_down(&inside);
}

#[test]
fn reading_what_is_there_is_allowed_inside_a_callback() {
    let (inside, _mock) = set_up(&Guest::new().log("request_headers"));
    inside.borrow_mut().action = Some(|inside| {
        let (stream, worker) = (inside.stream.as_ref().unwrap(), inside.worker.as_ref().unwrap());
        assert!(stream.forward(Request).is_empty());
        assert_eq!((worker.stats().vms, worker.stats().streams), (1, 1));
        assert!(worker.timeout_ns().is_none() && !worker.is_idle());
        inside.note("read", Ok(()));
    });
    run_headers(&inside);
    assert_eq!(inside.borrow().results.take(), [("read", None)]);
    tear_down(&inside);
}

#[test]
fn an_answer_inside_http_call_comes_after_the_callback_that_made_the_call() {
    // The token is logged as soon as the guest has it.
    let guest =
        Guest::new().quiet("request_headers", "(call $status (call $call)) (i32.const 1)").log("http_call_response");
    let (inside, mock) = set_up(&guest);
    inside.borrow_mut().action = Some(|inside| {
        let Some(token) = inside.tokens.borrow_mut().pop() else { return };
        inside.note("complete", inside.worker.as_ref().unwrap().http_call_complete(token, None));
    });
    assert_eq!(run_headers(&inside).action, Action::Pause);
    assert_eq!(inside.borrow().results.take(), [("complete", None)]);
    assert_eq!(mock.take_log(), ["status=4", "http_call_response 1 4 0 0 0"]);
    tear_down(&inside);
}

#[test]
fn an_answer_that_answers_the_stream_inside_http_call_is_seen_after_the_phase() {
    let guest = Guest::new()
        .quiet("request_headers", "(drop (call $call)) (i32.const 1)")
        .quiet("http_call_response", "(call $effective (i32.const 2)) (call $respond (i32.const 401))");
    let (inside, mock) = set_up(&guest);
    inside.borrow_mut().action = Some(|inside| {
        let Some(token) = inside.tokens.borrow_mut().pop() else { return };
        inside.note("complete", inside.worker.as_ref().unwrap().http_call_complete(token, None));
    });
    run_headers(&inside);
    assert_eq!(local_responses(&mock), [(1, 401, "details_here".to_owned())]);
    tear_down(&inside);
}

#[test]
fn a_stale_answer_inside_a_callback_is_refused_there() {
    let (inside, _mock) = set_up(&Guest::new().log("request_headers"));
    inside.borrow_mut().action = Some(|inside| {
        inside.note("complete", inside.worker.as_ref().unwrap().http_call_complete(Token(77), None));
        inside.note("grpc", inside.worker.as_ref().unwrap().grpc_close(Token(77), 0, b""));
    });
    run_headers(&inside);
    let expected = [("complete", Some(ErrorKind::NotFound)), ("grpc", Some(ErrorKind::NotFound))];
    assert_eq!(inside.borrow().results.take(), expected);
    tear_down(&inside);
}

#[test]
fn an_answer_given_twice_inside_a_callback_is_told_once() {
    let guest = Guest::new().quiet("request_headers", "(drop (call $call)) (i32.const 1)").log("http_call_response");
    let (inside, mock) = set_up(&guest);
    inside.borrow_mut().action = Some(|inside| {
        let Some(token) = inside.tokens.borrow_mut().pop() else { return };
        for _ in 0..2 {
            let _ = inside.worker.as_ref().unwrap().http_call_complete(token, None);
        }
    });
    run_headers(&inside);
    assert_eq!(mock.take_log(), ["http_call_response 1 4 0 0 0"]);
    tear_down(&inside);
}

#[test]
fn a_call_made_by_an_answer_inside_a_callback_is_answered_in_its_turn() {
    // Each answer makes the next call, up to three; the host answers each at once.
    let guest = Guest::new()
        .quiet("request_headers", "(drop (call $call)) (i32.const 1)")
        .on("http_call_response", "(if (i32.lt_u (call $next) (i32.const 3)) (then (drop (call $call))))");
    let (inside, mock) = set_up(&guest);
    inside.borrow_mut().action = Some(|inside| {
        let Some(token) = inside.tokens.borrow_mut().pop() else { return };
        inside.note("complete", inside.worker.as_ref().unwrap().http_call_complete(token, None));
    });
    run_headers(&inside);
    let expected = ["http_call_response 1 4 0 0 0", "http_call_response 1 8 0 0 0", "http_call_response 1 12 0 0 0"];
    assert_eq!(mock.take_log(), expected);
    tear_down(&inside);
}

#[test]
fn a_stream_that_is_dropped_inside_a_callback_leaves_the_vm_when_the_guest_has_returned() {
    let guest = Guest::new()
        .log("request_headers")
        .quiet("foreign_function", "(call $status (call $proxy_set_effective_context (local.get 1)))");
    let (inside, mock) = set_up(&guest);
    // The stream of the test stays; another one, in context 2, is dropped while a guest of the same VM runs.
    let other = {
        let parts = inside.borrow();
        let (worker, chain) = (parts.worker.as_ref().unwrap(), parts.chain.as_ref().unwrap());
        let other = worker.stream(chain, StreamKind::Http, StreamData(2)).unwrap();
        other.on_headers(Request, 0, true).unwrap();
        other
    };
    thread_local!(static OTHER: RefCell<Option<StreamHandle>> = const { RefCell::new(None) });
    OTHER.set(Some(other));
    inside.borrow_mut().action = Some(|_| drop(OTHER.take()));
    assert_eq!(told(&run_headers(&inside)), (Action::Continue, true, false, true));
    inside.borrow_mut().action = None;
    mock.take_log();
    let parts = inside.borrow();
    for context in [2, 3] {
        parts.instance.as_ref().unwrap().call_foreign(context, b"").unwrap();
    }
    assert_eq!(
        mock.take_log(),
        ["status=2", "status=0"],
        "the context of the other is gone, that of this one is there"
    );
    assert_eq!(parts.worker.as_ref().unwrap().stats().streams, 1);
    parts.stream.as_ref().unwrap().finish().unwrap();
    drop(parts);
    tear_down(&inside);
}

#[test]
fn bytes_to_forward_that_are_still_held_do_not_bring_the_library_down() {
    let (inside, _mock) = set_up(&Guest::new());
    let parts = inside.borrow();
    let stream = parts.stream.as_ref().unwrap();
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("held"), false).unwrap();
    let held = stream.forward(Request);
    let error = stream.on_body(Request, &chunk("more"), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    stream.finish().unwrap();
    assert_eq!(held.len(), 4);
    drop(held);
    drop(parts);
    tear_down(&inside);
}

#[test]
fn a_tcp_close_inside_a_callback_is_refused() {
    let (inside, _mock) = set_up(&Guest::new().log("new_connection"));
    {
        let mut parts = inside.borrow_mut();
        let (worker, chain) = (parts.worker.as_ref().unwrap(), parts.chain.as_ref().unwrap());
        let tcp = worker.stream(chain, StreamKind::Tcp, StreamData(3)).unwrap();
        parts.stream = Some(tcp);
        parts.action = Some(|inside| {
            let stream = inside.stream.as_ref().unwrap();
            inside.note("on_close", stream.on_close(Request, PeerType::Local));
            inside.note("on_data", stream.on_data(Request, &chunk("x"), false));
            inside.note("on_new_connection", stream.on_new_connection());
        });
    }
    inside.borrow().stream.as_ref().unwrap().on_new_connection().unwrap();
    let results = inside.borrow().results.take();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|(_, kind)| *kind == Some(ErrorKind::Reentrant)), "{results:?}");
    tear_down(&inside);
}
