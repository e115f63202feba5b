// SPDX-License-Identifier: Apache-2.0
//! Reading scripts: which steps run in which callback.

use serde_json::{Map, Value};

use crate::report;
use crate::steps::{self, Steps};

macro_rules! callbacks {
    ($($variant:ident $name:literal)*) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Callback { $($variant),* }

        const NAMES: &[&str] = &[$($name),*];

        impl Callback {
            pub const COUNT: usize = NAMES.len();

            pub fn name(self) -> &'static str {
                NAMES[self as usize]
            }
        }
    };
}

callbacks! {
    ContextCreate "context_create"
    VmStart "vm_start"
    Configure "configure"
    Tick "tick"
    QueueReady "queue_ready"
    NewConnection "new_connection"
    DownstreamData "downstream_data"
    UpstreamData "upstream_data"
    DownstreamClose "downstream_connection_close"
    UpstreamClose "upstream_connection_close"
    RequestHeaders "request_headers"
    RequestBody "request_body"
    RequestTrailers "request_trailers"
    ResponseHeaders "response_headers"
    ResponseBody "response_body"
    ResponseTrailers "response_trailers"
    HttpCallResponse "http_call_response"
    GrpcInitialMetadata "grpc_receive_initial_metadata"
    GrpcReceive "grpc_receive"
    GrpcTrailingMetadata "grpc_receive_trailing_metadata"
    GrpcClose "grpc_close"
    ForeignFunction "foreign_function"
    Done "done"
    Log "log"
    Delete "delete"
}

/// The streams that a plugin takes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Http,
    Tcp,
    Root,
}

/// A plugin's configuration, or the script of a stream.
pub struct Script {
    /// The plugin's name.
    pub name: String,
    /// The name, as it stands in reports.
    pub quoted_name: String,
    /// The id, as it stands in reports.
    pub quoted_id: Option<String>,
    pub kind: Kind,
    on: [Option<Steps>; Callback::COUNT],
    silent: [bool; Callback::COUNT],
}

impl Default for Script {
    fn default() -> Self {
        Script {
            name: String::new(),
            quoted_name: "\"\"".into(),
            quoted_id: None,
            kind: Kind::Http,
            on: [const { None }; Callback::COUNT],
            silent: [false; Callback::COUNT],
        }
    }
}

impl Script {
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut script = Script::default();
        if text.trim_ascii().is_empty() {
            return Ok(script);
        }
        let members: Map<String, Value> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        for (key, value) in members {
            match (key.as_str(), value) {
                ("id", value @ Value::String(_)) => script.quoted_id = Some(report::ascii(&value)),
                ("name", Value::String(name)) => {
                    script.quoted_name = report::ascii(&Value::from(name.as_str()));
                    script.name = name;
                }
                ("type", value) => {
                    script.kind = match value.as_str() {
                        Some("http") => Kind::Http,
                        Some("tcp") => Kind::Tcp,
                        Some("root") => Kind::Root,
                        _ => return Err(format!("type: {value} is no type")),
                    }
                }
                ("on", Value::Object(on)) => {
                    for (name, list) in on {
                        let steps = steps::parse(list).map_err(|why| format!("{name}: {why}"))?;
                        script.on[callback(&name)?] = Some(steps);
                    }
                }
                ("silent", Value::Array(names)) => {
                    for name in names {
                        script.silent[callback(name.as_str().unwrap_or_default())?] = true;
                    }
                }
                _ => return Err(format!("{key}: not known, or of the wrong type")),
            }
        }
        Ok(script)
    }

    pub fn steps(&self, callback: Callback) -> Option<Steps> {
        self.on[callback as usize].clone()
    }

    pub fn is_silent(&self, callback: Callback) -> bool {
        self.silent[callback as usize]
    }
}

fn callback(name: &str) -> Result<usize, String> {
    NAMES.iter().position(|known| *known == name).ok_or_else(|| format!("{name:?} is no callback"))
}
