// SPDX-License-Identifier: Apache-2.0
//! Steps on headers, trailers and metadata, and on properties.

use proxy_wasm::hostcalls;

use super::args::{borrowed, Args, Text};
use super::{asks, does, Act, Run};
use crate::report;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "get" => {
            let (map, name) = (args.map()?, args.text()?);
            asks(move |run| Ok(report::optional(hostcalls::get_map_value_bytes(map, &name.str(run)?).unwrap())))
        }
        "map" => {
            let map = args.map()?;
            asks(move |_| {
                let pairs = hostcalls::get_map_bytes(map).unwrap();
                Ok(report::pairs(pairs.into_iter().filter(|(name, _)| !is_of_script(name))))
            })
        }
        "add" => {
            let (map, name, value) = (args.map()?, args.text()?, args.text()?);
            does(move |run| {
                hostcalls::add_map_value_bytes(map, &name.str(run)?, &value.bytes(run)).unwrap();
                Ok(())
            })
        }
        "set" => {
            let (map, name, value) = (args.map()?, args.text()?, args.text()?);
            does(move |run| {
                hostcalls::set_map_value_bytes(map, &name.str(run)?, Some(&value.bytes(run))).unwrap();
                Ok(())
            })
        }
        "remove" => {
            let (map, name) = (args.map()?, args.text()?);
            does(move |run| {
                hostcalls::remove_map_value(map, &name.str(run)?).unwrap();
                Ok(())
            })
        }
        "set_map" => {
            let (map, pairs) = (args.map()?, args.pairs()?);
            does(move |run| {
                hostcalls::set_map_bytes(map, borrowed(&pairs.bytes(run)?)).unwrap();
                Ok(())
            })
        }
        "property" => {
            let path = args.texts()?;
            asks(move |run| {
                let path = segments(&path, run)?;
                Ok(match hostcalls::get_property(path.iter().map(String::as_str).collect()) {
                    Ok(value) => report::optional(value),
                    Err(status) => report::error(status),
                })
            })
        }
        "set_property" => {
            let (path, value) = (args.texts()?, args.optional_text()?);
            does(move |run| {
                let path = segments(&path, run)?;
                let value = value.as_ref().map(|value| value.bytes(run));
                hostcalls::set_property(path.iter().map(String::as_str).collect(), value.as_deref()).unwrap();
                Ok(())
            })
        }
        _ => Ok(None),
    }
}

fn is_of_script(name: &str) -> bool {
    name == "x-probe" || name.starts_with("x-probe-")
}

fn segments(path: &[Text], run: &Run) -> Result<Vec<String>, String> {
    path.iter().map(|segment| segment.str(run)).collect()
}
