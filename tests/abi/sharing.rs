// SPDX-License-Identifier: Apache-2.0
//! Which plugins share a VM, and which share a root context.

use crate::support::Setup;
use crate::trace::*;
use proxywasm::*;

fn config(change: impl FnOnce(&mut PluginConfig)) -> PluginConfig {
    let mut config = PluginConfig::new("plugin");
    change(&mut config);
    config
}

/// Number of VMs and of root contexts that two plugins of one module make.
fn made(one: impl FnOnce(&mut PluginConfig), two: impl FnOnce(&mut PluginConfig)) -> (u64, usize) {
    let wasm = Guest::new().log("vm_start").build();
    let setup = Setup::chain(&[(&wasm, config(one)), (&wasm, config(two))]);
    (setup.worker.stats().vms, setup.mock.take_log().len())
}

#[test]
fn equal_plugins_share_vm_and_root() {
    assert_eq!(made(|_| {}, |_| {}), (1, 1));
}

#[test]
fn another_name_root_id_or_configuration_makes_a_root_of_its_own_in_the_same_vm() {
    assert_eq!(made(|_| {}, |config| config.name = "other".into()), (1, 2));
    assert_eq!(made(|_| {}, |config| config.root_id = "other".into()), (1, 2));
    assert_eq!(made(|_| {}, |config| config.configuration = b"other".to_vec()), (1, 2));
}

#[test]
fn another_vm_id_or_vm_configuration_makes_another_vm() {
    assert_eq!(made(|_| {}, |config| config.vm_id = "other".into()), (2, 2));
    assert_eq!(made(|_| {}, |config| config.vm_configuration = b"other".to_vec()), (2, 2));
}

#[test]
fn other_code_makes_another_vm() {
    let modules = [Guest::new().log("vm_start").build(), Guest::new().log("vm_start").log("tick").build()];
    let setup = Setup::chain(&[(&modules[0], config(|_| {})), (&modules[1], config(|_| {}))]);
    assert_eq!(setup.worker.stats().vms, 2);
}

#[test]
fn another_environment_capability_or_memory_limit_makes_another_vm() {
    assert_eq!(made(|_| {}, |config| config.environment = vec![("A".into(), "1".into())]), (2, 2));
    let all = ["proxy_log", "proxy_on_vm_start", "proxy_on_context_create"];
    let allow = |config: &mut PluginConfig| all.iter().for_each(|name| config.capabilities.allow(name));
    assert_eq!(made(allow, |_| {}), (2, 2));
    assert_eq!(made(|_| {}, |config| config.limits.max_memory += 1), (2, 2));
}

#[test]
fn an_environment_is_not_taken_for_capabilities() {
    // The same words in the same order, once as a variable and once as what is allowed.
    let variable = |config: &mut PluginConfig| {
        config.environment = vec![("proxy_log".into(), "proxy_on_vm_start".into())];
    };
    let allowed = |config: &mut PluginConfig| {
        ["proxy_log", "proxy_on_vm_start"].iter().for_each(|name| config.capabilities.allow(name));
    };
    assert_eq!(made(variable, allowed), (2, 2));
}

#[test]
fn parts_of_the_key_do_not_run_into_each_other() {
    let split = |vm_id: &'static str, configuration: &'static str| {
        move |config: &mut PluginConfig| {
            config.vm_id = vm_id.into();
            config.vm_configuration = configuration.into();
        }
    };
    assert_eq!(made(split("ab", "c"), split("a", "bc")), (2, 2));
    let split = |root_id: &'static str, configuration: &'static str| {
        move |config: &mut PluginConfig| {
            config.root_id = root_id.into();
            config.configuration = configuration.into();
        }
    };
    assert_eq!(made(split("ab", "c"), split("a", "bc")), (1, 2));
}

#[test]
fn limits_of_time_and_policies_do_not_part_plugins() {
    let other = |config: &mut PluginConfig| {
        config.name = "other".into();
        config.limits.deadline_ns = 5;
        config.failure_policy = FailurePolicy::Open;
    };
    assert_eq!(made(|_| {}, other), (1, 2));
}

#[test]
fn the_same_bytes_compiled_twice_are_the_same_code() {
    // Setup compiles the module for each plugin.
    assert_eq!(made(|_| {}, |config| config.name = "other".into()).0, 1);
}

#[test]
fn what_one_plugin_of_a_shared_vm_does_to_its_memory_the_other_sees() {
    let wasm = Guest::new()
        .quiet(
            "request_headers",
            "(call $status (i32.load (i32.const 2048))) (i32.store (i32.const 2048) (i32.const 7)) (i32.const 0)",
        )
        .build();
    let seen = |second: PluginConfig| {
        let setup = Setup::chain(&[(&wasm, config(|_| {})), (&wasm, second)]);
        setup.request_log()
    };
    assert_eq!(seen(config(|config| config.name = "other".into())), ["status=0", "status=7"]);
    assert_eq!(seen(config(|config| config.vm_id = "other".into())), ["status=0", "status=0"]);
}

#[test]
fn workers_share_no_vm() {
    let wasm = Guest::new().log("vm_start").build();
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let mock = crate::support::Mock::default();
    let one = Setup::on_engine(&engine, &mock, &[(&wasm, config(|_| {}))]).unwrap();
    let two = Setup::on_engine(&engine, &mock, &[(&wasm, config(|_| {}))]).unwrap();
    assert_eq!((one.worker.stats().vms, two.worker.stats().vms), (1, 1));
    assert_eq!(mock.take_log().len(), 2);
}
