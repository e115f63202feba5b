// SPDX-License-Identifier: Apache-2.0
//! Steps: read once into closures, and run in callbacks.

mod args;
mod bodies;
mod callouts;
mod flow;
mod headers;
mod sharing;
mod system;

use std::rc::Rc;

use serde_json::Value;

use crate::report;
use crate::script::Callback;
use crate::state::State;
use args::Args;

/// What a step does. Its value, if any, is reported; so is its error.
type Act = Box<dyn Fn(&mut Run) -> Result<Option<Value>, String>>;

pub struct Step {
    op: String,
    act: Act,
}

pub type Steps = Rc<[Step]>;

/// Reads a list of steps.
pub fn parse(list: Value) -> Result<Steps, String> {
    let Value::Array(list) = list else {
        return Err("not a list of steps".into());
    };
    list.into_iter().map(parse_step).collect()
}

fn parse_step(step: Value) -> Result<Step, String> {
    let mut args = Args::new(step)?;
    let op = args.text_as_is()?;
    let subjects = [headers::parse, bodies::parse, flow::parse, callouts::parse, sharing::parse, system::parse];
    for subject in subjects {
        let act = subject(&op, &mut args).map_err(|why| format!("{op}: {why}"))?;
        if let Some(act) = act {
            args.finish().map_err(|why| format!("{op}: {why}"))?;
            return Ok(Step { op, act });
        }
    }
    Err(format!("{op:?} is no operation"))
}

/// A step that has a result.
fn asks(act: impl Fn(&mut Run) -> Result<Value, String> + 'static) -> Result<Option<Act>, String> {
    Ok(Some(Box::new(move |run| act(run).map(Some))))
}

/// A step that has none.
fn does(act: impl Fn(&mut Run) -> Result<(), String> + 'static) -> Result<Option<Act>, String> {
    Ok(Some(Box::new(move |run| act(run).map(|()| None))))
}

/// A step that may have a result.
fn may_ask(act: impl Fn(&mut Run) -> Result<Option<Value>, String> + 'static) -> Result<Option<Act>, String> {
    Ok(Some(Box::new(act)))
}

/// One run of a callback.
pub struct Run<'a> {
    pub state: &'a mut State,
    pub callback: Callback,
    /// Whether it is the end of the stream.
    pub end: bool,
    pub pause: bool,
    pub answer: bool,
    quiet: bool,
    /// The stream that `each_parked` runs steps for.
    effective: Option<u32>,
}

impl<'a> Run<'a> {
    pub fn new(state: &'a mut State, callback: Callback, end: bool) -> Self {
        Run { state, callback, end, pause: false, answer: true, quiet: false, effective: None }
    }

    pub fn steps(&mut self, steps: &Steps) {
        for step in steps.iter() {
            match (step.act)(self) {
                Ok(Some(value)) => {
                    if !self.quiet {
                        self.report(&step.op, &value);
                    }
                    self.state.last = value;
                }
                Ok(None) => {}
                Err(why) => self.report("error", &Value::from(format!("{}: {why}", step.op))),
            }
        }
    }

    fn report(&self, op: &str, value: &Value) {
        let mut text = self.state.prefix(self.callback);
        if let Some(effective) = self.effective {
            text.push_str(&format!(",\"e\":{effective}"));
        }
        report::send(&format!("{text},\"op\":\"{op}\",\"r\":{}}}", report::ascii(value)));
    }
}
