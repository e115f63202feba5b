// SPDX-License-Identifier: Apache-2.0
//! The arguments of steps.

use std::vec::IntoIter;

use proxy_wasm::types::{BufferType, MapType, MetricType, StreamType};
use serde_json::{Map, Value};

use super::{Run, Steps};

/// The arguments of a step that have not been taken yet.
pub struct Args(IntoIter<Value>);

impl Args {
    pub fn new(step: Value) -> Result<Self, String> {
        match step {
            Value::Array(list) => Ok(Args(list.into_iter())),
            _ => Err(format!("{step} is no step")),
        }
    }

    pub fn finish(mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |value| Err(format!("{value} is one argument too many")))
    }

    fn next(&mut self) -> Result<Value, String> {
        self.0.next().ok_or_else(|| "an argument is missing".into())
    }

    /// The next argument, if there is one that is not null.
    fn next_given(&mut self) -> Option<Value> {
        self.0.next().filter(|value| !value.is_null())
    }

    pub fn text_as_is(&mut self) -> Result<String, String> {
        match self.next()? {
            Value::String(text) => Ok(text),
            value => Err(format!("{value} is no string")),
        }
    }

    pub fn text(&mut self) -> Result<Text, String> {
        Text::new(self.next()?)
    }

    /// A string, or null, or nothing.
    pub fn optional_text(&mut self) -> Result<Option<Text>, String> {
        self.next_given().map(Text::new).transpose()
    }

    pub fn number(&mut self) -> Result<Number, String> {
        Number::new(self.next()?)
    }

    /// A number, or null, or nothing.
    pub fn optional_number(&mut self) -> Result<Option<Number>, String> {
        self.next_given().map(Number::new).transpose()
    }

    pub fn bool(&mut self) -> Result<bool, String> {
        let value = self.next()?;
        value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
    }

    pub fn texts(&mut self) -> Result<Vec<Text>, String> {
        list(self.next()?)?.into_iter().map(Text::new).collect()
    }

    pub fn pairs(&mut self) -> Result<Pairs, String> {
        Pairs::new(self.next()?)
    }

    pub fn steps(&mut self) -> Result<Steps, String> {
        super::parse(self.next()?)
    }

    pub fn object(&mut self) -> Result<Object, String> {
        match self.next()? {
            Value::Object(members) => Ok(Object(members)),
            value => Err(format!("{value} is no object")),
        }
    }

    pub fn map(&mut self) -> Result<MapType, String> {
        Ok(match self.text_as_is()?.as_str() {
            "request_headers" => MapType::HttpRequestHeaders,
            "request_trailers" => MapType::HttpRequestTrailers,
            "response_headers" => MapType::HttpResponseHeaders,
            "response_trailers" => MapType::HttpResponseTrailers,
            "grpc_initial" => MapType::GrpcReceiveInitialMetadata,
            "grpc_trailing" => MapType::GrpcReceiveTrailingMetadata,
            "call_headers" => MapType::HttpCallResponseHeaders,
            "call_trailers" => MapType::HttpCallResponseTrailers,
            name => return Err(format!("{name:?} is no map")),
        })
    }

    pub fn buffer(&mut self) -> Result<BufferType, String> {
        Ok(match self.text_as_is()?.as_str() {
            "request_body" => BufferType::HttpRequestBody,
            "response_body" => BufferType::HttpResponseBody,
            "downstream" => BufferType::DownstreamData,
            "upstream" => BufferType::UpstreamData,
            "call_body" => BufferType::HttpCallResponseBody,
            "grpc_message" => BufferType::GrpcReceiveBuffer,
            "vm_config" => BufferType::VmConfiguration,
            "plugin_config" => BufferType::PluginConfiguration,
            "call_data" => BufferType::CallData,
            name => return Err(format!("{name:?} is no buffer")),
        })
    }

    pub fn stream(&mut self) -> Result<StreamType, String> {
        Ok(match self.text_as_is()?.as_str() {
            "request" => StreamType::HttpRequest,
            "response" => StreamType::HttpResponse,
            "downstream" => StreamType::Downstream,
            "upstream" => StreamType::Upstream,
            name => return Err(format!("{name:?} is no stream")),
        })
    }

    pub fn metric(&mut self) -> Result<MetricType, String> {
        Ok(match self.text_as_is()?.as_str() {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            name => return Err(format!("{name:?} is no type of metrics")),
        })
    }
}

fn list(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(format!("{value} is no list")),
    }
}

/// The members of an object that have not been taken yet.
pub struct Object(Map<String, Value>);

