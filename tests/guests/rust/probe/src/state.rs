// SPDX-License-Identifier: Apache-2.0
//! What the contexts of a VM share, and what each of them keeps.

use std::cell::{OnceCell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use serde_json::{json, Value};

use crate::report;
use crate::script::{Callback, Script};
use crate::steps::{Run, Steps};

/// What the contexts of this VM share.
#[derive(Default)]
pub struct Shared {
    /// The streams that are alive.
    pub streams: BTreeSet<u32>,
    /// The streams that wait for `each_parked`.
    pub parked: Vec<u32>,
    pub queues: HashMap<String, u32>,
    pub metrics: HashMap<String, u32>,
}

thread_local! {
    static NAME: OnceCell<String> = const { OnceCell::new() };
    static SHARED: RefCell<Shared> = RefCell::default();
}

pub fn shared<Result>(with: impl FnOnce(&mut Shared) -> Result) -> Result {
    SHARED.with_borrow_mut(with)
}

/// What no other VM has: the time at which this one first ran a callback, mixed with what WASI gives a hasher of chance. Time alone
/// is not enough: to a clock that tells µs, the VMs of two workers may start at the same one.
fn vm_name() -> String {
    let make = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(now());
        format!("{:016x}", hasher.finish())
    };
    NAME.with(|name| name.get_or_init(make).clone())
}

/// The proxy's clock, in nanoseconds.
pub fn now() -> u64 {
    let now = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    now.unwrap_or_default().as_nanos() as u64
}

/// What has been read of a buffer, over all callbacks.
#[derive(Clone, Copy, Default)]
pub struct Digest {
    pub total: u64,
    pub crc: u32,
}

/// The steps for what comes of a callout.
#[derive(Default)]
pub struct Pending {
    pub initial: Option<Steps>,
    pub then: Option<Steps>,
    pub trailing: Option<Steps>,
    pub closed: Option<Steps>,
}

/// What the callbacks of a context leave to its later ones.
pub struct State {
    pub id: u32,
    /// The plugin's configuration.
    pub plugin: Rc<Script>,
    /// The stream's own script.
    pub own: Option<Script>,
    pub runs: [u32; Callback::COUNT],
    pub digests: HashMap<u32, Digest>,
    pub pending: HashMap<u32, Pending>,
    /// The gRPC call or stream begun last.
    pub grpc: Option<u32>,
    /// The result of the last step that had one.
    pub last: Value,
    /// The number that came with what `shared_get` read last.
    pub cas: u32,
}

/// What a run of a callback leads to.
pub struct Outcome {
    pub pause: bool,
    pub answer: bool,
}

impl State {
    pub fn new(id: u32, plugin: Rc<Script>) -> Self {
        State {
            id,
            plugin,
            own: None,
            runs: [0; Callback::COUNT],
            digests: HashMap::new(),
            pending: HashMap::new(),
            grpc: None,
            last: Value::Null,
            cas: 0,
        }
    }

    /// Reports a callback's entry, and runs its steps.
    pub fn run(&mut self, callback: Callback, arguments: &[u64], end: bool) -> Outcome {
        self.run_then(callback, arguments, end, None)
    }

    /// As `run`, with more steps to come after the callback's own.
    pub fn run_then(&mut self, callback: Callback, arguments: &[u64], end: bool, then: Option<Steps>) -> Outcome {
        let own = self.own.as_ref();
        let silent = self.plugin.is_silent(callback) || own.is_some_and(|own| own.is_silent(callback));
        if !silent {
            report::send(&format!("{},\"a\":{}}}", self.prefix(callback), json!(arguments)));
        }
        self.runs[callback as usize] += 1;
        let steps = own.and_then(|own| own.steps(callback)).or_else(|| self.plugin.steps(callback));
        let mut run = Run::new(self, callback, end);
        for steps in [steps, then].into_iter().flatten() {
            run.steps(&steps);
        }
        Outcome { pause: run.pause, answer: run.answer }
    }

    /// The beginning of every report.
    pub fn prefix(&self, callback: Callback) -> String {
        let name = &self.plugin.quoted_name;
        let mut text = format!("{{\"vm\":\"{}\",\"p\":{name},\"c\":{}", vm_name(), self.id);
        if let Some(id) = self.own.as_ref().or(Some(&self.plugin)).and_then(|script| script.quoted_id.as_deref()) {
            text.push_str(",\"id\":");
            text.push_str(id);
        }
        text.push_str(",\"cb\":\"");
        text.push_str(callback.name());
        text.push('"');
        text
    }

    /// Reports that a script or a step cannot be understood.
    pub fn report_error(&self, callback: Callback, why: &str) {
        let why = report::ascii(&Value::from(why));
        report::send(&format!("{},\"op\":\"error\",\"r\":{why}}}", self.prefix(callback)));
    }
}