impl Object {
    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, key: &str) -> Result<Text, String> {
        Text::new(self.take(key).ok_or_else(|| format!("{key:?} is missing"))?)
    }

    pub fn optional_text(&mut self, key: &str) -> Result<Option<Text>, String> {
        self.take(key).map(Text::new).transpose()
    }

    pub fn number(&mut self, key: &str, default: i64) -> Result<Number, String> {
        self.take(key).map_or(Ok(Number::Known(default)), Number::new)
    }

    pub fn pairs(&mut self, key: &str) -> Result<Pairs, String> {
        self.take(key).map_or(Ok(Pairs(vec![])), Pairs::new)
    }

    pub fn steps(&mut self, key: &str) -> Result<Option<Steps>, String> {
        self.take(key).map(super::parse).transpose()
    }

    pub fn finish(self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |key| Err(format!("{key:?} is not known")))
    }
}

/// Bytes, in which `{c}`, `{n}`, `{last}` and `{cas}` stand for something.
pub struct Text {
    bytes: Vec<u8>,
    fixed: bool,
}

impl Text {
    fn new(value: Value) -> Result<Self, String> {
        let Value::String(text) = value else {
            return Err(format!("{value} is no string"));
        };
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        let bytes = bytes.map_err(|_| format!("{text:?} has characters beyond U+00FF"))?;
        let fixed = !bytes.contains(&b'{');
        Ok(Text { bytes, fixed })
    }

    pub fn bytes(&self, run: &Run) -> Vec<u8> {
        if self.fixed {
            return self.bytes.clone();
        }
        let mut expanded = Vec::new();
        let mut rest = self.bytes.as_slice();
        while let Some((&first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(b"{c}") {
                expanded.extend(run.state.id.to_string().bytes());
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"{n}") {
                expanded.extend(run.state.runs[run.callback as usize].to_string().bytes());
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"{cas}") {
                expanded.extend(run.state.cas.to_string().bytes());
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"{last}") {
                match &run.state.last {
                    Value::String(text) => expanded.extend(text.chars().map(|character| character as u8)),
                    value => expanded.extend(crate::report::ascii(value).bytes()),
                }
                rest = after;
            } else {
                expanded.push(first);
                rest = after;
            }
        }
        expanded
    }

    /// As the SDK wants names, and some values.
    pub fn str(&self, run: &Run) -> Result<String, String> {
        String::from_utf8(self.bytes(run)).map_err(|_| "the SDK takes only UTF-8 here".into())
    }
}

/// A number, or a text that comes to one.
pub enum Number {
    Known(i64),
    Text(Text),
}

impl Number {
    fn new(value: Value) -> Result<Self, String> {
        if value.is_string() {
            return Text::new(value).map(Number::Text);
        }
        value.as_i64().map(Number::Known).ok_or_else(|| format!("{value} is no number"))
    }

    pub fn i64(&self, run: &Run) -> Result<i64, String> {
        match self {
            Number::Known(number) => Ok(*number),
            Number::Text(text) => {
                let text = text.str(run)?;
                text.parse().map_err(|_| format!("{text:?} is no number"))
            }
        }
    }

    /// -1 is the greatest.
    pub fn u32(&self, run: &Run) -> Result<u32, String> {
        match self.i64(run)? {
            -1 => Ok(u32::MAX),
            number => u32::try_from(number).map_err(|_| format!("{number} is not in 32 bits")),
        }
    }

    pub fn usize(&self, run: &Run) -> Result<usize, String> {
        self.u32(run).map(|number| number as usize)
    }
}

pub struct Pairs(Vec<(Text, Text)>);

impl Pairs {
    fn new(value: Value) -> Result<Self, String> {
        let pair = |pair| match <[Value; 2]>::try_from(list(pair)?) {
            Ok([name, value]) => Ok((Text::new(name)?, Text::new(value)?)),
            Err(_) => Err("not a pair".to_string()),
        };
        list(value)?.into_iter().map(pair).collect::<Result<_, _>>().map(Pairs)
    }

    pub fn bytes(&self, run: &Run) -> Result<Vec<(String, Vec<u8>)>, String> {
        self.0.iter().map(|(name, value)| Ok((name.str(run)?, value.bytes(run)))).collect()
    }

    pub fn strs(&self, run: &Run) -> Result<Vec<(String, String)>, String> {
        self.0.iter().map(|(name, value)| Ok((name.str(run)?, value.str(run)?))).collect()
    }
}

/// Pairs as the SDK takes them.
pub fn borrowed<Value: AsRef<Borrowed>, Borrowed: ?Sized>(pairs: &[(String, Value)]) -> Vec<(&str, &Borrowed)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect()
}
